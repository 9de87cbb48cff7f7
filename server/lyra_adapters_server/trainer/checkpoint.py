"""Checkpoints: directories that appear whole or not at all, with digests, in safetensors and JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from lyra_adapters_server.failpoints import step as durable_step
from lyra_adapters_server.trainer.data import Row
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.spec import CheckpointRules

LOG = logging.getLogger(__name__)

TENSORS_FILE = "state.safetensors"
CONTENT_FILE = "state.json"
FORMAT = 2

# The newest, and one to fall back to.
_KEPT = 2
_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY = ".tmp-"

# A full disk, or a full share of it.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# By time, at most this share of it goes into checkpoints, however slow the disk is.
_SHARE = 0.02


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after a step.

    Attributes:
        step: Optimizer steps done.
        tensors: TrainState.tensors(), on the CPU.
        content: What else there is to keep, as JSON.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    content: dict[str, Any]


@dataclass(frozen=True)
class Unusable:
    """A checkpoint that could not be gone on from, and why."""

    step: int
    why: str


class Checkpoints:
    """The checkpoints of one job.

    The state is a function of spec, plan and step, so it does not matter who wrote a checkpoint: a worker whose server
    died may still write one while the next worker goes on from the one before.
    """

    def __init__(self, rules: CheckpointRules, fingerprint: str) -> None:
        """Takes the rules; touches no file yet.

        Args:
            rules: Where and how often.
            fingerprint: Of everything that must be the same to go on: rows, settings, base model.
        """
        self._directory = Path(rules.directory)
        self._rules = rules
        self._fingerprint = fingerprint
        self._last_step = 0
        self._last_time = time.monotonic()
        self._pause = rules.seconds

    def begin(self, step: int) -> None:
        """Counts steps and time from here."""
        self._last_step, self._last_time = step, time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be written after this step."""
        if step == self._last_step:
            return False
        if self._rules.steps and step - self._last_step >= self._rules.steps:
            return True
        return bool(self._rules.seconds) and time.monotonic() - self._last_time >= self._pause

    def write(self, step: int, tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any]) -> tuple[float, int]:
        """Writes a checkpoint durably and removes those that are no longer needed. Returns seconds and bytes.

        Raises:
            TrainerError: DISK_FULL, CHECKPOINT_FAILED.
        """
        begun = time.monotonic()
        try:
            size = self._write(step, tensors, content)
        except OSError as error:
            reason = "DISK_FULL" if error.errno in _FULL else "CHECKPOINT_FAILED"
            raise TrainerError(
                reason,
                f"the checkpoint of step {step} can't be written: {error.strerror or type(error).__name__}. Make room "
                "on the disk of the registry's home, then send the job again",
            ) from error
        seconds = time.monotonic() - begun
        self.begin(step)
        self._pause = max(self._rules.seconds, seconds / _SHARE)
        return seconds, size

    def newest(self) -> tuple[Checkpoint | None, list[Unusable]]:
        """The newest checkpoint that is whole and fits, or None; and those that were passed over and removed."""
        unusable: list[Unusable] = []
        for half_written in self._directory.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(half_written, ignore_errors=True)
        for step, path in self._found():
            try:
                return self._read(step, path), unusable
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                LOG.warning("checkpoint of step %d: %s", step, error)
                why = str(error) if isinstance(error, _UnusableError) else "its files can't be read"
                unusable.append(Unusable(step, why))
                shutil.rmtree(path, ignore_errors=True)
        return None, unusable

    def _write(self, step: int, tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any]) -> int:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        temporary = self._directory / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            with durable_step("checkpoint.write"):
                temporary.mkdir(mode=0o700)
                weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
                _write_file(temporary / TENSORS_FILE, weights)
                body = {
                    "format": FORMAT,
                    "fingerprint": self._fingerprint,
                    "step": step,
                    "tensors_sha256": hashlib.sha256(weights).hexdigest(),
                    "content": dict(content),
                }
                text = json.dumps({"sha256": _digest(body), "body": body}).encode()
                _write_file(temporary / CONTENT_FILE, text)
                _sync_directory(temporary)
            with durable_step("checkpoint.rename"):
                target = self._directory / f"step-{step:08d}"
                shutil.rmtree(target, ignore_errors=True)
                temporary.rename(target)
                _sync_directory(self._directory)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for _, path in self._found()[_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
        return len(weights) + len(text)

    def _read(self, step: int, path: Path) -> Checkpoint:
        envelope = json.loads((path / CONTENT_FILE).read_bytes())
        body = envelope["body"]
        if _digest(body) != envelope["sha256"]:
            raise _UnusableError(f"{CONTENT_FILE} does not match its digest")
        if body["format"] != FORMAT:
            raise _UnusableError(f"it is of format {body['format']}")
        if body["fingerprint"] != self._fingerprint:
            raise _UnusableError("rows, settings or base model are not those it was written with")
        weights = (path / TENSORS_FILE).read_bytes()
        if hashlib.sha256(weights).hexdigest() != body["tensors_sha256"]:
            raise _UnusableError(f"{TENSORS_FILE} does not match its digest")
        if body["step"] != step:
            raise _UnusableError(f"it is of step {body['step']}")
        return Checkpoint(step, load(weights), body["content"])

    def _found(self) -> list[tuple[int, Path]]:
        """Steps and directories, newest first."""
        if not self._directory.is_dir():
            return []
        named = ((_NAME.fullmatch(path.name), path) for path in self._directory.iterdir())
        return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def fingerprint(settings: Iterable[str], rows: Iterable[Row]) -> str:
    """A digest of all that must be the same for a checkpoint to be gone on from: settings, base model and tokens."""
    found = hashlib.sha256()
    for part in settings:
        found.update(f"{part}\n".encode())
    for row in rows:
        found.update(array("q", (len(row.tokens), row.label, *row.tokens, *row.types)).tobytes())
    return found.hexdigest()


class _UnusableError(ValueError):
    """Why a checkpoint is passed over, in words."""


def _write_file(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
