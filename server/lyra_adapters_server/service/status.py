"""The state of the service, read on one snapshot."""

from __future__ import annotations

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.feedback.outlook import Outlook, outlooks
from lyra_adapters_server.service.auth.caller import calling
from lyra_adapters_server.service.base_models import base_status
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import adapter_status, job_message, timestamp
from lyra_adapters_server.service.training_request import DEFAULT_ADAPTER
from lyra_adapters_server.storage import jobs as job_store
from lyra_adapters_server.storage import versions as version_store
from lyra_adapters_server.storage.jobs import JobRecord
from lyra_adapters_server.storage.versions import PointerRecord

MAX_QUEUED = 100


async def service_status(service: Service) -> pb.ServiceStatus:
    """Version, device, base models, queue, running jobs, and for each name what is in force and whether to train."""
    caller = calling()

    def read(
        connection: Connection,
    ) -> tuple[list[tuple[JobRecord, int]], int, list[JobRecord], list[PointerRecord], dict[str, Outlook]]:
        queued, total = job_store.queue(connection, MAX_QUEUED, caller.scope)
        pointers = version_store.all_pointers(connection, caller.scope)
        names = [pointer.adapter for pointer in pointers]
        found = outlooks(connection, {*names, DEFAULT_ADAPTER}, caller.feedback_owner)
        # Where there is feedback, whether to train is asked before anything was trained.
        missing = DEFAULT_ADAPTER in caller.scope and DEFAULT_ADAPTER not in names
        if missing and found[DEFAULT_ADAPTER].due.counts.samples:
            pointers.append(PointerRecord(DEFAULT_ADAPTER, None, 0, None))
        return queued, total, job_store.running(connection, caller.scope), pointers, found

    # Those who poll ask more often than anything changes.
    key = ("service", caller.scope, caller.feedback_owner)
    queued, total, running, pointers, due = await service.database.read_kept(key, read)
    cards = [card for base in service.bases if (card := service.executor.card(base.alias))]
    return pb.ServiceStatus(
        version=service.version,
        start_time=timestamp(service.start_time),
        device=cards[0].device if cards else "",
        base_models=[base_status(base, service.executor) for base in service.bases],
        queued_jobs=[job_message(job, position) for job, position in queued],
        running_jobs=[job_message(job) for job in running],
        queue_length=total,
        adapters=[adapter_status(pointer, due[pointer.adapter]) for pointer in pointers],
    )
