"""When a worker's silence is taken for a hang."""

from __future__ import annotations

import asyncio
import time

from lyra_adapters_server.executors.death import describe_death
from lyra_adapters_server.executors.watch import HangLimits, HangWatch

LIMITS = HangLimits(working=0.2, loading=60.0)


def watched(busy: bool, loading: bool, signs: int = 0, block_s: float = 0.0) -> float | None:
    """Seconds of silence that were told; None if it was not taken for a hang within a second."""

    async def run() -> float | None:
        watch = HangWatch(LIMITS)
        over = asyncio.create_task(watch.overdue(lambda: busy, lambda: loading))
        await asyncio.sleep(0)
        for _ in range(signs):
            await asyncio.sleep(0.05)
            watch.sign()
        if block_s:
            # What the worker said meanwhile is read after this.
            time.sleep(block_s)  # noqa: ASYNC251 - the standstill is what is tested
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            watch.sign()
            assert not over.done()
            over.cancel()
            return None
        try:
            return await asyncio.wait_for(over, 1.0)
        except TimeoutError:
            return None

    return asyncio.run(run())


def test_silence_with_work_is_a_hang() -> None:
    silent = watched(busy=True, loading=False)
    assert silent is not None
    assert 0.2 < silent < 0.9


def test_signs_put_it_off() -> None:
    begun = time.monotonic()
    assert watched(busy=True, loading=False, signs=10) is not None
    assert time.monotonic() - begun > 0.5


def test_silence_without_work_is_rest() -> None:
    assert watched(busy=False, loading=False) is None


def test_loading_may_take_longer() -> None:
    assert watched(busy=True, loading=True) is None


def test_a_standstill_of_the_server_is_not_the_workers() -> None:
    watched(busy=True, loading=False, block_s=0.5)


def test_how_a_worker_ended_in_words() -> None:
    assert "SIGKILL" in describe_death(-9, None)
    assert "memory" in describe_death(-9, None)
    assert "SIGSEGV" in describe_death(-11, None)
    assert "exit status 3" in describe_death(3, None)
    assert "no sign of life for 61 s" in describe_death(-9, 61.2)
    assert describe_death(None, None) == "the trainer process has ended"
