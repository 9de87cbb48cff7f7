"""WatchAdapter: the changes of what is in force, as a stream."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from lyra_adapters.v1 import adapter_service_pb2 as pb

from lyra_adapters_server.registry.links import follow_changes
from lyra_adapters_server.registry.pointer import unknown_adapter
from lyra_adapters_server.service.auth.scoping import check_adapter
from lyra_adapters_server.service.context import Service
from lyra_adapters_server.service.convert import pointer_change_message, timestamp
from lyra_adapters_server.service.fields import Findings
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import now_us


async def watch_adapter(service: Service, request: pb.WatchAdapterRequest) -> AsyncGenerator[pb.PointerChange]:
    """Streams the changes after a revision, and heartbeats. Raises Refusal."""
    adapter, after = request.adapter, request.after_revision
    findings = Findings()
    findings.adapter("adapter", adapter)
    findings.raise_if_any()
    check_adapter(adapter)
    pointer = await service.database.read(lambda connection: store.find_pointer(connection, adapter))
    if pointer is None and not request.wait_for_adapter:
        raise unknown_adapter(adapter)
    last = pointer.pointer_revision if pointer else 0
    if not 0 <= after <= last:
        findings.add("after_revision", f"is {after}; must be from 0 to {last}, the revision of the last change")
        findings.raise_if_any()
    following = follow_changes(service.database, adapter, after, service.heartbeat_s)
    async with contextlib.aclosing(following) as changes:
        async for change in changes:
            if change is None:
                yield pb.PointerChange(adapter=adapter, time=timestamp(now_us()), heartbeat=True)
            else:
                yield pointer_change_message(change)
