"""Exit codes, for scripts.

| code | meaning |
|---|---|
| 0 | done |
| 1 | a fault of the server or of the transfer |
| 2 | wrong usage, an unreadable file, or a missing extra |
| 3 | input refused (INVALID_ARGUMENT, a bad line, a request id reused) |
| 4 | no such job, version, adapter or task |
| 5 | not allowed now: training not due, nothing to roll back, something else in force |
| 6 | credentials missing or not enough |
| 7 | server not reached, not ready, too slow or full |
| 8 | the job failed |
| 9 | the job was cancelled |
| 10 | with --require-active: the job succeeded, but its version was not put in force |
| 130 | Ctrl-C; a job goes on |
"""

from __future__ import annotations

from enum import IntEnum

from lyra_adapters import errors


class Exit(IntEnum):
    """The codes by name."""

    OK = 0
    FAULT = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    PRECONDITION = 5
    PERMISSION = 6
    UNAVAILABLE = 7
    JOB_FAILED = 8
    JOB_CANCELLED = 9
    NOT_ACTIVE = 10
    DETACHED = 130


OF_ERRORS: dict[type[errors.AdapterError], Exit] = {
    errors.InvalidArgument: Exit.REFUSED,
    errors.AlreadyExists: Exit.REFUSED,
    errors.OutOfRange: Exit.REFUSED,
    errors.NotFound: Exit.NOT_FOUND,
    errors.NotDue: Exit.PRECONDITION,
    errors.FailedPrecondition: Exit.PRECONDITION,
    errors.Aborted: Exit.PRECONDITION,
    errors.PermissionDenied: Exit.PERMISSION,
    errors.Unauthenticated: Exit.PERMISSION,
    errors.Unavailable: Exit.UNAVAILABLE,
    errors.DeadlineExceeded: Exit.UNAVAILABLE,
    errors.ResourceExhausted: Exit.UNAVAILABLE,
    errors.CallCancelled: Exit.UNAVAILABLE,
    errors.TrainingFailed: Exit.JOB_FAILED,
    errors.TrainingCancelled: Exit.JOB_CANCELLED,
}


def of_error(error: errors.AdapterError) -> Exit:
    """The exit code of an error."""
    return OF_ERRORS.get(type(error), Exit.FAULT)


# As the help of the command shows it.
HELP = "Exit codes: " + ", ".join(
    f"{cells[0]} {cells[1]}"
    for cells in ([cell.strip() for cell in line.split("|")[1:3]] for line in (__doc__ or "").splitlines())
    if len(cells) == 2 and cells[0].isdigit()
)
