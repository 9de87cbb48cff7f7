"""A thousand readers and a hundred calls a second beside a training: does it slow, does anybody miss anything?

    python benchmarks/load.py [--streams 1000] [--calls 100] [--pairs 2] [--output docs/results/load.md]

On two cores: the trainer is held to one; the server and everything that makes load share the other. The same training
(same rows, same seed) runs without load and with it, in pairs one after the other; what is compared is the time from
its `started` event to its `published` one. Needs Linux (processes are held to cores from outside). Takes about four
minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import psutil
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters.v1 import adapter_service_pb2_grpc as pb_grpc

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

# Streams of one channel share a connection.
STREAMS_A_CHANNEL = 125
WATCHERS = 2
WATCH = "/lyra_adapters.v1.AdapterService/Watch"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=100, help="Status calls a second")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--base", default="demo")
    parser.add_argument("--cores", default="0,1", help="server and load; trainer")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--role", choices=("watch", "status"), help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "watch":
        asyncio.run(watch_all(arguments.address, arguments.streams))
    elif arguments.role == "status":
        asyncio.run(call_status(arguments.address, arguments.calls))
    else:
        report, kept = measure(arguments)
        print(report)
        if arguments.output:
            arguments.output.write_text(report, encoding="utf-8")
        return 0 if kept else 1
    return 0


# ------------------------------------------------------------------------------------------------- what makes the load


async def watch_all(address: str, streams: int) -> None:
    """Follows the job that standard input names with so many streams; prints what each saw."""
    channels = [
        grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(streams // STREAMS_A_CHANNEL + 1)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    print("ready", flush=True)
    job_id = (await asyncio.to_thread(sys.stdin.readline)).strip()

    async def follow(number: int) -> dict[str, Any]:
        watch = channels[number % len(channels)].unary_stream(WATCH, pb.WatchRequest.SerializeToString)
        expected, heartbeats, lags, kind = 1, 0, [], ""
        opened = time.time()
        try:
            async for data in watch(pb.WatchRequest(job_id=job_id)):
                event = pb.TrainEvent.FromString(data)
                if not event.sequence:
                    heartbeats += 1
                    continue
                if event.sequence != expected:
                    return {"problem": f"event {event.sequence} where {expected} was due"}
                expected += 1
                kind = event.WhichOneof("event") or ""
                written = event.time.seconds + event.time.nanos / 1e9
                if written > opened + 2:
                    lags.append(time.time() - written)
        except grpc.RpcError as error:
            return {"problem": f"{error.code()}: {error.details()}"}
        problem = "" if kind == "succeeded" else f"ended after {kind or 'nothing'}"
        return {"problem": problem, "events": expected - 1, "heartbeats": heartbeats, "lags": lags}

    seen = await asyncio.gather(*(follow(number) for number in range(streams)))
    for channel in channels:
        await channel.close()
    lags = sorted(lag for one in seen for lag in one.get("lags", ()))
    print(
        json.dumps(
            {
                "problems": [one["problem"] for one in seen if one["problem"]],
                "whole": sum(not one["problem"] for one in seen),
                "events": sorted({one["events"] for one in seen if "events" in one}),
                "messages": sum(one.get("events", 0) + one.get("heartbeats", 0) for one in seen),
                "lags": lags[:: max(1, len(lags) // 5000)],
            }
        ),
        flush=True,
    )


async def call_status(address: str, rate: int) -> None:
    """Calls Status so often a second until the job that standard input names has ended; prints the latencies.

    Each call is due at a time that does not wait for the ones before, and its latency counts from then: a stall is not
    hidden by calling less.
    """
    channel = grpc.aio.insecure_channel(address)
    stub = pb_grpc.AdapterServiceStub(channel)
    await channel.channel_ready()
    print("ready", flush=True)
    job_id = (await asyncio.to_thread(sys.stdin.readline)).strip()
    latencies: list[float] = []
    failures: list[str] = []
    ended = False

    async def call(due: float, number: int) -> None:
        nonlocal ended
        try:
            # By turns of the job and of the whole service.
            answer = await stub.Status(pb.StatusRequest(job_id=job_id if number % 2 else ""))
            latencies.append(time.perf_counter() - due)
            ended = ended or answer.job.state in (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED)
        except grpc.RpcError as error:
            failures.append(f"{error.code()}: {error.details()}")

    begun, number, calls = time.perf_counter(), 0, set()
    while not ended:
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(call(due, number))
        calls.add(task)
        task.add_done_callback(calls.discard)
        number += 1
    await asyncio.gather(*calls)
    await channel.close()
    print(json.dumps({"latencies": latencies, "failures": failures}), flush=True)


# ------------------------------------------------------------------------------------------------------ what measures


def measure(arguments: argparse.Namespace) -> tuple[str, bool]:
    """Runs the pairs; returns the report and whether every bound was kept."""
    from server_process import ServerProcess

    server_core, trainer_core = (int(core) for core in arguments.cores.split(","))
    os.sched_setaffinity(0, {server_core})
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        cache = ROOT / "build" / "test-cache"
        cache.mkdir(parents=True, exist_ok=True)
        server = ServerProcess(Path(folder) / "home", arguments.base, cache, "--threads", "1")
        try:
            server.wait_for_log("base_loaded", seconds=300)
            for thread in psutil.Process(trainer_pid(server)).threads():
                os.sched_setaffinity(thread.id, {trainer_core})
            idle = rss(server.process.pid)
            train(server, arguments, loaded=False, epochs=1)  # warms up
            for number in range(arguments.pairs):
                order = (False, True) if number % 2 == 0 else (True, False)
                runs = {loaded: train(server, arguments, loaded=loaded) for loaded in order}
                pairs.append((runs[False], runs[True]))
                print(f"pair {number + 1}: {describe(runs[True], runs[False])}", file=sys.stderr, flush=True)
        finally:
            server.stop()
    return report(arguments, pairs, idle)


def trainer_pid(server: Any) -> int:
    (child,) = psutil.Process(server.process.pid).children()
    return int(child.pid)


def rss(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def train(server: Any, arguments: argparse.Namespace, *, loaded: bool, epochs: int = 0) -> dict[str, Any]:
    """One training; with load, what the load saw."""
    from train_requests import train_request

    helpers = []
    if loaded:
        each = arguments.streams // WATCHERS
        helpers = [helper(server, "watch", "--streams", str(each)) for _ in range(WATCHERS)]
        helpers.append(helper(server, "status", "--calls", str(arguments.calls)))
        for process in helpers:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
    # The name is the same each time, so that the same rows are held out, and nothing is put in force, so that the same
    # is scored before.
    request = train_request("loaded", arguments.rows, epochs or arguments.epochs, activation=pb.ACTIVATION_MANUAL)
    request.training.learning_rate = 5e-4
    request.training.patience = 0
    request.trigger.force = True
    stream = server.stub().Train(request)
    first = next(stream)
    for process in helpers:
        assert process.stdin
        process.stdin.write(first.job_id + "\n")
        process.stdin.flush()
    memory: list[float] = [rss(server.process.pid)]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.5):
            memory.append(rss(server.process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    times: dict[str, float] = {}
    events = 0
    for event in stream:
        kind = event.WhichOneof("event")
        times.setdefault(kind, event.time.seconds + event.time.nanos / 1e9)
        events += bool(event.sequence)
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in helpers]
    stop.set()
    sampler.join()
    assert "succeeded" in times, times
    return {
        "seconds": times["published"] - times["started"],
        "events": events + 1,
        "memory": max(memory),
        "watch": answers[:WATCHERS],
        "status": answers[WATCHERS:],
    }


def helper(server: Any, role: str, *flags: str) -> subprocess.Popen[str]:
    """A process that makes load, on the server's core; readers give way to the server and to the caller of Status."""
    command = [sys.executable, __file__, "--role", role, "--address", server.address, *flags]
    if role == "watch":
        command = ["nice", "-n", "10", *command]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# -------------------------------------------------------------------------------------------------------- what it says


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def latencies(run: dict[str, Any]) -> list[float]:
    return [1000 * value for answer in run["status"] for value in answer["latencies"]]


