"""The trainer's process: `python -m lyra_adapters_server.trainer.worker --fd N`.

The first line on the socket is the WorkerConfig; then Requests come and Replies go. Requests take turns, each half a
micro-batch of training or one of scoring, so scoring and cancelling never wait for a whole training. What somebody
waits for does not even wait for a turn to end: it is begun between two layers of whatever is computed. When the other
side closes the socket, the process ends: without its server nobody would take the result.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any

from pydantic import ValidationError

from lyra_adapters_server import failpoints, logs
from lyra_adapters_server.trainer.channel import LineChannel
from lyra_adapters_server.trainer.environment import set_environment
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import (
    OF_ITSELF,
    Alive,
    BaseChanged,
    BaseLoaded,
    Reply,
    RequestError,
    TrainerEvent,
)
from lyra_adapters_server.trainer.exhaustion import is_exhaustion
from lyra_adapters_server.trainer.orphan import end_without_server
from lyra_adapters_server.trainer.spec import (
    SUSPENDED,
    CancelSpec,
    ClassifySpec,
    FormatSpec,
    LoadSpec,
    Request,
    ScoreSpec,
    SuspendSpec,
    TrainSpec,
    WorkerConfig,
)
from lyra_adapters_server.trainer.suspend import Suspend

LOG = logging.getLogger(__name__)

Work = Iterator[TrainerEvent | None]

# What is begun in the midst of another request's turn.
URGENT = frozenset({"classify"})

# Least seconds between two signs of life. They are sent after turns of work, not by a clock.
ALIVE_S = 1.0


class Worker:
    """Runs requests side by side on one thread.

    Args of the constructor: the channel, for each method what turns its parameters into a generator, and what to do
    unasked at the start.
    """

    def __init__(
        self, channel: LineChannel, methods: dict[str, Callable[[dict[str, Any]], Work]], start: Work | None = None
    ) -> None:
        self._channel = channel
        self._methods = methods
        # What it does of itself takes turns with the requests.
        self._running: dict[int, Work] = {OF_ITSELF: start} if start is not None else {}
        # Lines that came in the midst of a turn and are for after it.
        self._later: list[bytes] = []
        # Whether nothing may be begun now in the midst of a turn.
        self._undisturbed = False
        self._urgent: set[int] = set()
        self._told = 0.0

    def run(self) -> None:
        """Serves until the other side closes; what is running then ends unfinished."""
        try:
            self._serve()
        except (BrokenPipeError, ConnectionResetError):
            LOG.info("the server is gone")
        finally:
            for number in list(self._running):
                # Whoever starts the next worker can go on from there. Nobody listens any more.
                with contextlib.suppress(OSError):
                    self._suspend(number)

    def _serve(self) -> None:
        while True:
            later, self._later = self._later, []
            for line in [*later, *self._channel.lines(wait=not self._running and not later)]:
                self.accept(line)
            if self._channel.closed:
                return
            # The newest first: a question of a moment waits for the turn that is under way, not for another one.
            for number in sorted(self._running, reverse=True):
                # An urgent one may have ended in the midst of another's turn, and another one is not to delay it.
                if number in self._running:
                    self._undisturbed = number in self._urgent
                    self._turn(number)
            self._tell_of_progress()

    def between_layers(self) -> None:
        """Begins what is urgent, in the midst of another request's turn; its first turn is done when this returns."""
        if self._undisturbed:
            return
        self._undisturbed = True
        try:
            for line in self._channel.lines(wait=False):
                if _method(line) in URGENT:
                    known = set(self._running)
                    self.accept(line)
                    for number in set(self._running) - known:
                        self._turn(number)
                else:
                    self._later.append(line)
        finally:
            self._undisturbed = False

    def accept(self, line: bytes) -> None:
        """Starts the request of a line, or answers it at once."""
        try:
            request = Request.model_validate_json(line)
        except ValidationError as error:
            LOG.error("a line was not a request: %s", _fields(error))
            return
        number = request.id
        try:
            if number in self._running:
                raise TrainerError("INVALID_SPEC", f"request {number} is running already")
            if request.method == "cancel":
                self._cancel(number, CancelSpec.model_validate(request.params))
            elif request.method == "suspend":
                target = SuspendSpec.model_validate(request.params).target
                if target in self._running:
                    self._suspend(target)
                self._channel.send(Reply(id=number, done=True).model_dump_json())
            else:
                self._running[number] = self._methods[request.method](request.params)
                if request.method in URGENT:
                    self._urgent.add(number)
                LOG.info("request %d: %s", number, request.method)
        except ValidationError as error:
            self._fail(number, RequestError(reason="INVALID_SPEC", message=_fields(error)))
        except TrainerError as error:
            self._fail(number, RequestError(reason=error.reason, message=error.message))

    def _cancel(self, number: int, spec: CancelSpec) -> None:
        # Cancelling what has already ended is no error: the two lines crossed.
        if spec.target in self._running:
            self._stop(spec.target)
            LOG.info("request %d: cancelled", spec.target)
            self._fail(spec.target, RequestError(reason="CANCELLED", message="cancelled on request"))
        self._channel.send(Reply(id=number, done=True).model_dump_json())

    def _suspend(self, number: int) -> None:
        """Lets a request write down what it needs to go on elsewhere, and ends it."""
        work = self._running[number]
        try:
            event = work.throw(Suspend()) if isinstance(work, Generator) else None
            while event is not None:
                self._channel.send(Reply(id=number, event=event).model_dump_json())
                event = next(work)
        except (StopIteration, Suspend):
            pass
        except OSError:
            raise
        except Exception as error:
            # It will go on from an earlier point, then.
            LOG.warning("request %d could not be put aside: %s", number, describe_failure(error).message)
        finally:
            self._stop(number)
        LOG.info("request %d: suspended", number)
        ended = RequestError(reason=SUSPENDED, message="put aside on request")
        self._channel.send(Reply(id=number, error=ended, done=True).model_dump_json())

    def _tell_of_progress(self) -> None:
        now = time.monotonic()
        if self._running and now - self._told >= ALIVE_S:
            self._told = now
            self._channel.send(Reply(id=OF_ITSELF, event=Alive()).model_dump_json())

    def _turn(self, number: int) -> None:
        try:
            event = next(self._running[number])
            while event is not None:
                self._channel.send(Reply(id=number, event=event).model_dump_json())
                if number not in self._urgent:
                    return
                # That was its answer. Whoever asked hears that it is done before anybody else has a turn.
                event = next(self._running[number])
        except StopIteration:
            # Answered first: letting go of the memory takes a while, and nobody need wait for it.
            self._channel.send(Reply(id=number, done=True).model_dump_json())
            self._stop(number)
            LOG.info("request %d: done", number)
        except Exception as error:
            failure = describe_failure(error)
            # The frames of the failure hold tensors; without them the memory comes back.
            traceback.clear_frames(error.__traceback__)
            self._stop(number)
            self._fail(number, failure)

    def _stop(self, number: int) -> None:
        work = self._running.pop(number)
        urgent = number in self._urgent
        self._urgent.discard(number)
        if hasattr(work, "close"):
            work.close()
        del work
        # It takes a fifth of a second, which a training beside it would wait for, or the next question.
        if not self._running and not urgent:
            gc.collect()

    def _fail(self, number: int, failure: RequestError) -> None:
        LOG.warning("request %d: %s: %s", number, failure.reason, failure.message)
        self._channel.send(Reply(id=number, error=failure, done=True).model_dump_json())


