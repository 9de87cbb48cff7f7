"""Publishes a version's files: complete and on disk before the name appears, so that it is whole or not there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from lyra_adapters_server.registry.card import CardFacts, model_card
from lyra_adapters_server.registry.layout import (
    ADAPTER_FILE,
    Layout,
    link_flat,
    remove_tree,
    sync_directory,
    sync_tree,
)
from lyra_adapters_server.registry.names import full_name

# What the trainer leaves in the job's work directory.
TRAINER_FILES = (ADAPTER_FILE, "adapter_config.json", "prompt.json")


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a version with size and digest, as stored in its row."""

    files: list[dict[str, Any]]

    @property
    def sha256(self) -> str:
        """Digest of the weights."""
        return str(next(file["sha256"] for file in self.files if file["path"] == ADAPTER_FILE))

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(int(file["size_bytes"]) for file in self.files)


def publish_files(
    layout: Layout,
    adapter: str,
    number: int,
    work: Path,
    *,
    card: CardFacts,
    metrics: dict[str, Any],
    training: dict[str, Any],
) -> PublishedFiles:
    """Turns a job's work directory into the version's directory, durably, under its name and its flat name.

    The number must be reserved for this job. What an earlier try left under the name is replaced: it has no row.
    """
    name = full_name(adapter, number)
    stage = layout.staging / name
    remove_tree(stage)
    stage.mkdir(mode=0o700)
    for file in TRAINER_FILES:
        if file == ADAPTER_FILE:
            _copy_weights(work / file, stage / file, {"name": name, "continued_from": card.continued_from})
        else:
            (stage / file).write_bytes((work / file).read_bytes())
    (stage / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (stage / "training.json").write_text(json.dumps(training, indent=2, ensure_ascii=False) + "\n")
    (stage / "README.md").write_text(model_card(card))
    described = PublishedFiles([_describe(stage, path) for path in sorted(stage.iterdir())])
    sync_tree(stage)
    remove_tree(layout.flat(adapter, number))
    remove_tree(layout.version(adapter, number))
    stage.rename(layout.version(adapter, number))
    sync_directory(layout.home)
    link_flat(layout, adapter, number)
    return described


def _copy_weights(source: Path, target: Path, metadata: dict[str, str]) -> None:
    """Copies the weights with the version's name and lineage in their header ("format" is what transformers asks)."""
    with safe_open(source, framework="numpy") as weights:
        tensors = {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118 - not a dict
    save_file(tensors, target, metadata={"format": "pt", **metadata})


def _describe(root: Path, path: Path) -> dict[str, Any]:
    return {
        "path": str(path.relative_to(root)),
        "size_bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
