"""What the machine's matrix products give: the limit that training speed is held against.

    python benchmarks/performance/limit.py [--dtype bfloat16]

A token of a training with frozen weights takes two products with each weight matrix, one forward and one for the
gradient of what came in: four floating-point operations a weight. Counted are the linear layers of the body that a
gradient goes through; attention, norms, the adapter and the head come on top and are not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

# (rows, inputs, outputs): square ones, and those of the demo base's layers in a micro-batch.
SHAPES = ((2048, 2048, 2048), (1024, 1024, 1024), (1024, 576, 1536), (1024, 1536, 576), (1024, 576, 576))
SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    dtype = getattr(torch, parser.parse_args().dtype)
    found = {"x".join(map(str, shape)): product_speed(shape, dtype) for shape in SHAPES}
    print(json.dumps({"flops": max(found.values()), "by_shape": found}))


def product_speed(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
    """Floating-point operations a second of a linear layer's product; the best of a few rounds."""
    rows, inputs, outputs = shape
    x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    best, until = float("inf"), time.monotonic() + SECONDS
    with torch.inference_mode():
        while time.monotonic() < until:
            begin = time.perf_counter()
            for _ in range(5):
                torch.nn.functional.linear(x, weight)
            best = min(best, (time.perf_counter() - begin) / 5)
    return 2.0 * rows * inputs * outputs / best


def flops_a_token(base: Path) -> float:
    """Operations of a training token in the body's linear layers, from the model's configuration alone."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(base)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    weights = [
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name
    ]
    return 4.0 * sum(weights)


if __name__ == "__main__":
    main()