def describe_failure(error: Exception) -> RequestError:
    """Says why a request failed, without the texts of samples that an unforeseen error's message may hold."""
    if isinstance(error, TrainerError):
        return RequestError(reason=error.reason, message=error.message)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} in {os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119
    if _is_full_disk(error):
        return RequestError(
            reason="DISK_FULL",
            message="The disk that holds the registry is full, so the trainer could not write its files; what is in "
            "force has not changed. Free space there or delete versions, then send the job again.",
        )
    if is_exhaustion(error):
        return RequestError(reason="OUT_OF_MEMORY", message=f"the device's memory does not suffice ({place})")
    LOG.error("unforeseen: %s\n%s", place, "".join(traceback.format_tb(error.__traceback__)))
    return RequestError(reason="INTERNAL", message=f"unforeseen {place}")


def _is_full_disk(error: Exception) -> bool:
    # safetensors raises its own class with the system's words.
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(f"(os error {number})" in str(error) for number in full)


def _method(line: bytes) -> str:
    try:
        return Request.model_validate_json(line).method
    except ValidationError:
        return ""


def _fields(error: ValidationError) -> str:
    # The values are left out: they may be a sample's text.
    found = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'line'}: {item['type']}" for item in found[:5])


def _make_worker(config: WorkerConfig, channel: LineChannel) -> Worker:
    # Imported here, after niceness is set and the caller has been answered to: these bring torch.
    from lyra_adapters_server.trainer.bases import Bases
    from lyra_adapters_server.trainer.devices import keep_freed_memory, use_threads
    from lyra_adapters_server.trainer.formats.make import make_format
    from lyra_adapters_server.trainer.loop import train
    from lyra_adapters_server.trainer.score import classify, score

    keep_freed_memory()
    LOG.info("%d threads", use_threads(config.threads))

    def tell(change: BaseChanged) -> None:
        channel.send(Reply(id=OF_ITSELF, event=change).model_dump_json())

    exact = config.classify_dtype == "float32"
    # Before anything is computed there is a worker.
    bases = Bases(config, tell, lambda: worker.between_layers())

    def load(spec: LoadSpec) -> Work:
        yield from bases.prepare(spec.base_alias)
        with bases.use(spec.base_alias) as base:
            yield BaseLoaded(card=base.card)

    methods: dict[str, Callable[[dict[str, Any]], Work]] = {
        "load": lambda params: load(LoadSpec.model_validate(params)),
        "train": lambda params: train(TrainSpec.model_validate(params), bases),
        "score": lambda params: score(ScoreSpec.model_validate(params), bases),
        "classify": lambda params: classify(ClassifySpec.model_validate(params), bases, exact),
        "make_format": lambda params: make_format(FormatSpec.model_validate(params), bases),
    }
    worker = Worker(channel, methods, bases.start())
    return worker


def main(arguments: list[str] | None = None) -> int:
    """Runs the process. Returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="an inherited, connected stream socket")
    options = parser.parse_args(arguments)
    # Ctrl-C on the server's terminal reaches this process too; the server decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=options.fd)
    end_without_server(connection)
    channel = LineChannel(connection)
    first: list[bytes] = []
    while not first and not channel.closed:
        first = channel.lines(wait=True)
    if not first:
        return 0
    try:
        config = WorkerConfig.model_validate_json(first[0])
    except ValidationError as error:
        LOG.error("the first line is not a configuration: %s", _fields(error))
        return 2
    logs.configure(config.log_format, config.log_level, process="trainer")
    failpoints.arm_from_environment()
    if config.nice and hasattr(os, "nice"):
        os.nice(config.nice)
    set_environment()
    worker = _make_worker(config, channel)
    for line in first[1:]:
        worker.accept(line)
    worker.run()
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Taking torch and transformers down piece by piece takes more than a second, which whoever stops or restarts a
    # server would wait for; nothing that is written hangs on it.
    os._exit(status)
