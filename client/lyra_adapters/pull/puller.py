"""Brings a directory, and the engines that serve from it, to what is in force, once or for as long as it runs."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lyra_adapters.client import AdapterClient
from lyra_adapters.errors import AdapterError, NotFound
from lyra_adapters.models.versions import AdapterFormat, PointerChange
from lyra_adapters.pull.directory import HostDirectory, InForce
from lyra_adapters.pull.follower import Follower, in_force
from lyra_adapters.pull.hooks import Hook, HookFailed, Situation
from lyra_adapters.pull.names import BASE, check_adapter
from lyra_adapters.pull.reports import Report, Reporter, What

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
# How often hooks that look again do so.
LOOK_AGAIN_S = 30.0
# How soon a stop is noticed while nothing happens.
POLL_S = 0.25


class OutOfDate(Exception):
    """Something else is in force by now: what is being fetched is not wanted any more."""


class Puller:
    """Keeps one adapter in one directory.

    Args:
        client: For `follow` one that does not reconnect by itself (`ReconnectPolicy(give_up_after=0)`).
        adapter: The adapter.
        to: The directory.
        format: The form of the files. Default: PEFT.
        keep: How many versions to keep beside the one in force, those that were in force last; None: all.
        hooks: What is told after each change, in this order.
        tell: Called with everything that happens, one at a time, from more than one thread.

    Raises:
        InvalidArgument: The adapter's name is none.
    """

    def __init__(
        self,
        client: AdapterClient,
        adapter: str,
        to: Path,
        *,
        format: AdapterFormat = AdapterFormat.PEFT,
        keep: int | None = None,
        hooks: Sequence[Hook] = (),
        tell: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self._client = client
        self._adapter = check_adapter(adapter)
        self._directory = HostDirectory(to, adapter)
        self._format = format
        self._keep = keep
        self._hooks = hooks
        self._report = Reporter(tell)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ends `follow` soon; may be called from another thread or a signal's handler."""
        self._stop.set()

    def once(self) -> InForce:
        """Brings directory and hooks to what is in force now.

        Raises:
            AdapterError: The server is not reached, the adapter is unknown, or the version can't be had.
            HookFailed: A hook did not do its work; the directory is right, and the next pull tries the hook again.
            OSError: The disk is full, or can't be written.
        """
        with self._directory:
            change = in_force(self._client, self._adapter)
            if change is None:
                raise NotFound(f"There is no adapter {self._adapter!r}.", reason="ADAPTER_NOT_FOUND")
            state = self._bring(change)
            for hook in self._hooks:
                self._call(hook, change)
            self._prune(change)
            return state

    def follow(self) -> None:
        """Keeps directory and hooks in step until `stop`; troubles are reported and tried again. Closes the client.

        Raises:
            AdapterError: The directory is another pull's, or something stands where the link belongs.
            OSError: The directory can't be made.
        """
        with self._directory:
            follower = Follower(self._client, self._adapter, self._report)
            follower.start()
            threading.Thread(target=self._close_on_stop, args=[follower], daemon=True).start()
            try:
                while not self._stop.is_set():
                    follower.news.clear()
                    if follower.fault is not None:
                        raise follower.fault
                    change = follower.newest
                    if change is None:
                        follower.news.wait(POLL_S)
                    else:
                        self._keep_in_step(change, follower)
            finally:
                self._stop.set()

    def _close_on_stop(self, follower: Follower) -> None:
        """Ends the calls that are under way. On a thread: a signal's handler must not touch the channel."""
        self._stop.wait()
        follower.stop()
        self._client.close()

    def _keep_in_step(self, change: PointerChange, follower: Follower) -> None:
        """Works on one change until there is another one, or `stop`: directory, then hooks, then old versions."""

        def out_of_date() -> bool:
            return self._stop.is_set() or follower.newest != change or follower.fault is not None

        def bring() -> float:
            self._bring(change, out_of_date)
            return float("inf")

        def call(hook: Hook) -> float:
            self._call(hook, change)
            return LOOK_AGAIN_S if hook.looks_again else float("inf")

        directory = _Task(bring)
        hooks = [_Task(functools.partial(call, hook), hook.name) for hook in self._hooks]
        while not out_of_date():
            follower.news.clear()
            for task in (directory, *hooks):
                # Hooks are told of what is there.
                if not out_of_date() and (task is directory or directory.done):
                    self._try(task, change)
            if not out_of_date() and all(task.done for task in (directory, *hooks)):
                self._prune(change)
            follower.news.wait(POLL_S)

    def _try(self, task: _Task, change: PointerChange) -> None:
        """Does a task if it is due; reports each new failure once."""
        if time.monotonic() < task.due:
            return
        details = {"hook": task.hook, "active": change.active, "pointer_revision": change.pointer_revision}
        try:
            again_in = task.work()
        except OutOfDate:
            return
        except (AdapterError, HookFailed, OSError) as error:
            pause = task.failed()
            message = _words(error)
            if message != task.trouble and not self._stop.is_set():
                what = What.HOOK_FAILED if task.hook else What.FAILED
                said = message if task.hook else f"{change.active} can't be put in place: {message}"
                self._report(what, said, retry_in=round(pause, 1), **details)
            task.trouble = message
        else:
            if task.trouble:
                self._report(What.MENDED, f"{task.hook or change.active}: it worked now", **details)
            task.succeeded(again_in)

    def _bring(self, change: PointerChange, out_of_date: Callable[[], bool] = lambda: False) -> InForce:
        """Makes the directory say what the change says. Raises AdapterError, OSError, OutOfDate."""

        def on_progress(_have: int, _whole: int) -> None:
            if out_of_date():
                raise OutOfDate

        directory = self._directory
        directory.clean(change.active)
        if change.active != BASE:
            # Checks what is there already, too, and mends it.
            self._client.download(
                self._adapter,
                directory.version(change.active),
                version=change.active.removeprefix(f"{self._adapter}_"),
                format=self._format,
                overwrite=True,
                keep_partial=True,
                on_progress=on_progress,
            )
        state = directory.switch(change, self._format)
        where = f", in {directory.link}" if state.path else ""
        self._report(
            What.IN_FORCE,
            f"{change.active} is in force (revision {change.pointer_revision}){where}",
            active=change.active,
            pointer_revision=change.pointer_revision,
            path=state.path,
        )
        return state

    def _call(self, hook: Hook, change: PointerChange) -> None:
        """Tells a hook what is in force, unless it was told and need not look again. Raises HookFailed."""
        told = self._directory.told()
        known = told.get(hook.name)
        if known == _fact(change) and not hook.looks_again:
            return
        previous = str(known.get("active", "")) if isinstance(known, dict) else ""
        path = None if change.active == BASE else self._directory.root / change.active
        situation = Situation(self._adapter, change.active, previous, change.pointer_revision, path)
        changed = hook.apply(situation, self._stop)
        if known != _fact(change):
            try:
                self._directory.note_told({**told, hook.name: _fact(change)})
            except OSError as error:
                raise HookFailed(f"{hook.name} did its work, but that can't be noted: {_words(error)}") from None
        if changed:
            self._report(
                What.HOOK_DONE,
                f"{hook.name}: told of {change.active}",
                hook=hook.name,
                active=change.active,
                pointer_revision=change.pointer_revision,
            )

    def _prune(self, change: PointerChange) -> None:
        """Removes old versions. Only once all hooks were told: no engine refers to one then."""
        if self._keep is None:
            return
        removed = self._directory.prune(self._keep)
        if removed:
            self._report(What.PRUNED, f"Removed {', '.join(removed)}", active=change.active)


class _Task:
    """Something that is tried until it succeeds, after pauses that double.

    Args:
        work: Does it; returns the seconds after which it is to be done again.
        hook: The hook's name, for one of a hook.
    """

    def __init__(self, work: Callable[[], float], hook: str = "") -> None:
        self.work = work
        self.hook = hook
        self.done = False
        self.due = 0.0
        # What the last failure said.
        self.trouble = ""
        self._wait = FIRST_WAIT_S

    def failed(self) -> float:
        """Notes a failure; returns the seconds to the next try."""
        pause = self._wait * (1 - 0.5 * random.random())  # noqa: S311 - no secret
        self._wait = min(LONGEST_WAIT_S, self._wait * 2)
        self.due = time.monotonic() + pause
        return pause

    def succeeded(self, again_in: float) -> None:
        """Notes a success."""
        self.done, self.trouble, self._wait = True, "", FIRST_WAIT_S
        self.due = time.monotonic() + again_in


def _fact(change: PointerChange) -> dict[str, str | int]:
    return {"active": change.active, "pointer_revision": change.pointer_revision}


def _words(error: Exception) -> str:
    """An error on one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
