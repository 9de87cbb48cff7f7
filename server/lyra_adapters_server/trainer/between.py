"""Something done between the layers of a model's forward and backward passes, with the model bare meanwhile.

A micro-batch takes a second on two cores, and nothing can be answered while it runs; a layer takes a thirtieth of that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.lora import bare
from lyra_adapters_server.trainer.lower_half import layers_of


def call_between_layers(model: nn.Module, call: Callable[[], None]) -> None:
    """Calls `call` before each layer of every later forward pass, and after each of the backward passes.

    What it computes must leave gradients and random numbers alone. It may attach other adapters: whichever is attached
    is taken out for the time of the call.

    Args:
        model: One whose layers stand in a ModuleList, as those of transformers do.
        call: What is called.
    """

    def undisturbed(*_: Any) -> None:
        # A job may have to do without the kernels; see plan.py.
        with bare(model), ops.using(True):
            call()

    for layer in layers_of(model):
        layer.register_forward_pre_hook(functools.partial(_before, undisturbed))


def _before(call: Callable[..., None], _layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    call()
    if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].requires_grad:
        inputs[0].register_hook(call)  # type: ignore[no-untyped-call]  # torch leaves it untyped
