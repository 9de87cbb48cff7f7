"""Checks which recorded reviews a request means: FeedbackSource of Train, and the filters of ListFeedback."""

from __future__ import annotations

from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.registry.names import ADAPTER_RULE, is_adapter_name, parse_full_name
from lyra_adapters_server.service.auth.caller import calling
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.service.times import read_time
from lyra_adapters_server.storage.feedback_queries import FeedbackFilter, Users

MAX_NAME = 200
MAX_NAMES = 1000


def read_filter(
    message: pb.FeedbackSource | pb.ListFeedbackRequest, findings: Findings, prefix: str = ""
) -> FeedbackFilter:
    """The tasks, domains and times that both messages have. `prefix` is the path of the message and a dot."""
    for field in ("task_ids", "domains"):
        names = getattr(message, field)
        if len(names) > MAX_NAMES:
            findings.add(f"{prefix}{field}", f"has {len(names):,} entries; at most {MAX_NAMES:,} are allowed")
            continue
        for index, name in enumerate(names):
            findings.text(f"{prefix}{field}[{index}]", name, MAX_NAME)
    after = before = None
    if message.HasField("reviewed_after"):
        after = read_time(f"{prefix}reviewed_after", message.reviewed_after, findings)
    if message.HasField("reviewed_before"):
        before = read_time(f"{prefix}reviewed_before", message.reviewed_before, findings)
    if after is not None and before is not None and after >= before:
        findings.add(f"{prefix}reviewed_before", f"must be later than {prefix}reviewed_after")
    return FeedbackFilter(
        task_ids=tuple(message.task_ids),
        domains=tuple(message.domains),
        reviewed_after=after,
        reviewed_before=before,
        owner=calling().feedback_owner,
    )


def read_users(field: str, name: str, findings: Findings) -> Users | None:
    """The adapter or the version that a filter names; None for an empty one. Raises Refusal for another's."""
    if not name:
        return None
    if version := parse_full_name(name):
        check_adapter(version[0])
        return Users(*version)
    if not is_adapter_name(name):
        findings.add(field, f"{name[:80]!r} is neither an adapter ({ADAPTER_RULE}) nor a version like user_feedback_v3")
    else:
        check_adapter(name)
    return Users(name)
