"""The compiled kernels as functions of tensors, and where they are in use."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from lyra_adapters_server.trainer.kernels import build

LOG = logging.getLogger(__name__)

_LANES = 16
_library: ctypes.CDLL | None = None
# Why there are none; None: nobody has asked for them yet.
_missing: str | None = None
_in_use = True


def load(cache_dir: Path) -> str:
    """Makes the kernels ready, if they can be had here; gives why not, or nothing. Only the first call tries."""
    global _library, _missing
    if _missing is None:
        try:
            _library, _missing = build.load(cache_dir), ""
            LOG.info("compiled kernels in use")
        except build.KernelsUnavailable as error:
            _missing = str(error)
            LOG.info("no compiled kernels, so training is slower: %s", error)
    return _missing


def loaded() -> bool:
    """Whether they are ready."""
    return _library is not None


@contextmanager
def using(wanted: bool) -> Iterator[None]:
    """Puts them to use, or leaves them aside, meanwhile."""
    global _in_use
    before, _in_use = _in_use, wanted
    try:
        yield
    finally:
        _in_use = before


def fit(*widths: int) -> bool:
    """Whether they are in use and take rows of these widths."""
    return _in_use and _library is not None and all(width % _LANES == 0 for width in widths)


def takes(*tensors: torch.Tensor) -> bool:
    """Whether they are in use and take these: bfloat16 on CPU, contiguous, a multiple of 16 wide."""
    return fit() and all(
        x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.is_contiguous() and x.shape[-1] % _LANES == 0
        for x in tensors
    )


def takes_stream(x: torch.Tensor) -> bool:
    """As `takes`, for what norms read: it may be float32 too."""
    return takes(x) or (x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous() and fit(x.shape[-1]))


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives x / rms(x) * weight in bfloat16, and 1 / rms(x).

    Args:
        x: (..., width), float32 or bfloat16, contiguous.
        weight: (width), float32.
        eps: Added to the mean square.
    """
    y, inverse = torch.empty(x.shape, dtype=torch.bfloat16), torch.empty(x.shape[:-1])
    _call("rms_forward", x, _wide(x), weight, eps, y, inverse, *_rows(x))
    return y, inverse


