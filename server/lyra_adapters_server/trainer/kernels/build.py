"""Compiles the kernels of this folder, once a machine, and loads them.

The compiler is the machine's own g++; where there is none, or the processor lacks the instructions, torch's own
functions do the same work, slower. What was compiled lies in the cache folder under a digest of all that decides it.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

LOG = logging.getLogger(__name__)

_SOURCES = ("elementwise.cpp", "attention.cpp")
_HEADERS = ("vectors.h",)
# Not -march=native: what was compiled on one machine of a cluster has to run on all that have the instructions.
_INSTRUCTIONS = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16", "fma")
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-ffp-contract=off", "-w")
_TIMEOUT_S = 120


class KernelsUnavailable(Exception):
    """Why there are no compiled kernels here, in words."""


def load(cache_dir: Path) -> ctypes.CDLL:
    """Gives the compiled kernels, compiling them first where nobody has.

    Args:
        cache_dir: They are kept in its folder `kernels`, which is for this user alone.

    Raises:
        KernelsUnavailable: If they can't be had here.
    """
    _require_instructions()
    _share_openmp()
    path = _compiled(cache_dir / "kernels")
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KernelsUnavailable(f"what was compiled can't be loaded: {error}") from error


def _require_instructions() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise KernelsUnavailable("they are written for x86-64 on Linux")
    found = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    missing = [name for name in _INSTRUCTIONS if name not in found]
    if missing:
        raise KernelsUnavailable(f"the processor has no {', '.join(missing)}")
    if "amx_bf16" in found:
        raise KernelsUnavailable("the processor has AMX, which torch's products use and these do not")


def _share_openmp() -> None:
    # Two OpenMP libraries in a process would each keep threads that spin on the other's cores. The kernels are linked
    # with none, and find their functions in the one that torch has loaded.
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"(/\S*lib(?:g|i)omp\d*[^/\s]*\.so\S*)$", maps, flags=re.MULTILINE)
    if found is None:
        raise KernelsUnavailable("torch has loaded no OpenMP library of GCC's kind")
    ctypes.CDLL(found[1], mode=os.RTLD_NOW | os.RTLD_GLOBAL)


def _compiled(folder: Path) -> Path:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise KernelsUnavailable("there is no g++ to compile them with")
    here = Path(__file__).parent
    flags = (*_FLAGS, *(f"-m{name.replace('_', '')}" for name in _INSTRUCTIONS))
    content = hashlib.sha256(" ".join((_version(compiler), *flags)).encode())
    for name in (*_SOURCES, *_HEADERS):
        content.update((here / name).read_bytes())
    path = folder / f"kernels-{content.hexdigest()[:16]}.so"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.stat()
        if about.st_uid != os.geteuid() or about.st_mode & 0o022:
            # What lies there is run.
            raise KernelsUnavailable(f"{folder} belongs to another user, or others may write there")
        _compile(compiler, flags, path)
    except OSError as error:
        raise KernelsUnavailable(f"{folder} can't be written: {error.strerror}") from error
    return path


def _compile(compiler: str, flags: tuple[str, ...], path: Path) -> None:
    here = Path(__file__).parent
    if not _is_whole(path):
        with tempfile.TemporaryDirectory(dir=path.parent) as name:
            objects = [Path(name) / f"{source}.o" for source in _SOURCES]
            for source, to in zip(_SOURCES, objects, strict=True):
                _run(compiler, *flags, "-c", str(here / source), "-o", str(to))
            _run(compiler, "-shared", *map(str, objects), "-o", f"{name}/linked.so")
            linked = Path(name) / "linked.so"
            content = linked.read_bytes()
            linked.write_bytes(content + hashlib.sha256(content).digest())
            linked.chmod(0o600)
            # Two workers may do this at once; either file is whole, and the same.
            linked.replace(path)
        LOG.info("compiled kernels kept in %s", path)


def _is_whole(path: Path) -> bool:
    # A process that loads a part of a library, such as a power cut may leave, is killed. Behind one's end may be more.
    if not path.exists():
        return False
    content = path.read_bytes()
    return content[-32:] == hashlib.sha256(content[:-32]).digest()


def _version(compiler: str) -> str:
    return _run(compiler, "--version")


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailable(f"{command[0]} could not be run: {error}") from error
    if done.returncode:
        raise KernelsUnavailable(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout
