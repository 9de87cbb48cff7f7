"""The failures that the trainer explains to its caller. Imports no torch."""

from __future__ import annotations


class TrainerError(Exception):
    """A request can't be done, for a reason worth telling.

    Attributes:
        reason: A stable upper-case word, such as `BASE_MODEL_LOAD_FAILED`.
        message: One sentence for a person. Never holds a sample's text.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
