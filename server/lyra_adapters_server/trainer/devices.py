"""Where and in which precision a base model runs."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from pathlib import Path

import torch

from lyra_adapters_server.trainer.errors import TrainerError

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Picks the device: CUDA, else MPS, else CPU under `auto`.

    Raises:
        TrainerError: DEVICE_UNAVAILABLE, if the device named is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainerError("DEVICE_UNAVAILABLE", f"device `{name}` can't be used: {error}") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Picks the precision of the frozen base: under `auto`, bfloat16 where the hardware multiplies it fast.

    Raises:
        TrainerError: DTYPE_UNKNOWN.
    """
    if name != "auto":
        if name not in DTYPES:
            raise TrainerError("DTYPE_UNKNOWN", f"dtype `{name}` is none of auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and cpu_multiplies_bfloat16() else torch.float32


@functools.cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it; without, it is emulated, several times slower than float32."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    words = set(text.split())
    wanted = {"bf16"} if platform.machine() in ("aarch64", "arm64") else {"avx512_bf16", "amx_bf16"}
    return bool(words & wanted)


def use_threads(count: int) -> int:
    """Sets torch's CPU threads; 0 takes every core this process may run on. Returns the number set."""
    if count <= 0:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(count)
    return count


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks: a step frees and takes the same sizes, and page faults cost time."""
    if platform.system() != "Linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
