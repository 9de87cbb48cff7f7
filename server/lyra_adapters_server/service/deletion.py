"""The RPCs that delete: DeleteVersion and DeleteFeedback."""

from __future__ import annotations

from collections.abc import Sequence

from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.feedback.deletion import delete_feedback
from lyra_adapters_server.registry.deletion import delete_version
from lyra_adapters_server.service.auth.caller import calling
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.changes import MAX_NAME, MAX_REASON
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import version_message
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.storage.feedback_deletion import Whose

MAX_IDS = 1_000


async def version(service: Service, request: pb.DeleteVersionRequest) -> pb.DeleteVersionResponse:
    """Deletes a version's files."""
    findings = Findings()
    findings.adapter("adapter", request.adapter)
    if not request.version:
        findings.add("version", "is required: the version to delete, like v3")
    findings.text("reason", request.reason, MAX_REASON)
    findings.text("actor", request.actor, MAX_NAME)
    findings.raise_if_any()
    check_adapter(request.adapter)
    deleted = await delete_version(
        service.database, service.layout, request.adapter, request.version, request.actor, request.reason
    )
    return pb.DeleteVersionResponse(version=version_message(service.layout, deleted.version), changed=deleted.changed)


async def feedback(service: Service, request: pb.DeleteFeedbackRequest) -> pb.DeleteFeedbackResponse:
    """Deletes texts."""
    findings = Findings()
    if not request.task_ids and not request.sample_ids:
        findings.add("task_ids", "give task_ids, sample_ids or both: whose texts to delete")
    _ids("task_ids", request.task_ids, findings)
    _ids("sample_ids", request.sample_ids, findings)
    findings.raise_if_any()
    caller = calling()
    whose = Whose(caller.feedback_owner, caller.scope)
    deleted = await delete_feedback(service.database, request.task_ids, request.sample_ids, whose)
    return pb.DeleteFeedbackResponse(reviews=deleted.reviews, job_rows=deleted.job_rows)


def _ids(field: str, values: Sequence[str], findings: Findings) -> None:
    if len(values) > MAX_IDS:
        findings.add(field, f"has {len(values):,} entries; at most {MAX_IDS:,} are allowed in a call")
        return
    for index, value in enumerate(values):
        findings.text(f"{field}[{index}]", value, MAX_NAME, required=True)
