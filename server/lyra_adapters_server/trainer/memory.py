"""How much memory is left for weights, and giving freed memory back."""

from __future__ import annotations

import ctypes
import gc
import platform
from pathlib import Path

import psutil
import torch

_GROUP = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int:
    """Memory that weights on a device may still take: the GPU's, or the host's within this process's limits."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(int(psutil.virtual_memory().available), _left_in_group())


def give_back(device: torch.device) -> None:
    """Returns freed memory to the system, which allocators otherwise keep for their next use."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if platform.system() == "Linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _left_in_group() -> int:
    # A container's limit, where there is one; the file cache counts as used there, but gives way.
    try:
        limit = int((_GROUP / "memory.max").read_text())
        used = int((_GROUP / "memory.current").read_text())
        counters = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(counters.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 1 << 62
