"""The RPCs about recorded reviews: RecordFeedback and ListFeedback."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.feedback.record import Review, record
from lyra_adapters_server.feedback.selection import MAX_SAMPLE_BYTES
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.service import pages
from lyra_adapters_server.service.auth.caller import calling
from lyra_adapters_server.service.auth.scoping import in_scope
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import sample_message, timestamp
from lyra_adapters_server.service.feedback_filters import MAX_NAME, read_filter, read_users
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.service.samples import SampleReader
from lyra_adapters_server.service.times import read_time
from lyra_adapters_server.storage import feedback_queries as store
from lyra_adapters_server.storage.feedback import Outcome
from lyra_adapters_server.storage.feedback_queries import RecordedReview, Summary

MAX_REVIEWS = 5_000
# gRPC clients accept 4 MiB unless they say otherwise, and ids and names come on top.
MAX_PAGE_BYTES = 2 * 1024 * 1024


async def record_feedback(service: Service, request: pb.RecordFeedbackRequest) -> pb.RecordFeedbackResponse:
    """Stores reviews."""
    findings = Findings()
    findings.text("actor", request.actor, MAX_NAME)
    # On a thread: thousands of reviews take long enough for other calls to notice.
    reviews = await asyncio.to_thread(_reviews, request, findings)
    findings.raise_if_any()
    caller = calling()
    receipt = await record(
        service.database, reviews, request.actor, caller.principal, owner=caller.feedback_owner or ""
    )
    return pb.RecordFeedbackResponse(
        stored=receipt.outcomes.count(Outcome.STORED),
        unchanged=receipt.outcomes.count(Outcome.UNCHANGED),
        revised=receipt.outcomes.count(Outcome.REVISED),
        ids=receipt.ids,
    )


async def list_feedback(service: Service, request: pb.ListFeedbackRequest) -> pb.ListFeedbackResponse:
    """Recorded reviews, newest first."""
    size, before = pages.page_size(request.page_size), pages.read_token(request)
    findings = Findings()
    chosen = read_filter(request, findings)
    used_by = read_users("used_by", request.used_by, findings)
    not_used_by = read_users("not_used_by", request.not_used_by, findings)
    findings.raise_if_any()
    chosen = replace(chosen, used_by=used_by, not_used_by=not_used_by)
    scope = calling().scope

    def read(connection: Connection) -> tuple[list[RecordedReview], bool, int, Summary | None]:
        page, more = store.page_of_feedback(connection, chosen, before=before, limit=size, max_bytes=MAX_PAGE_BYTES)
        summary = store.summarize(connection, chosen, scope) if request.include_summary else None
        total = summary.reviews if summary else store.count_feedback(connection, chosen)
        return page, more, total, summary

    page, more, total, summary = await service.database.read(read)
    return pb.ListFeedbackResponse(
        reviews=[_recorded(review) for review in page],
        next_page_token=pages.make_token(request, page[-1].number) if more else "",
        total_size=total,
        summary=_summary(summary) if summary else None,
    )


def _reviews(request: pb.RecordFeedbackRequest, findings: Findings) -> list[Review]:
    if not request.reviews:
        findings.add("reviews", f"is empty; send 1 to {MAX_REVIEWS:,} reviews")
        return []
    if len(request.reviews) > MAX_REVIEWS:
        findings.add("reviews", f"has {len(request.reviews):,} entries; at most {MAX_REVIEWS:,} are allowed in a call")
        return []
    size = request.ByteSize()
    if size > MAX_SAMPLE_BYTES:
        findings.add("reviews", f"has {size / 2**20:.1f} MiB; at most {MAX_SAMPLE_BYTES // 2**20} MiB are allowed")
        return []
    samples = SampleReader(findings)
    reviews: list[Review] = []
    for index, message in enumerate(request.reviews):
        path = f"reviews[{index}]"
        findings.text(f"{path}.task_id", message.task_id, MAX_NAME)
        findings.domain(f"{path}.domain", message.domain, MAX_NAME)
        time = None
        if message.HasField("review_time"):
            time = read_time(f"{path}.review_time", message.review_time, findings)
        sample = samples.read(f"{path}.sample", message.sample)
        if findings.full:
            break
        if sample:
            reviews.append(Review(sample, message.task_id, message.domain, time))
    return reviews


def _recorded(review: RecordedReview) -> pb.RecordedReview:
    return pb.RecordedReview(
        review=pb.Review(
            sample=sample_message(review.sample),
            task_id=review.task_id,
            domain=review.domain,
            review_time=timestamp(review.review_time),
        ),
        revision=review.revision,
        actor=review.actor,
        record_time=timestamp(review.record_time),
        used_by=[name for version in review.used_by if in_scope(name := full_name(*version))],
        superseded=review.superseded,
        principal=review.principal,
    )


def _summary(summary: Summary) -> pb.FeedbackSummary:
    versions = [(full_name(adapter, number), count) for adapter, number, count in summary.versions]
    return pb.FeedbackSummary(
        reviews=summary.reviews,
        revisions=summary.revisions,
        samples=summary.samples,
        corrections=summary.corrections,
        confirmations=summary.confirmations,
        labels=_counts(summary.labels),
        tasks=_counts(summary.tasks),
        domains=_counts(summary.domains),
        versions=_counts(versions),
        first_review_time=timestamp(summary.first_review_time),
        last_review_time=timestamp(summary.last_review_time),
    )


def _counts(counts: list[tuple[str, int]]) -> list[pb.FeedbackCount]:
    return [pb.FeedbackCount(name=name, count=count) for name, count in counts]
