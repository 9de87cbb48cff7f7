"""Callers who leave a stream at its first event, as detached clients do, over and over: the server lives on."""

from __future__ import annotations

import asyncio

from lyra_adapters import AsyncAdapterClient
from server_process import ServerProcess
from tiny_base import rows


def test_streams_left_at_once_do_no_harm(server: ServerProcess) -> None:
    async def leave(times: int) -> None:
        async with AsyncAdapterClient(server.address) as client:
            for _ in range(times):
                async with client.train(rows(60), adapter="left", training={"epochs": 1}) as stream:
                    job_id = (await anext(stream)).job_id
                # What the server does next makes it let go of the stream that was left.
                await client.job(job_id)
                async with client.watch(job_id) as stream:
                    await anext(stream)
                await client.cancel(job_id)

    asyncio.run(leave(15))
    assert server.process.poll() is None
    left = [line for line in server.logged("rpc") if line["method"] == "Train" and line["code"] == "CANCELLED"]
    assert left
    assert all(line["peer"].startswith("ipv4:127.0.0.1") for line in left)
