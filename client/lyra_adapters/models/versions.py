"""Published versions of adapters, and what is in force."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from lyra_adapters.models.base import Model, Word
from lyra_adapters.models.scores import Calibration, Metrics, Verdict
from lyra_adapters.models.training import LoraConfig

T = TypeVar("T")


class VersionState(Word):
    """Where a version stands."""

    UNSPECIFIED = "UNSPECIFIED"
    CANDIDATE = "CANDIDATE"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"
    REJECTED = "REJECTED"
    DELETED = "DELETED"


class PointerChangeKind(Word):
    """Why a pointer moved."""

    UNSPECIFIED = "UNSPECIFIED"
    PUBLISHED = "PUBLISHED"
    ACTIVATED = "ACTIVATED"
    ROLLED_BACK = "ROLLED_BACK"


class AdapterFormat(Word):
    """The form of a version's files."""

    UNSPECIFIED = "UNSPECIFIED"
    PEFT = "PEFT"
    GGUF = "GGUF"
    OLLAMA = "OLLAMA"
    MERGED = "MERGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo(Model):
    """One file of a version: its path inside the version's directory, size in bytes and SHA-256 in hexadecimal."""

    path: str = ""
    size_bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModelIdentity(Model):
    """Which weights a base model has.

    Attributes:
        id: Hugging Face id, local directory, or `demo`.
        revision: Revision on the hub; empty for a local directory.
        digest: SHA-256 over the digests of the weight files, in hexadecimal.
    """

    id: str = ""
    revision: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion(Model):
    """One published version of an adapter.

    Attributes:
        adapter: The adapter's name, `user_feedback`.
        version: The version, `v3`.
        name: The full name, `user_feedback_v3`.
        state: Where it stands.
        base_model: Id of the base model it belongs to.
        base_identity: Which weights of that base, exactly.
        job_id: The job that trained it.
        task_id: The caller's task.
        domain: The domain of the rows.
        actor: Who asked for it, as the caller said.
        create_time: When it was published.
        continued_from: Full name of the version it started from; empty if none.
        metrics_before: Scores of what it was judged against, on the held-out rows that neither has trained on.
        metrics_after: Scores of this version on the same rows.
        verdict: The gate's verdict.
        path: Directory on the server.
        sha256: SHA-256 of adapter_model.safetensors, in hexadecimal.
        size_bytes: Size of all its files.
        files: Its files.
        lora: The adapter's shape as trained.
        training_samples: Rows trained on.
        validation_samples: Rows held out.
        delete_time: When its files were deleted; None while they are there.
        delete_actor: Who deleted them, as the caller said, or `retention`.
        delete_reason: Why.
        formats: The forms that lie ready on the server; others are made when they are asked for.
        calibration: Its temperature.
    """

    adapter: str = ""
    version: str = ""
    name: str = ""
    state: VersionState = VersionState.UNSPECIFIED
    base_model: str = ""
    base_identity: BaseModelIdentity | None = None
    job_id: str = ""
    task_id: str = ""
    domain: str = ""
    actor: str = ""
    create_time: datetime | None = None
    continued_from: str = ""
    metrics_before: Metrics | None = None
    metrics_after: Metrics | None = None
    verdict: Verdict | None = None
    path: str = ""
    sha256: str = ""
    size_bytes: int = 0
    files: tuple[FileInfo, ...] = ()
    lora: LoraConfig | None = None
    training_samples: int = 0
    validation_samples: int = 0
    delete_time: datetime | None = None
    delete_actor: str = ""
    delete_reason: str = ""
    formats: tuple[AdapterFormat, ...] = ()
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedVersion(Model):
    """What DeleteVersion did.

    Attributes:
        version: The version, in state DELETED.
        changed: False if it had been deleted before.
    """

    version: AdapterVersion
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PointerChange(Model):
    """One change of what is in force under an adapter's name.

    Attributes:
        adapter: The adapter.
        pointer_revision: The pointer's revision after the change: 1, 2, 3, … per adapter.
        active: Full name of the version in force after the change, or `base`.
        previous: The same before the change.
        kind: Why it moved.
        actor: Who, as the caller said.
        reason: Why, as the caller said.
        time: When.
        job_id: The job, where one did it.
        heartbeat: A sign of life of a quiet stream, not a change (`pointer_revision` is 0).
        principal: Who, as proven to the server; `anonymous` where it asks nobody.
    """

    adapter: str = ""
    pointer_revision: int = 0
    active: str = ""
    previous: str = ""
    kind: PointerChangeKind = PointerChangeKind.UNSPECIFIED
    actor: str = ""
    reason: str = ""
    time: datetime | None = None
    job_id: str = ""
    heartbeat: bool = False
    principal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointerMove(Model):
    """What Rollback or Activate did.

    Attributes:
        change: The change; `change.active` is what is in force now.
        changed: False if the pointer was already there and nothing changed.
    """

    change: PointerChange
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Model, Generic[T]):
    """One page of a listing, newest first.

    Attributes:
        items: The versions or jobs of this page.
        next_page_token: Token of the next page; empty on the last.
        total_size: Items in all pages.
        history: Changes of the pointer, newest first, where asked for.
    """

    items: tuple[T, ...] = ()
    next_page_token: str = ""
    total_size: int = 0
    history: tuple[PointerChange, ...] = ()
