"""Report: how a version did on each row that its gate asked about, with the rows' texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.feedback.general import GeneralRows
from lyra_adapters_server.registry.names import BASE, version_of
from lyra_adapters_server.registry.pointer import unknown_adapter, unknown_version
from lyra_adapters_server.service import pages
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import sample_message, version_message
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.service.training_request import DEFAULT_ADAPTER
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.jobs import find_samples
from lyra_adapters_server.storage.versions import VersionRecord
from lyra_adapters_server.types import Sample

# gRPC clients accept 4 MiB unless they say otherwise.
MAX_PAGE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class _Found:
    """What is stored of a version: how it did by row, and the rows it was judged on, if they are still there."""

    version: VersionRecord
    scores: dict[str, Any]
    # By id; those whose texts have been deleted are missing.
    held_out: dict[str, Sample]


async def report(service: Service, request: pb.ReportRequest) -> pb.ReportResponse:
    """A page of rows. Raises Refusal."""
    findings = Findings()
    adapter = request.adapter or DEFAULT_ADAPTER
    findings.adapter("adapter", adapter)
    findings.raise_if_any()
    check_adapter(adapter)
    size, start = pages.page_size(request.page_size or pages.MAX_SIZE), pages.read_token(request) or 0
    found = await service.database.read(lambda connection: _read(connection, adapter, request.version))
    rows = list(_rows(found, service.general.get(found.version.base_model)))
    version = version_message(service.layout, found.version)
    answer = pb.ReportResponse(
        version=version,
        total_size=len(rows),
        texts_deleted=any(row["id"] not in found.held_out for row in found.scores["held_out"]),
        champion_metrics=version.metrics_before if version.HasField("metrics_before") else None,
        challenger_metrics=version.metrics_after if version.HasField("metrics_after") else None,
    )
    end, space = start, MAX_PAGE_BYTES
    for row in rows[start : start + size]:
        space -= row.ByteSize()
        if space < 0 and end > start:
            break
        answer.rows.append(row)
        end += 1
    if end < len(rows):
        answer.next_page_token = pages.make_token(request, end)
    return answer


def _read(connection: Connection, adapter: str, asked: str) -> _Found:
    pointer = store.find_pointer(connection, adapter)
    if pointer is None:
        raise unknown_adapter(adapter)
    if asked == BASE:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "BASE_HAS_NO_REPORT",
            "The bare base model has no report, because nothing was trained. Name a version; List shows those there "
            "are.",
        )
    number = version_of(adapter, asked) if asked else pointer.active
    if number is None and not asked:
        raise Refusal(
            Kind.FAILED_PRECONDITION,
            "NOTHING_IN_FORCE",
            f"No version of {adapter} is in force, so there is nothing to report on; name a version.",
        )
    version = store.find_version(connection, adapter, number) if number is not None else None
    if version is None:
        raise unknown_version(adapter, asked)
    scores = store.version_row_scores(connection, adapter, version.number)
    samples = find_samples(connection, version.job_id)
    held_out = {row["id"]: Sample.model_validate(row) for row in (samples[1] if samples else ())}
    return _Found(version, scores or {"held_out": [], "general": [], "excluded": []}, held_out)


def _rows(found: _Found, general: GeneralRows | None) -> Iterator[pb.ReportRow]:
    excluded = set(found.scores["excluded"])
    for index, scores in enumerate(found.scores["held_out"]):
        yield _row(found.held_out.get(scores["id"]), scores, general=False, excluded=index in excluded)
    # The server may have been given other general rows since: those are found by id and label, or not at all.
    known = {sample.id: sample for sample in general.anchor} if general is not None else {}
    for scores in found.scores["general"]:
        row = known.get(scores["id"])
        same = row is not None and row.correct_label == scores["label"]
        yield _row(row if same else None, scores, general=True, excluded=False)


def _row(sample: Sample | None, scores: dict[str, Any], *, general: bool, excluded: bool) -> pb.ReportRow:
    return pb.ReportRow(
        sample=sample_message(sample) if sample else _without_texts(scores),
        general=general,
        champion=_probabilities(scores["champion"]),
        challenger=_probabilities(scores["challenger"]),
        excluded=excluded,
    )


def _without_texts(scores: dict[str, Any]) -> pb.Sample:
    original = scores.get("original") or "UNSPECIFIED"
    return pb.Sample(correct_label=f"LABEL_{scores['label']}", original_label=f"LABEL_{original}")


def _probabilities(row: list[float]) -> pb.Probabilities:
    supports, refutes, neutral = row
    return pb.Probabilities(supports=supports, refutes=refutes, neutral=neutral)
