"""Where the shim's own log goes, and what never gets into it."""

from __future__ import annotations

import logging
import sys
import traceback


class Wordless(logging.Formatter):
    """Prints of an exception its kind and where it came from, not its message: that may quote a user's text."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name is logging's
        """The places and the kinds of an exception and its causes."""
        error = ei[1] if isinstance(ei, tuple) else None
        parts = []
        while isinstance(error, BaseException):
            places = traceback.extract_tb(error.__traceback__)
            parts.append(
                "".join(f"  {place.filename}:{place.lineno} in {place.name}\n" for place in places)
                + f"{type(error).__module__}.{type(error).__qualname__}"
            )
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(reversed(parts))


def configure() -> None:
    """Logs warnings and worse to standard error; standard output belongs to the protocol.

    The SDK logs at INFO what a tool told its caller, and callers' mistakes may quote their texts.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Wordless("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
