"""Publishes a version's files: complete and on disk before the name appears, so that it is whole or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lyra_adapters_server import failpoints
from lyra_adapters_server.registry.card import CardFacts, model_card
from lyra_adapters_server.registry.layout import (
    ADAPTER_FILE,
    Layout,
    put_away,
    remove_tree,
    sync_directory,
    sync_tree,
)

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


def write_files(
    source: Path, stage: Path, *, card: CardFacts, metrics: dict[str, Any], training: dict[str, Any]
) -> PublishedFiles:
    """Makes the directory of a version, complete and on disk, under the name `stage`, from a trainer's files."""
    remove_tree(stage)
    stage.mkdir(mode=0o700, parents=True)
    for file in TRAINER_FILES:
        if file == ADAPTER_FILE:
            _copy_weights(source / file, stage / file, {"name": card.name, "continued_from": card.continued_from})
        else:
            (stage / file).write_bytes((source / file).read_bytes())
    (stage / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (stage / "training.json").write_text(json.dumps(training, indent=2, ensure_ascii=False) + "\n")
    (stage / "README.md").write_text(model_card(card))
    described = PublishedFiles([_describe(stage, path) for path in sorted(stage.iterdir())])
    sync_tree(stage)
    return described


def place(layout: Layout, adapter: str, number: int, stage: Path) -> None:
    """Gives a complete directory the version's name, durably.

    The caller holds the database's write lock and the job's fencing token, so nobody else touches the name. What an
    earlier attempt left under it is replaced: it has no row.
    """
    put_away(layout, layout.version(adapter, number))
    with failpoints.step("publish.rename"):
        stage.rename(layout.version(adapter, number))
        sync_directory(layout.home)


def wrong_files(directory: Path, files: Sequence[Mapping[str, Any]]) -> list[str]:
    """The files that are missing from a version's directory, or are not as they were described."""
    return [
        str(file["path"])
        for file in files
        if not (directory / file["path"]).is_file() or _describe(directory, directory / file["path"]) != dict(file)
    ]


def _copy_weights(source: Path, target: Path, metadata: dict[str, str]) -> None:
    """Copies the weights with the version's name and lineage in their header ("format" is what transformers asks).

    The header is written here, because the library puts metadata in an order that changes from process to process, and
    the same training shall give the same bytes. https://github.com/huggingface/safetensors has the format: the header's
    length in 8 bytes, little-endian; the header, JSON; the tensors' bytes.
    """
    content = source.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = {**json.loads(content[8:end]), "__metadata__": {"format": "pt", **metadata}}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    # Tensors begin at a multiple of 8.
    text += b" " * (-len(text) % 8)
    target.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def _describe(root: Path, path: Path) -> dict[str, Any]:
    # Not read as a whole: a merged model is gigabytes.
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": str(path.relative_to(root)), "size_bytes": path.stat().st_size, "sha256": digest}
