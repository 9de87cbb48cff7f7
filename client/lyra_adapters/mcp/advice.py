"""Errors in words that a model can act on: what happened, and which call or which person can help."""

from __future__ import annotations

import re

from pydantic import ValidationError

from lyra_adapters import errors

# By the service's reason: what to do.
BY_REASON: dict[str, str] = {
    "NOT_ENOUGH_SAMPLES": "Record more reviews with record_feedback, lower min_samples, or set force.",
    "ERROR_RATE_TOO_LOW": "The model does well on these reviews; lower min_error_rate or set force to train anyway.",
    "REQUEST_ID_REUSED": "Leave request_id out, or repeat the first call exactly.",
    "BASE_MODEL_NOT_ALLOWED": "Leave base_model out, or take one that calibrate_status lists.",
    "BASE_MODEL_NOT_READY": "The base model is still loading. Try again in half a minute; calibrate_status shows it.",
    "JOB_NOT_FOUND": "Call calibrate_status with task_id for its newest job, or without arguments for those that run.",
    "VERSION_NOT_FOUND": "Call calibrate_versions for the versions there are.",
    "ADAPTER_NOT_FOUND": "Nothing was trained under this name. Call calibrate_status for the names there are.",
    "TASK_NOT_FOUND": "No adapter was trained for this task. Name the adapter; calibrate_status lists them.",
    "NOTHING_TO_ROLL_BACK": "It is at the beginning of its history; nothing changed. See calibrate_versions.",
    "NEVER_IN_FORCE": "A rollback goes only to versions that were in force; nothing changed. Take another one from "
    "calibrate_versions, or ask a person to run `lyra-adapters activate`.",
    "SEVERAL_ADAPTERS": "Nothing changed. Leave task_id out and name one adapter.",
    "ACTIVE_CHANGED": "Somebody else moved it; nothing changed. Look with calibrate_versions and decide again.",
    "JOB_FINISHED": "There is nothing to cancel. If its version shall not be in force: calibrate_rollback.",
    "CLIENT_CLOSED": "This server is stopping. Try again once it runs.",
}

# By the kind of error, the most special first.
BY_KIND: tuple[tuple[type[errors.AdapterError], str], ...] = (
    (errors.InvalidArgument, "Nothing was done. Correct the arguments and call again."),
    (
        errors.Unavailable,
        "Ask the user to check that `lyra-adapters serve` runs there. Then look with calibrate_status; "
        "before repeating a change, see that it was not made.",
    ),
    (errors.DeadlineExceeded, "It may have happened nevertheless: look with calibrate_status before repeating."),
    (errors.ResourceExhausted, "The service is at one of its limits. Try again later, or send less at once."),
    (errors.Unauthenticated, "Ask the user to start lyra-adapters-mcp with --token-file."),
    (errors.PermissionDenied, "The service does not let this caller do it. Ask the user."),
    (errors.Unimplemented, "The service is too old for this. Ask the user to update it."),
    (errors.Aborted, "Something changed in between; nothing was done. Look again and repeat."),
    (errors.FailedPrecondition, "This is not possible now. Look with calibrate_status."),
    (errors.NotFound, "Look with calibrate_status and calibrate_versions."),
)
OTHERWISE = "Try once more; if it happens again, tell the user to look into the service's log."

# Where the service's fields stand elsewhere in the tools' arguments.
FIELDS = (
    (re.compile(r"\btrigger\."), ""),
    (re.compile(r"\]\.sample\."), "]."),
    (re.compile(r"\bto_version\b"), "version"),
)


def explain(error: errors.AdapterError, server: str) -> str:
    """What happened and what to do."""
    do = BY_REASON.get(error.reason) or next((do for kind, do in BY_KIND if isinstance(error, kind)), OTHERWISE)
    happened = str(error)
    if isinstance(error, errors.Unavailable) and not error.reason:
        happened = f"No answer from the service at {server}: {happened}"
    if adapters := error.metadata.get("adapters"):
        do += f" They are: {adapters}."
    if error.retry_after is not None:
        do += f" It asks to wait {error.retry_after:g} s."
    for pattern, mine in FIELDS:
        happened = pattern.sub(mine, happened)
    return f"{happened}\n{do}"


def refused_arguments(tool: str, error: ValidationError) -> str:
    """Which arguments do not fit the schema, without their values: those may be long."""
    problems = [f"  {_path(one['loc'])}: {one['msg']}" for one in error.errors(include_input=False, include_url=False)]
    return "\n".join([f"{tool} was not called: its arguments do not fit.", *problems, "Correct them and call again."])


def unknown_arguments(tool: str, unknown: list[str], known: list[str]) -> str:
    """Names that the tool does not have. Left alone they would be ignored, and the call do something else."""
    return f"{tool} was not called: it has no {', '.join(unknown)}. Its arguments are {', '.join(known) or 'none'}."


def _path(loc: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")
