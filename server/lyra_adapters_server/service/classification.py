"""Classify: labels of pairs from a version, from what is in force, or from the bare base, on the warm model."""

from __future__ import annotations

import asyncio

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.executors.base import WorkerDied, WorkFailed
from lyra_adapters_server.jobs.champion import find_champion, version_ref
from lyra_adapters_server.registry.names import BASE
from lyra_adapters_server.registry.pointer import unknown_adapter, whole_version
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.base_models import find_base
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.service.samples import MAX_HYPOTHESIS, MAX_PREMISE
from lyra_adapters_server.service.training_request import DEFAULT_ADAPTER
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.trainer.spec import ClassifySpec
from lyra_adapters_server.types import LABELS, AdapterRef, Label, Pair

MAX_PAIRS = 256

_NUMBERS: dict[Label, pb.Label] = {
    Label.SUPPORTS: pb.LABEL_SUPPORTS,
    Label.REFUTES: pb.LABEL_REFUTES,
    Label.NEUTRAL: pb.LABEL_NEUTRAL,
}


class Classifier:
    """Carries out Classify with a bounded number of waiting calls and a bounded wait."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.classify_limits
        self._waiting = 0

    async def classify(self, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        """Labels pairs. Raises Refusal."""
        pairs = _pairs(request)
        subject = await self._subject(request)
        card = find_base(self._service.bases, self._service.executor, subject.base_alias)
        if not subject.directory and not card.has_head:
            raise Refusal(
                Kind.FAILED_PRECONDITION,
                "BASE_HAS_NO_HEAD",
                f"Base model {card.alias} has no NLI head, so without an adapter it can't label anything; ask for a "
                "version.",
            )
        if self._waiting >= self._limits.waiting:
            raise Refusal(
                Kind.RESOURCE_EXHAUSTED,
                "TOO_MANY_CLASSIFICATIONS",
                f"{self._waiting} calls wait for the model already; try again in a moment.",
                retry_after_s=1.0,
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait_s):
                scored = await self._service.executor.classify(
                    ClassifySpec(subject=subject, pairs=pairs, max_length=card.max_length)
                )
        except TimeoutError:
            raise Refusal(
                Kind.UNAVAILABLE,
                "CLASSIFY_TIMEOUT",
                f"The model did not get round to it within {self._limits.wait_s:g} s; send fewer pairs, or try again.",
                retry_after_s=1.0,
            ) from None
        except WorkerDied:
            raise Refusal(
                Kind.UNAVAILABLE,
                "TRAINER_RESTARTING",
                "The trainer is being started again; try again in a few seconds.",
                retry_after_s=2.0,
            ) from None
        except WorkFailed as error:
            # A base model that can't be loaded now may be loaded later: it is tried at each use.
            kind = Kind.UNAVAILABLE if error.reason.startswith("BASE_MODEL_") else Kind.INTERNAL
            raise Refusal(kind, error.reason, error.message) from None
        finally:
            self._waiting -= 1
        return pb.ClassifyResponse(
            results=[
                pb.Classification(
                    label=_NUMBERS[LABELS[max(range(3), key=row.__getitem__)]],
                    probabilities=pb.Probabilities(supports=row[0], refutes=row[1], neutral=row[2]),
                    truncated=truncated,
                )
                for row, truncated in zip(scored.probabilities, scored.truncated, strict=True)
            ],
            version=subject.name,
            base_model=subject.base_alias,
        )

    async def _subject(self, request: pb.ClassifyRequest) -> AdapterRef:
        """What is asked about. Raises Refusal."""
        service = self._service
        adapter = request.adapter or DEFAULT_ADAPTER
        if request.adapter or request.version != BASE:
            check_adapter(adapter)
        if request.version == BASE:
            return AdapterRef(
                name=BASE, base_alias=find_base(service.bases, service.executor, request.base_model).alias
            )

        def read(connection: Connection) -> AdapterRef:
            if store.find_pointer(connection, adapter) is None:
                raise unknown_adapter(adapter)
            if not request.version:
                base = find_base(service.bases, service.executor, request.base_model).alias
                return find_champion(connection, service.layout, adapter, base).ref
            number = whole_version(connection, adapter, request.version).number
            return version_ref(connection, service.layout, adapter, number)

        return await service.database.read(read)


def _pairs(request: pb.ClassifyRequest) -> tuple[Pair, ...]:
    """The pairs, checked. Raises Refusal."""
    findings = Findings()
    if request.adapter:
        findings.adapter("adapter", request.adapter)
    if not 1 <= len(request.pairs) <= MAX_PAIRS:
        findings.add("pairs", f"has {len(request.pairs):,} pairs; must have 1 to {MAX_PAIRS}")
    else:
        for index, pair in enumerate(request.pairs):
            findings.text(f"pairs[{index}].premise", pair.premise, MAX_PREMISE, required=True)
            findings.text(f"pairs[{index}].hypothesis", pair.hypothesis, MAX_HYPOTHESIS, required=True)
    findings.raise_if_any()
    return tuple(Pair(premise=pair.premise, hypothesis=pair.hypothesis) for pair in request.pairs)