def describe(loaded: dict[str, Any], free: dict[str, Any]) -> str:
    problems = [problem for answer in loaded["watch"] for problem in answer["problems"]]
    calls, ratio = latencies(loaded), loaded["seconds"] / free["seconds"]
    return (
        f"{free['seconds']:.1f} s free, {loaded['seconds']:.1f} s loaded, ratio {ratio:.3f}; "
        f"{len(calls)} calls, p50 {percentile(calls, 0.5):.1f} ms, p99 {percentile(calls, 0.99):.1f} ms; "
        f"{loaded['memory']:.0f} MiB; {len(problems)} broken streams {problems[:2]}"
    )


def report(arguments: argparse.Namespace, pairs: list[tuple[Any, Any]], idle: float) -> tuple[str, bool]:
    """The table in Markdown, and whether every bound was kept."""
    from real_data import cpu_name

    lines = [
        "# Load beside a training",
        "",
        f"`python benchmarks/load.py --streams {arguments.streams} --calls {arguments.calls} "
        f"--pairs {arguments.pairs} --rows {arguments.rows} --epochs {arguments.epochs}` on {platform.machine()} with "
        f"{os.cpu_count()} cores ({cpu_name()}), no GPU.",
        "",
        f"Base: {arguments.base}. {arguments.rows} rows, {arguments.epochs} epochs, one thread. The trainer is held to "
        f"core {arguments.cores.split(',')[1]}; the server, {arguments.streams} Watch streams ({WATCHERS} processes) "
        f"and {arguments.calls} Status calls a second (by turns of the job and of the service; latency counts from the "
        f"time a call was due) share core {arguments.cores.split(',')[0]}.",
        "",
        "| pair | free | loaded | ratio | whole streams | messages | event lag p50, p99 | calls | failed | Status p50, "
        "p99, max | server memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    ratios, whole, all_calls, failed, memory = [], True, [], 0, 0.0
    for number, (free, loaded) in enumerate(pairs, start=1):
        ratio = loaded["seconds"] / free["seconds"]
        calls = latencies(loaded)
        good = sum(answer["whole"] for answer in loaded["watch"])
        lags = [1000 * lag for answer in loaded["watch"] for lag in answer["lags"]]
        failures = sum(len(answer["failures"]) for answer in loaded["status"])
        same = {count for answer in loaded["watch"] for count in answer["events"]} == {loaded["events"]}
        ratios.append(ratio)
        whole = whole and good == arguments.streams // WATCHERS * WATCHERS and same
        all_calls += calls
        failed += failures
        memory = max(memory, loaded["memory"])
        lines.append(
            f"| {number} | {free['seconds']:.1f} s | {loaded['seconds']:.1f} s | {ratio:.3f} | {good} of "
            f"{arguments.streams} | {sum(answer['messages'] for answer in loaded['watch']):,} | "
            f"{percentile(lags, 0.5):.0f}, {percentile(lags, 0.99):.0f} ms | {len(calls):,} | {failures} | "
            f"{percentile(calls, 0.5):.1f}, {percentile(calls, 0.99):.1f}, {max(calls, default=0):.0f} ms | "
            f"{loaded['memory']:.0f} MiB |"
        )
    median, p99 = statistics.median(ratios), percentile(all_calls, 0.99)
    bounds = [
        (f"every stream gapless to its job's end: {'yes' if whole else 'no'}", whole),
        (f"training slows by at most 5 %: median ratio {median:.3f}", median <= 1.05),
        (f"Status p99 at most 100 ms, no call failed: {p99:.1f} ms, {failed} failed", p99 <= 100 and not failed),
        (f"server memory under 400 MB: {memory * 2**20 / 1e6:.0f} MB ({idle:.0f} MiB idle)", memory * 2**20 < 400e6),
    ]
    lines += ["", *(f"- {'kept' if kept else '**missed**'}: {text}" for text, kept in bounds), ""]
    return "\n".join(lines), all(kept for _, kept in bounds)


if __name__ == "__main__":
    sys.exit(main())
