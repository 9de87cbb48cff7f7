"""Whether what is recorded makes training due: the answer of Status. Reads counts, no texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from lyra_adapters_server.feedback.domains import new_domains
from lyra_adapters_server.feedback.due import Counts, Due, Trigger, assess
from lyra_adapters_server.storage import feedback_queries as store
from lyra_adapters_server.storage.jobs import known_domains

MAX_DOMAINS = 3


@dataclass(frozen=True)
class Outlook:
    """Whether training an adapter from all recorded feedback is due, and how many samples are new to it."""

    due: Due
    new_samples: int
    explanation: str


def outlooks(connection: Connection, adapters: Iterable[str], owner: str | None = None) -> dict[str, Outlook]:
    """The outlook of each adapter, with the trigger's defaults, on what is recorded (by `owner`, if one is given)."""
    counts = store.due_counts(connection, owner)
    due = assess(Counts(counts.samples, counts.reviewed, counts.wrong), Trigger())
    used = store.used_samples(connection, owner)
    domains = store.recorded_domains(connection, owner)
    found: dict[str, Outlook] = {}
    for adapter in adapters:
        new = counts.samples - used.get(adapter, 0)
        words = [due.explanation]
        if counts.samples and used.get(adapter):
            told = f"{new} of the samples are" if new else "None of the samples is"
            words.append(f"{told} new to {adapter}.")
        fresh = new_domains(domains, known_domains(connection, adapter)) if domains else []
        if fresh and not due.due:
            named = ", ".join(repr(domain) for domain in fresh[:MAX_DOMAINS])
            words.append(f"A Train that names a domain which is new to {adapter} would be accepted: {named}.")
        found[adapter] = Outlook(due, new, " ".join(words))
    return found
