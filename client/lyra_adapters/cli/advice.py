"""Errors in three sentences: what happened, what it means, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from lyra_adapters import errors

# By the server's reason: what it means, what to do.
BY_REASON: dict[str, tuple[str, str]] = {
    "NOT_ENOUGH_SAMPLES": (
        "Training is not due: an adapter from so few corrections would rather harm.",
        "Collect more corrections, lower --min-samples, or train anyway with --force.",
    ),
    "ERROR_RATE_TOO_LOW": (
        "Training is not due: the model was hardly ever wrong on these rows.",
        "Add corrections, lower --min-error-rate, or train anyway with --force.",
    ),
    "REQUEST_ID_REUSED": (
        "A request id stands for one content; nothing was done.",
        "Leave --request-id out, or repeat the first call exactly.",
    ),
    "BASE_MODEL_NOT_ALLOWED": (
        "The server trains on the base models of its allow-list only.",
        "See `lyra-adapters status` for them, or start the server with --base-model.",
    ),
    "BASE_MODEL_NOT_READY": (
        "The server still loads the base model.",
        "Try again in a minute; `lyra-adapters status` shows when it is ready.",
    ),
    "TOKEN_MISSING": ("The server asks who you are.", "Set LYRA_ADAPTERS_TOKEN, or give --token-file FILE."),
    "TOKEN_UNKNOWN": (
        "The server does not know this token; it may have been withdrawn.",
        "Check LYRA_ADAPTERS_TOKEN or --token-file, or ask whoever runs the server for a new one.",
    ),
    "TOKEN_EXPIRED": ("The token's time is over.", "Ask whoever runs the server for a new one."),
    "ACCESS_ENDED": (
        "The token expired or was withdrawn while the call went on; a job goes on all the same.",
        "Come back with a new token.",
    ),
    "ROLE_TOO_LOW": ("This token may do less than that.", "Ask whoever runs the server for one with the role."),
    "JOB_NOT_FOUND": ("The server knows no such job.", "See `lyra-adapters jobs` for those it knows."),
    "VERSION_NOT_FOUND": ("The server has no such version.", "See `lyra-adapters list` for those it has."),
    "ADAPTER_NOT_FOUND": ("Nothing was trained under this name.", "See `lyra-adapters list` for the names there are."),
    "TASK_NOT_FOUND": ("No adapter was trained for this task.", "See `lyra-adapters jobs` for the tasks there are."),
    "NOTHING_TO_ROLL_BACK": (
        "The adapter is at the beginning of its history; nothing changed.",
        "See `lyra-adapters list ADAPTER --history`.",
    ),
    "NEVER_IN_FORCE": (
        "A rollback goes to versions that have been in force; nothing changed.",
        "Put it in force with `lyra-adapters activate`.",
    ),
    "SEVERAL_ADAPTERS": (
        "The task trained more than one adapter; nothing changed.",
        "Name the adapter instead of the task.",
    ),
    "ACTIVE_CHANGED": (
        "Somebody else moved the pointer; nothing changed.",
        "Look with `lyra-adapters list ADAPTER --history` and decide again.",
    ),
    "VERSION_REJECTED": (
        "The gate found this version worse than what was in force; nothing changed.",
        "If you want it nevertheless: --allow-rejected.",
    ),
    "JOB_FINISHED": ("The job has already ended; there is nothing to cancel.", "See `lyra-adapters status JOB`."),
    "JOB_CANCELLED": ("Nothing was published; what was in force still is.", "Train again when you are ready."),
}

# By the kind of error, the most special first.
BY_KIND: tuple[tuple[type[errors.AdapterError], str, str], ...] = (
    (errors.InvalidArgument, "The input is not acceptable; nothing was created.", "Correct it and try again."),
    (errors.AlreadyExists, "Nothing was done.", "Use another id."),
    (errors.NotFound, "The server has no such thing.", "See `lyra-adapters list` and `lyra-adapters jobs`."),
    (errors.Aborted, "Something changed in between; nothing was done.", "Look again and repeat."),
    (errors.FailedPrecondition, "This is not possible in the present state.", "See `lyra-adapters status`."),
    (
        errors.PermissionDenied,
        "The server does not let you do this.",
        "Ask whoever runs it, or use another --token-file.",
    ),
    (errors.Unauthenticated, "The server asks who you are.", "Give --token-file FILE, or set LYRA_ADAPTERS_TOKEN."),
    (
        errors.Unavailable,
        "The server was not reached, or is starting or stopping.",
        "Check that it runs (`lyra-adapters serve`) and that --server or LYRA_ADAPTERS_SERVER names it.",
    ),
    (
        errors.DeadlineExceeded,
        "The server took too long; what was asked for may have happened nevertheless.",
        "Look with `lyra-adapters status` before repeating.",
    ),
    (errors.ResourceExhausted, "The server is at one of its limits.", "Try again later."),
    (errors.CallCancelled, "The call ended early.", "Try again."),
    (errors.Unimplemented, "This server does not have the call.", "Use a newer server."),
    (errors.DataLoss, "What arrived is incomplete.", "Try again."),
    (errors.TrainingFailed, "The job ended without a version; what was in force still is.", "See the server's log."),
    (errors.TrainingCancelled, "Nothing was published; what was in force still is.", "Train again when ready."),
    (errors.ServerFault, "The server failed in a way it does not explain.", "See the server's log."),
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """An error for people."""

    happened: str
    means: str
    do: str

    def __str__(self) -> str:
        return f"{self.happened}\n{self.means}\n{self.do}"


def explain(error: errors.AdapterError, server: str) -> Explanation:
    """What happened, what it means, what to do."""
    means, do = BY_REASON.get(error.reason) or next(
        ((means, do) for kind, means, do in BY_KIND if isinstance(error, kind)),
        ("This was not foreseen.", "See the server's log."),
    )
    happened = str(error)
    if isinstance(error, errors.Unavailable) and not error.reason:
        happened = f"No answer from {server}: {happened}"
    if error.links:
        do += " More: " + " ".join(error.links)
    return Explanation(f"Error: {happened}", means, do)
