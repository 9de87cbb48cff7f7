"""How a job goes on after an interruption: where its attempts write, what its readers are told, when it is given up.

Every attempt that ended because the trainer or the server died counts, whether it had made progress or not: a job that
kills its trainer shortly before its end would otherwise do so for ever. An orderly stop counts nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lyra_adapters_server.registry.layout import remove_tree
from lyra_adapters_server.storage.database import now_us
from lyra_adapters_server.storage.jobs import JobRecord, JobState
from lyra_adapters_server.trainer.events import TrainingStarted
from lyra_adapters_server.trainer.spec import Plan

STOPPED = "the server was stopped"
SERVER_DIED = "the server ended without warning, or its lease on the job ran out"


# Where in a job's work directory its checkpoints are.
CHECKPOINTS = "checkpoints"


def attempt_directory(work: Path, attempt: int) -> Path:
    """Where one attempt writes its results, in its job's work directory. No two have the same."""
    return work / f"attempt-{attempt}"


def clear_work(work: Path, attempt: int | None, *, ended: bool) -> None:
    """Removes what is no longer needed of a job's work directory. Raises OSError.

    Args:
        work: The job's work directory.
        attempt: The attempt that is over; None: none was under way. Another one may be writing beside it, after a
            lease was lost.
        ended: Whether the job has ended. If not, its checkpoints are what the next attempt goes on from.
    """
    if ended:
        remove_tree(work)
    elif attempt is not None:
        remove_tree(attempt_directory(work, attempt))


def stored_plan(job: JobRecord) -> Plan | None:
    """The plan that the job was begun under; None if it has not begun."""
    return Plan.model_validate(job.plan) if job.plan is not None else None


def begun(job: JobRecord, event: TrainingStarted) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What follows when the trainer has begun: kind and payload of the event to store, and changes of the job's row."""
    plan = event.plan.model_dump(mode="json")
    if job.start_time is None:
        payload = event.model_dump(mode="json", exclude={"kind", "plan", "step"})
        changes = {"state": JobState.RUNNING, "start_time": now_us(), "plan": plan}
        return "started", {"attempt": job.attempt, **payload}, changes
    payload = {"attempt": job.attempt, "step": event.step, "reason": job.interruption or SERVER_DIED}
    return "resumed", payload, {"progress": None, "plan": plan}


def given_up(job: JobRecord, max_attempts: int) -> dict[str, str] | None:
    """The failure of a job that has been interrupted too often; None if it may go on."""
    if job.interruptions < max_attempts:
        return None
    times = "once" if job.interruptions == 1 else f"{job.interruptions} times"
    return {
        "reason": "TOO_MANY_ATTEMPTS",
        "message": f"The job was interrupted {times}, which is the limit (max_attempts). Last: "
        f"{job.interruption or SERVER_DIED}. The server's log has each; after mending the cause, send the job again.",
    }
