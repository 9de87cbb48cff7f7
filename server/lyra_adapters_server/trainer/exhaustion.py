"""Memory that has run out: how it shows, and the smaller micro-batches that follow. Imports no torch."""

from __future__ import annotations

import traceback

from lyra_adapters_server.trainer.errors import TrainerError

# torch raises a class of its own on devices, and plain RuntimeErrors with these words elsewhere.
_WORDS = ("can't allocate memory", "out of memory", "bad_alloc", "could not create a memory", "ALLOC_FAILED")


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the host's or a device's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def let_frames_go(error: BaseException) -> None:
    """Frees what the frames of an error hold, which are tensors: without that their memory does not come back."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None


class TokenBudget:
    """The padded tokens that a micro-batch may have; less each time that memory runs out.

    Attributes:
        tokens: The limit now.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def halve(self, rows: int, width: int) -> None:
        """Halves the limit until a micro-batch like the one that failed has to be split.

        Args:
            rows: Of the micro-batch that failed.
            width: Its longest row, in tokens.

        Raises:
            TrainerError: OUT_OF_MEMORY, if it had one row.
        """
        if rows <= 1:
            raise TrainerError(
                "OUT_OF_MEMORY",
                f"memory does not suffice for a single row of {width} tokens. A smaller max_length, fewer target "
                "modules or a smaller base model need less; or free memory on the trainer's machine",
            )
        while rows * width <= self.tokens:
            self.tokens //= 2
