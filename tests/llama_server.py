"""The real llama.cpp (wheel `xllamacpp`), asked over its own HTTP server."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xllamacpp


class LlamaServer:
    """llama-server inside this process, on a free loopback port, with a base and an adapter."""

    def __init__(self, base: Path, adapter: Path, *, context: int = 1024, threads: int = 1) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(base)
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.warmup = False
        parameters.verbosity = 0
        # Prompts kept from one scale of the adapter would be taken for another.
        parameters.cache_ram_mib = 0
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self._server = xllamacpp.Server(parameters)
        self.address = self._server.listening_address

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the server answers."""
        request = urllib.request.Request(
            f"{self.address}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokenize(self, text: str) -> list[int]:
        """The text's tokens as llama.cpp sees them."""
        tokens: list[int] = self.ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})[
            "tokens"
        ]
        return tokens

    def next_token(
        self, prompt: Sequence[int], vocabulary: int, *, sampled: int, adapter: float = 1.0
    ) -> dict[int, float]:
        """The log-probability of each token right after the prompt, before any sampling, the likeliest first.

        Args:
            prompt: Tokens.
            vocabulary: How many tokens to give.
            sampled: The token that sampling takes: for an end, or half a character, nothing would be answered.
            adapter: Scale of the adapter; 0 is the bare base.
        """
        answer = self.ask(
            "/completion",
            {
                "prompt": list(prompt),
                "n_predict": 1,
                "n_probs": vocabulary,
                "cache_prompt": False,
                "logit_bias": [[sampled, 1000]],
                "lora": [{"id": 0, "scale": adapter}],
            },
        )
        return {entry["id"]: entry["logprob"] for entry in answer["completion_probabilities"][0]["top_logprobs"]}

    def label_probabilities(
        self, prompt: Sequence[int] | str, labels: Sequence[int], *, adapter: float = 1.0
    ) -> list[float]:
        """The labels' probabilities among themselves, by the request that docs/serving.md shows."""
        answer = self.ask(
            "/completion",
            {
                "prompt": prompt if isinstance(prompt, str) else list(prompt),
                "n_predict": 1,
                "cache_prompt": False,
                # Lifts the labels' tokens above all others; among themselves they keep their distances.
                "logit_bias": [[label, 100] for label in labels],
                "samplers": ["top_k", "temperature"],
                "top_k": len(labels),
                "temperature": 1.0,
                "n_probs": len(labels),
                "post_sampling_probs": True,
                "lora": [{"id": 0, "scale": adapter}],
            },
        )
        found = {entry["id"]: entry["prob"] for entry in answer["completion_probabilities"][0]["top_probs"]}
        return [found[label] for label in labels]


def softmax_over(labels: Sequence[int], logs: dict[int, float]) -> list[float]:
    """The labels' probabilities among themselves."""
    found = [math.exp(logs[label]) for label in labels]
    return [value / sum(found) for value in found]
