"""That the server is on its way out: what is refused from then on, and who is told."""

from __future__ import annotations

from collections.abc import Callable

from lyra_adapters_server.errors import Kind, Refusal

# When a caller should come back: the rest of the stop, and the start of the next server, take a few seconds.
RETRY_S = 2.0


class Stopping:
    """Whether the server has begun to stop. Once begun it is not taken back."""

    def __init__(self) -> None:
        self.begun = False
        self._calls: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Begins, and tells whoever asked to be told."""
        self.begun = True
        for call in self._calls:
            call()

    def on_begin(self, call: Callable[[], None]) -> None:
        """Calls back when it begins."""
        self._calls.append(call)

    def refuse(self) -> None:
        """Refuses what can't be begun or gone on with any more. Raises Refusal once the server stops."""
        if self.begun:
            raise Refusal(
                Kind.UNAVAILABLE,
                "SERVER_STOPPING",
                "The server is stopping. Jobs are kept and go on at its next start; try again in a few seconds.",
                retry_after_s=RETRY_S,
            )
