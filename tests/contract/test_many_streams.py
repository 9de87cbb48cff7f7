"""A hundred readers of one job, from its start or from its middle: each gets every event once and in order.

benchmarks/load.py does the same with a thousand, beside a real training, and measures it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc
from quick_server import seed
from server_process import ServerProcess
from train_requests import train_request

STREAMS = 100


def test_every_stream_is_gapless_to_the_end(quick_server: Callable[..., ServerProcess]) -> None:
    server = quick_server()
    request = train_request("watched", epochs=100, activation=pb.ACTIVATION_ALWAYS)
    request.training.seed = seed(700)

    async def run() -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = pb_grpc.AdapterServiceStub(channel)
            training = stub.Train(request)
            events = aiter(training)
            first = await anext(events)
            job_id = first.job_id

            async def follow(number: int) -> tuple[int, list[bytes]]:
                # They come one after the other while the job runs, and begin where it stands or at its start.
                await asyncio.sleep(0.01 * number)
                job = (await stub.Status(pb.StatusRequest(job_id=job_id))).job
                after = job.last_sequence if number % 2 else 0
                watch = stub.Watch(pb.WatchRequest(job_id=job_id, after_sequence=after))
                return after, [event.SerializeToString() async for event in watch if event.sequence]

            follows = asyncio.gather(*(follow(number) for number in range(STREAMS)))
            whole = [first.SerializeToString(), *[e.SerializeToString() async for e in events if e.sequence]]
            seen = await follows
            assert [pb.TrainEvent.FromString(data).sequence for data in whole] == list(range(1, len(whole) + 1))
            assert pb.TrainEvent.FromString(whole[-1]).WhichOneof("event") == "succeeded"
            assert len(whole) > 100
            assert all(events == whole[after:] for after, events in seen)
            assert len({after for after, _ in seen}) > 10

    asyncio.run(run())
    assert not server.logged("rpc_broke")
