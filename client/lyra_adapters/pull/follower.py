"""Knows what is in force: asks, then follows, and comes back whenever the server does."""

from __future__ import annotations

import random
import threading
import time

from lyra_adapters.client import AdapterClient
from lyra_adapters.errors import AdapterError
from lyra_adapters.models.versions import PointerChange
from lyra_adapters.pull.names import BASE, check_change
from lyra_adapters.pull.reports import Reporter, What

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0


def in_force(client: AdapterClient, adapter: str) -> PointerChange | None:
    """The change that put in force what is in force; None if the server knows no version of the adapter.

    Raises:
        AdapterError: The server is not reached, or says something that can't be.
    """
    page = client.list(adapter, page_size=1, include_history=True)
    if page.history:
        return check_change(adapter, page.history[0])
    if page.items:
        return PointerChange(adapter=adapter, active=BASE, previous=BASE)
    return None


class Follower:
    """Follows one adapter on a thread of its own and keeps the newest change.

    What is in force is asked for again after every break, so that a registry that was restored meanwhile, or another
    one, is followed too. A reader that is slow gets the newest change only.

    Args:
        client: One that does not reconnect by itself (`ReconnectPolicy(give_up_after=0)`); close it to end a call that
            is under way after `stop`.
        adapter: The adapter.
        report: Told when the server is lost, and when it is back.
    """

    def __init__(self, client: AdapterClient, adapter: str, report: Reporter) -> None:
        self._client = client
        self._adapter = adapter
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{adapter}", daemon=True)
        self._trouble = ""
        self._waits = False
        # Set when there is news; cleared by the reader.
        self.news = threading.Event()
        # The newest change; None until the server was reached and has a version.
        self.newest: PointerChange | None = None
        # What ended the thread, where something unforeseen did.
        self.fault: Exception | None = None

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._keep_following()
        except Exception as fault:
            self.fault = fault
            self.news.set()

    def _keep_following(self) -> None:
        wait = FIRST_WAIT_S
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self._follow()
            except AdapterError as error:
                if self._stop.is_set():
                    return
                if time.monotonic() - begun > LONGEST_WAIT_S:
                    # It worked for a while: this is a new trouble.
                    wait = FIRST_WAIT_S
                pause = max(wait * (1 - 0.5 * random.random()), error.retry_after or 0.0)  # noqa: S311 - no secret
                message = error.message or (error.code.name if error.code else type(error).__name__)
                if message != self._trouble:
                    self._trouble = message
                    self._report(What.FAILED, f"{message} (trying again)", retry_in=round(pause, 1))
                self._stop.wait(pause)
                wait = min(LONGEST_WAIT_S, wait * 2)

    def _follow(self) -> None:
        """What is in force, and every change after it, until the stream breaks. Raises AdapterError."""
        self._note(in_force(self._client, self._adapter))
        revision = self.newest.pointer_revision if self.newest else 0
        with self._client.watch_adapter(self._adapter, after_revision=revision, wait_for_adapter=True) as changes:
            for change in changes:
                self._note(check_change(self._adapter, change))

    def _note(self, change: PointerChange | None) -> None:
        if self._trouble:
            self._trouble = ""
            self._report(What.MENDED, "The server is back")
        if change is None and not self._waits:
            self._waits = True
            self._report(What.WAITING, f"The server has no version of {self._adapter} yet; waiting for the first one")
        self.newest = change
        self.news.set()
