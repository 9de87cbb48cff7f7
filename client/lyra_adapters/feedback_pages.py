"""Cuts any number of reviews into calls that a server takes, and puts the answers together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lyra_adapters import convert, requests
from lyra_adapters.errors import FieldViolation, InvalidArgument
from lyra_adapters.models.service import FeedbackReceipt
from lyra_adapters.requests import Call
from lyra_adapters.v1 import adapter_service_pb2 as pb

# The server takes 5,000 reviews and 16 MiB; smaller calls hold up other callers less.
MAX_REVIEWS = 1_000
MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FeedbackPage:
    """One call, and how many reviews were in the calls before it."""

    call: Call[FeedbackReceipt]
    offset: int

    def located(self, error: InvalidArgument) -> InvalidArgument:
        """The error with the places that the caller's reviews have, not those in the call."""

        def moved(text: str) -> str:
            return re.sub(r"\breviews\[(\d+)\]", lambda match: f"reviews[{int(match[1]) + self.offset}]", text)

        return InvalidArgument(
            moved(error.message),
            reason=error.reason,
            violations=tuple(FieldViolation(moved(v.field), moved(v.description)) for v in error.violations),
            metadata=error.metadata,
        )


def pages(reviews: Iterable[requests.ReviewLike], *, actor: str) -> list[FeedbackPage]:
    """The calls for these reviews, at least one. Raises InvalidArgument before anything is sent."""
    messages = requests.reviews(reviews)
    found: list[FeedbackPage] = []
    offset = 0
    for some in _cut(messages):
        request = pb.RecordFeedbackRequest(actor=actor, reviews=some)
        call = Call("RecordFeedback", request, lambda answer: convert.decode(FeedbackReceipt, answer))
        found.append(FeedbackPage(call, offset))
        offset += len(some)
    return found


def joined(receipts: Iterable[FeedbackReceipt]) -> FeedbackReceipt:
    """What all calls stored."""
    every = list(receipts)
    return FeedbackReceipt(
        stored=sum(receipt.stored for receipt in every),
        unchanged=sum(receipt.unchanged for receipt in every),
        revised=sum(receipt.revised for receipt in every),
        ids=tuple(id for receipt in every for id in receipt.ids),
    )


def _cut(messages: list[Any]) -> Iterator[list[Any]]:
    start = size = 0
    for index, message in enumerate(messages):
        bytes_ = message.ByteSize()
        if index > start and (index - start == MAX_REVIEWS or size + bytes_ > MAX_BYTES):
            yield messages[start:index]
            start, size = index, 0
        size += bytes_
    # Nothing at all is sent as well: the server says what is wrong with it.
    yield messages[start:]