def rms_norm_backward(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """The gradient of `x`, in its precision."""
    into = torch.empty_like(x)
    _call("rms_backward", grad, x, _wide(x), weight, inverse, into, *_rows(x))
    return into


def silu_gate(both: torch.Tensor) -> torch.Tensor:
    """Maps (..., 2 x width), gate and up, to silu(gate) * up."""
    y = both.new_empty(*both.shape[:-1], both.shape[-1] // 2)
    _call("silu_forward", both, y, *_rows(y))
    return y


def silu_gate_backward(grad: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """The gradient of `both`."""
    into = torch.empty_like(both)
    _call("silu_backward", grad, both, into, *_rows(grad))
    return into


def gelu(x: torch.Tensor) -> torch.Tensor:
    """The exact one, by the normal distribution."""
    y = torch.empty_like(x)
    _call("gelu_forward", x, y, x.numel())
    return y


def gelu_backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The gradient of `x`."""
    into = torch.empty_like(x)
    _call("gelu_backward", grad, x, into, x.numel())
    return into


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, back: bool) -> torch.Tensor:
    """Rotary positions, or the transposed map.

    Args:
        x: (1, heads, tokens, width), a view of contiguous (tokens, heads, width) or of a part of each token.
        cos: (1, 1, tokens, width), contiguous.
        sin: As `cos`.
        back: Which.

    Returns:
        (1, heads, tokens, width), of contiguous (tokens, heads, width).
    """
    _, heads, tokens, width = x.shape
    y = x.new_empty(1, tokens, heads, width)
    _call("rotate", x, x.stride(2), cos, sin, y, tokens, heads, width, ctypes.c_int(back))
    return y.transpose(1, 2)


def drop(x: torch.Tensor, random: torch.Tensor, threshold: int) -> torch.Tensor:
    """`x`, with zeros where the byte of `random` is below the threshold; `random` becomes the mask, of 0 and 1."""
    y = torch.empty_like(x)
    _call("drop", x, random, ctypes.c_int(threshold), y, x.numel())
    return y


def add_kept(into: torch.Tensor, x: torch.Tensor, mask: torch.Tensor) -> None:
    """Adds `x` where `drop` has kept."""
    _call("add_kept", into, x, mask, x.numel())


class Layout(NamedTuple):
    """Where rows lie, for `attention`.

    Attributes:
        starts: (sequences + 1), int64, of each sequence's own tokens and the end of the last.
        shared: Tokens that all rows begin with: the first sequence; 0: there are none.
    """

    starts: torch.Tensor
    shared: int

    @property
    def sequences(self) -> int:
        """How many, the shared one among them."""
        return len(self.starts) - 1


def heads_lie_well(*tensors: torch.Tensor) -> bool:
    """Whether each (1, heads, tokens, width) is bfloat16 on CPU, of (tokens, heads, width) with no gap in a token."""
    return fit() and all(
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and x.shape[-1] % _LANES == 0
        and x.stride(3) == 1
        and (x.shape[1] == 1 or x.stride(1) == x.shape[3])
        and x.stride(2) % 2 == 0
        and x.data_ptr() % 4 == 0
        for x in tensors
    )


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, scale: float, *, causal: bool
) -> torch.Tensor:
    """Attention of rows end to end; see attention.cpp.

    Args:
        q: (1, heads, tokens, width), of which `heads_lie_well` is true.
        k: (1, key_heads, tokens, width), as `q`.
        v: As `k`.
        layout: Of the rows.
        scale: Of the scores.
        causal: Whether a token looks at none that follows.

    Returns:
        (1, tokens, heads, width).
    """
    out = q.new_empty(1, q.shape[2], q.shape[1], q.shape[3])
    _call("attention_forward", *_heads(q, k, v), out, *_shape(q, k, layout, scale, causal))
    return out


def attention_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: Layout,
    scale: float,
    *,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of `q`, `k` and `v` from that of the result, (1, tokens, heads, width), contiguous."""
    found = [x.new_empty(1, x.shape[2], x.shape[1], x.shape[3]) for x in (q, k, v)]
    shared = torch.empty(layout.sequences * k.shape[1] * 2 * layout.shared * k.shape[3])
    _call("attention_backward", *_heads(q, k, v), grad, *found, shared, *_shape(q, k, layout, scale, causal))
    return found[0].transpose(1, 2), found[1].transpose(1, 2), found[2].transpose(1, 2)


def _heads(*tensors: torch.Tensor) -> list[torch.Tensor | int]:
    return [part for x in tensors for part in (x, x.stride(2))]


def _shape(q: torch.Tensor, k: torch.Tensor, layout: Layout, scale: float, causal: bool) -> list[object]:
    sizes = [layout.sequences, layout.shared, q.shape[2], q.shape[1], k.shape[1], q.shape[3]]
    return [layout.starts, *sizes, ctypes.c_int(causal), scale]


def _wide(x: torch.Tensor) -> ctypes.c_int:
    return ctypes.c_int(x.dtype == torch.float32)


def _rows(x: torch.Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[-1], x.shape[-1]


def _call(name: str, *arguments: object) -> None:
    # Tensors become addresses, numbers what C++ calls long and float; the thread count comes last.
    assert _library is not None
    given = [_c(one) for one in arguments]
    getattr(_library, f"lyra_{name}")(*given, ctypes.c_int(torch.get_num_threads()))


def _c(one: object) -> object:
    if isinstance(one, torch.Tensor):
        return ctypes.c_void_p(one.data_ptr())
    if isinstance(one, float):
        return ctypes.c_float(one)
    return ctypes.c_long(one) if isinstance(one, int) else one
