"""What libraries read when they are loaded is set before they are, and what somebody has set stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CODE = """
import sys
from lyra_adapters_server.trainer.environment import set_environment
assert "torch" not in sys.modules
set_environment()
import json, os
print(json.dumps(dict(os.environ)))
"""
NAMES = ("GOMP_SPINCOUNT", "TOKENIZERS_PARALLELISM", "LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def environment(**own: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run([sys.executable, "-c", CODE], env={**bare, **own}, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_it_is_set_unless_somebody_has() -> None:
    found = environment(ONEDNN_PRIMITIVE_CACHE_CAPACITY="7")
    assert found["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    assert (found["GOMP_SPINCOUNT"], found["TOKENIZERS_PARALLELISM"]) == ("30000", "false")


# Each length is a shape of its own. In processes of their own, since the limits are read once.
GROWTH = """
import random
from lyra_adapters_server.trainer.environment import set_environment
set_environment()
import psutil, torch
torch.set_num_threads(1)
weights = [torch.randn(512, 384).bfloat16(), torch.randn(384, 512).bfloat16()]
def work(rows):
    for weight in weights:
        torch.nn.functional.linear(torch.randn(rows, weight.shape[1]).bfloat16(), weight)
for rows in range(900, 910):
    work(rows)
before = psutil.Process().memory_info().rss
for rows in range(100, 600):
    work(rows)
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def growth(**own: str) -> float:
    env = {**os.environ, **own}
    done = subprocess.run([sys.executable, "-c", GROWTH], env=env, check=True, capture_output=True, text=True)
    return float(done.stdout)


def test_products_of_many_lengths_do_not_fill_the_memory() -> None:
    bounded, usual = growth(), growth(LRU_CACHE_CAPACITY="1024", ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")
    print(f"500 lengths: {bounded:.0f} MiB more, {usual:.0f} MiB with the libraries' own limits")
    if usual < 100:
        pytest.skip("products are not kept on this machine")
    assert bounded < usual / 3
