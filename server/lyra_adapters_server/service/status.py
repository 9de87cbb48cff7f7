"""The state of the service, read on one snapshot."""

from __future__ import annotations

from lyra_adapters.v1 import adapter_service_pb2 as pb
from sqlalchemy import Connection

from lyra_adapters_server.service.base_models import base_status
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import adapter_status, job_message, timestamp
from lyra_adapters_server.storage import jobs as job_store
from lyra_adapters_server.storage import versions as version_store
from lyra_adapters_server.storage.jobs import JobRecord
from lyra_adapters_server.storage.versions import PointerRecord

MAX_QUEUED = 100


async def service_status(service: Service) -> pb.ServiceStatus:
    """Version, device, base models, queue, running jobs, and what is in force under each name."""

    def read(connection: Connection) -> tuple[list[JobRecord], int, list[JobRecord], list[PointerRecord]]:
        queued, total = job_store.queue(connection, MAX_QUEUED)
        return queued, total, job_store.running(connection), version_store.all_pointers(connection)

    queued, total, running, pointers = await service.database.read(read)
    cards = [card for base in service.bases if (card := service.executor.card(base.alias))]
    return pb.ServiceStatus(
        version=service.version,
        start_time=timestamp(service.start_time),
        device=cards[0].device if cards else "",
        base_models=[base_status(base, service.executor) for base in service.bases],
        queued_jobs=[job_message(job, position) for position, job in enumerate(queued, start=1)],
        running_jobs=[job_message(job) for job in running],
        queue_length=total,
        adapters=[adapter_status(pointer) for pointer in pointers],
    )
