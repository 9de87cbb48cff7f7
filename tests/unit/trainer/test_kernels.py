"""The compiled kernels give what plain arithmetic in float32 gives, but for the rounding of their results."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lyra_adapters_server.trainer.fused import Dropout, FusedLora
from lyra_adapters_server.trainer.gelu import Gelu
from lyra_adapters_server.trainer.kernels import build, ops
from lyra_adapters_server.trainer.norms import RmsNorm
from lyra_adapters_server.trainer.rotary import Rotate

# Results are rounded to 8 bits; sums of them, as gradients are, to a little less of the largest.
CLOSE = 2**-7


@pytest.fixture(autouse=True)
def _kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    missing = ops.load(tmp_path_factory.getbasetemp() / "compiled")
    if missing:
        pytest.skip(f"no compiled kernels here: {missing}")


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    error = (found.detach().float() - wanted.detach().float()).abs().max()
    assert error <= CLOSE * wanted.detach().abs().max()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


# Lengths of rows, tokens that they share, heads, heads of keys, width of a head, causal.
SHAPES = [
    ([20, 100, 37, 1, 7, 64, 110, 3], 16, 9, 3, 64, True),
    ([5, 30, 18], 0, 4, 4, 32, False),
    ([33, 50], 0, 6, 2, 128, True),
    ([17, 2, 5], 3, 2, 1, 16, True),
    ([70, 71, 90], 0, 12, 12, 32, False),
    ([9], 0, 3, 1, 48, True),
    ([1], 0, 1, 1, 16, False),
    ([600, 1], 1, 2, 2, 256, True),
]


class Rows:
    """Some rows end to end, with filler behind them."""

    def __init__(self, lengths: list[int], shared: int, heads: int, key_heads: int, width: int, causal: bool) -> None:
        places = [0, *([shared] if shared else [])]
        for length in lengths:
            places.append(places[-1] + length)
        self.end, self.causal, self.scale = places[-1], causal, width**-0.5
        self.layout = ops.Layout(torch.tensor(places), shared)
        tokens = -(-self.end // 32) * 32
        # Values stand beside something else in each token, as in one product of several.
        flat = [drawn(tokens, heads * width), drawn(tokens, key_heads * width, seed=1)]
        flat.append(drawn(tokens, 2 * key_heads * width, seed=2)[:, : key_heads * width])
        self.q, self.k, self.v = (x.unflatten(1, (-1, width)).transpose(0, 1)[None] for x in flat)
        self.grad = drawn(1, tokens, heads, width, seed=3)
        row = torch.zeros(tokens, dtype=torch.int64)
        for number, (start, stop) in enumerate(itertools.pairwise(places)):
            row[start:stop] = number + 1
        seen = (row[:, None] == row) | ((torch.arange(tokens) < shared) & (row[:, None] > 1))
        self.seen = seen.tril() if causal else seen

    def compiled(self) -> list[torch.Tensor]:
        """The result, and the gradients of q, k and v."""
        assert ops.heads_lie_well(self.q, self.k, self.v)
        out = ops.attention(self.q, self.k, self.v, self.layout, self.scale, causal=self.causal)
        found = ops.attention_backward(self.grad, self.q, self.k, self.v, self.layout, self.scale, causal=self.causal)
        return [out, *found]

    def plain(self) -> list[torch.Tensor]:
        """The same in float32, by autograd."""
        q, k, v = (x.float().clone().requires_grad_() for x in (self.q, self.k, self.v))
        heads = q.shape[1] // k.shape[1]
        scores = (q @ k.repeat_interleave(heads, 1).transpose(2, 3)) * self.scale
        weights = scores.masked_fill(~self.seen, -1e30).softmax(dim=-1)
        out = (weights @ v.repeat_interleave(heads, 1)).transpose(1, 2)
        (out[:, : self.end] * self.grad[:, : self.end].float()).sum().backward()
        assert q.grad is not None
        assert k.grad is not None
        assert v.grad is not None
        return [out, q.grad, k.grad, v.grad]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(shape: Any) -> None:
    rows = Rows(*shape)
    found, wanted = rows.compiled(), rows.plain()
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        tokens = 1 if number == 0 else 2
        assert_near(one.narrow(tokens, 0, rows.end), other.narrow(tokens, 0, rows.end))
        # Nobody reads the filler, but products do.
        assert not one.narrow(tokens, rows.end, one.shape[tokens] - rows.end).any()


def test_attention_is_the_same_on_any_number_of_threads() -> None:
    rows = Rows(*SHAPES[0])
    alone = rows.compiled()
    for count in (2, 3, 8):
        with threads(count):
            assert all(torch.equal(one, other) for one, other in zip(rows.compiled(), alone, strict=True))


def test_attention_hides_no_number_that_is_none() -> None:
    rows = Rows([4, 6], 0, 2, 1, 16, causal=True)
    rows.k[0, 0, 1] = float("nan")
    out = rows.compiled()[0]
    # The second token's key: its own row from there on, and not the other row.
    assert out[0, 1:4].isnan().all()
    assert not out[0, [0, *range(4, 10)]].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms(dtype: torch.dtype) -> None:
    x, grad, weight = drawn(50, 576).to(dtype), drawn(50, 576, seed=1), drawn(576, seed=2).float()
    found = against(lambda x: RmsNorm.apply(x, weight, 1e-5, torch.bfloat16), x, grad)
    wanted = against(lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight, x.float(), grad)
    assert found[0].dtype == torch.bfloat16
    assert found[1].dtype == dtype
    for one, other in zip(found, wanted, strict=True):
        assert_near(one, other)


def test_gates() -> None:
    both, grad = drawn(50, 192) * 4, drawn(50, 96, seed=1)
    y, into = ops.silu_gate(both), ops.silu_gate_backward(grad, both)
    wanted = against(lambda x: F.silu(x[:, :96]) * x[:, 96:], both.float(), grad)
    assert_near(y, wanted[0])
    assert_near(into, wanted[1])


def test_gelu() -> None:
    # Far out too, where it is nearly nothing, or the number itself.
    x, grad = torch.linspace(-40, 40, 4096).view(16, 256).bfloat16(), drawn(16, 256)
    found, wanted = against(Gelu.apply, x, grad), against(F.gelu, x.float(), grad)
    assert torch.allclose(found[0].float(), wanted[0], rtol=2**-7, atol=1e-6)
    assert torch.allclose(found[1].float(), wanted[1], rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("function", ["silu", "gelu"])
def test_extremes_stay_what_they_are(function: str) -> None:
    values = torch.tensor([float("nan"), 1e38, -1e38, 90.0, -90.0, 0.0, 1e-30, -1e-30] * 2).bfloat16()[None]
    if function == "gelu":
        found, wanted = ops.gelu(values), F.gelu(values.float())
    else:
        found = ops.silu_gate(torch.cat([values, torch.ones_like(values)], dim=1))
        wanted = F.silu(values.float())
    assert torch.allclose(found.float(), wanted, rtol=2**-7, atol=1e-30, equal_nan=True)


@pytest.mark.parametrize("heads", [1, 3])
def test_rotation(heads: int) -> None:
    x = drawn(20, heads * 64).unflatten(1, (heads, 64)).transpose(0, 1)[None]
    cos, sin, grad = drawn(1, 1, 20, 64, seed=1), drawn(1, 1, 20, 64, seed=2), drawn(1, heads, 20, 64, seed=3)
    found = against(lambda x: Rotate.apply(x, cos, sin), x, grad.transpose(1, 2).contiguous().transpose(1, 2))
    with ops.using(False):
        wanted = against(lambda x: Rotate.apply(x, cos.float(), sin.float()), x.float(), grad)
    for one, other in zip(found, wanted, strict=True):
        assert_near(one, other)


def test_a_fused_lora_drops_what_it_drops_without_them() -> None:
    x, weight, grad = drawn(30, 64), drawn(48, 64, seed=1), drawn(30, 48, seed=2)
    results = []
    for wanted in (True, False):
        with ops.using(wanted):
            dropout = Dropout(0.3, seed=5)
            dropout.start(1, 2)
            own, a, b = x.clone().requires_grad_(), drawn(4, 64, seed=3).float(), drawn(48, 4, seed=4).float()
            a.requires_grad_()
            b.requires_grad_()
            kept, mask = dropout(own)
            y = FusedLora.apply(own, weight, None, a, b, 2.0, kept, mask)  # type: ignore[no-untyped-call]
            y.backward(grad)
            assert mask is not None
            results.append([kept, mask.to(x.dtype), y, own.grad, a.grad, b.grad])
    compiled, plain = results
    assert all(torch.equal(one, other) for one, other in zip(compiled[:3], plain[:3], strict=True))
    for one, other in zip(compiled[3:], plain[3:], strict=True):
        assert_near(one, other)
    assert 0.2 < float((plain[1] == 0).float().mean()) < 0.4


def against(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, grad: torch.Tensor) -> Any:
    """What a function gives for x, and the gradient of x."""
    own = x.detach().clone().requires_grad_()
    y = function(own)
    y.backward(grad.to(y.dtype))
    assert own.grad is not None
    return y, own.grad


def test_takes_only_what_it_can() -> None:
    assert ops.takes(drawn(3, 16))
    for x in (drawn(3, 8), drawn(3, 16).float(), drawn(16, 3).t(), drawn(3, 16, 2)[..., 0]):
        assert not ops.takes(x)
    with ops.using(False):
        assert not ops.takes(drawn(3, 16))
        assert not ops.heads_lie_well(drawn(1, 2, 3, 16))


def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.load(tmp_path)
    (made,) = (tmp_path / "kernels").iterdir()
    assert (tmp_path / "kernels").stat().st_mode & 0o077 == 0
    before = made.stat().st_mtime_ns
    build.load(tmp_path)
    assert [path.stat().st_mtime_ns for path in (tmp_path / "kernels").iterdir()] == [before]


def test_says_why_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("CXX", "no-such-compiler")
        with pytest.raises(build.KernelsUnavailable, match=r"no g\+\+"):
            build.load(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(build, "_INSTRUCTIONS", ("avx1024",))
        with pytest.raises(build.KernelsUnavailable, match="the processor has no avx1024"):
            build.load(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(build, "_FLAGS", ("-no-such-flag",))
        with pytest.raises(build.KernelsUnavailable, match="no-such-flag"):
            build.load(tmp_path)
    # Nothing of an attempt stays.
    assert list((tmp_path / "kernels").iterdir()) == []


def test_loads_nothing_that_others_may_have_put_there(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(0o777)
    with pytest.raises(build.KernelsUnavailable, match="others may write there"):
        build.load(tmp_path)


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    build.load(tmp_path / "whole")
    (whole,) = (tmp_path / "whole" / "kernels").iterdir()
    folder = tmp_path / "damaged" / "kernels"
    folder.mkdir(parents=True, mode=0o700)
    (folder / whole.name).write_bytes(whole.read_bytes()[:1000])
    build.load(tmp_path / "damaged")
    assert (folder / whole.name).stat().st_size == whole.stat().st_size


def test_brings_no_second_openmp() -> None:
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()}
    assert len([path for path in paths if Path(path).name.startswith(("libgomp", "libomp", "libiomp"))]) == 1
    made = next(path for path in paths if "/kernels-" in path)
    needed = subprocess.run(["ldd", made], capture_output=True, text=True, check=True).stdout
    assert "omp" not in needed
