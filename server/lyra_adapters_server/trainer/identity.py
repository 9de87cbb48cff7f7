"""Which weights a model directory holds: a digest that is computed once per file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from safetensors import safe_open

from lyra_adapters_server.trainer.errors import TrainerError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


def weight_files(directory: Path) -> list[Path]:
    """Lists the weight files that transformers loads from a directory, in the order of their names.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED, if there are no safetensors files (pickles are never loaded).
    """
    index = directory / _INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = [_SINGLE]
    files = [directory / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise TrainerError("BASE_MODEL_LOAD_FAILED", f"{directory} has no {', '.join(missing)}")
    return files


def weight_names(directory: Path) -> set[str]:
    """Lists the names of the tensors in a directory's weight files.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED.
    """
    found: set[str] = set()
    for file in weight_files(directory):
        with safe_open(file, framework="numpy") as weights:
            found.update(weights.keys())
    return found


def weights_digest(directory: Path, cache_dir: Path) -> str:
    """SHA-256, in hex, over the SHA-256 digests of the weight files in the order of their names.

    Args:
        directory: A model directory.
        cache_dir: Keeps each file's digest by path, size and time of change, since hashing gigabytes takes a while.

    Raises:
        TrainerError: BASE_MODEL_LOAD_FAILED.
    """
    store = cache_dir / "digests.json"
    known = _read(store)
    total = hashlib.sha256()
    changed = False
    for file in weight_files(directory):
        path = file.resolve()
        stat = path.stat()
        key = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in known:
            with path.open("rb") as stream:
                known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
            changed = True
        total.update(bytes.fromhex(known[key]))
    if changed:
        _write(store, known)
    return total.hexdigest()


def _read(store: Path) -> dict[str, str]:
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in known.items()} if isinstance(known, dict) else {}


def _write(store: Path, known: dict[str, str]) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    # A rename, so that a process that reads at the same time sees one whole file or the other.
    handle, name = tempfile.mkstemp(prefix=f".{store.name}-", dir=store.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(known, stream, indent=1, sort_keys=True)
    Path(name).replace(store)
