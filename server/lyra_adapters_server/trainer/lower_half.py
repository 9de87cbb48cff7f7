"""What the layers below an adapter's first compute of a row, kept: it is the same in every epoch.

An adapter of the upper half of the layers alone needs no gradients below them, nor anything computed there twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

# Of all rows of a job together, in the base's precision; rows beyond are computed anew each time.
MOST_BYTES = 2 << 30


def layers_of(model: nn.Module) -> Sequence[nn.Module]:
    """The layers of a model of transformers: its longest ModuleList."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len, default=()))


def first_adapted(count: int) -> int:
    """The index of the first layer of the upper half of `count`."""
    return count // 2


class LowerHalf:
    """The layers below the upper half, which can be run alone, and be left out where what they give is known.

    An adapter puts it into the model and takes it out together with its own layers: what is done between two layers
    (see between.py) finds the model whole.

    Attributes:
        kept: What flows out of them, of the rows that are run next; None: it is computed.
        dtype: Of what flows out of them, once it has been computed.
    """

    def __init__(self, model: nn.Module) -> None:
        """Takes the layers; changes nothing yet."""
        layers = layers_of(model)
        first = first_adapted(len(layers))
        self._lower, self._upper = layers[:first], layers[first:]
        self.kept: torch.Tensor | None = None
        self.dtype = torch.float32
        # What a layer gives beside its hidden states; None: it gives those alone, not a tuple.
        self._others: tuple[Any, ...] | None = None
        self._computing = False
        self._found: torch.Tensor | None = None
        self._replaced: list[tuple[nn.Module, Any]] = []

    def compute(self, run: Callable[[], Any]) -> torch.Tensor:
        """Runs the lower layers alone.

        Args:
            run: Attaches the adapter, and runs the model on rows.

        Returns:
            What flows out of the last of them, in the layout of `run`: (1, tokens, width) or (rows, positions, width).
        """
        self._computing = True
        try:
            with torch.no_grad():
                run()
        finally:
            self._computing = False
        assert self._found is not None
        found, self._found = self._found, None
        self.dtype = found.dtype
        return found

    def put_in(self) -> None:
        """Leaves the layers out that need not be computed now, until `take_out`."""
        kept = self.kept
        if self._computing:
            self._replace(self._upper[:1], functools.partial(self._note, self._upper[0].forward))
            self._replace(self._upper[1:], lambda hidden, *_, **__: self._given(hidden))
        elif kept is not None:
            self._replace(self._lower, lambda *_, **__: self._given(kept))

    def take_out(self) -> None:
        """Lets all layers compute again."""
        while self._replaced:
            layer, forward = self._replaced.pop()
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward

    def _note(self, forward: Callable[..., Any], hidden: torch.Tensor, *others: Any, **named: Any) -> Any:
        self._found = hidden
        # The first upper layer is run for what it gives: families differ in that.
        given = forward(hidden, *others, **named)
        self._others = (None,) * (len(given) - 1) if isinstance(given, tuple) else None
        return given

    def _given(self, hidden: torch.Tensor) -> Any:
        return hidden if self._others is None else (hidden, *self._others)

    def _replace(self, layers: Sequence[nn.Module], forward: Callable[..., Any]) -> None:
        for layer in layers:
            self._replaced.append((layer, vars(layer).get("forward")))
            layer.forward = forward
