"""The exceptions of the client, one tree with one root, and the one table that maps gRPC status to them.

A server's error travels as `google.rpc.Status` in the trailing metadata `grpc-status-details-bin`; it is read here
with googleapis-common-protos, so that grpcio-status is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One refused field: its path (`samples[17].premise`) and what is wrong with it."""

    field: str
    description: str


class AdapterError(Exception):
    """Root of all errors of this package.

    Attributes:
        message: What went wrong, in words.
        code: The gRPC status; None where no call was involved.
        reason: A stable upper-case word (`NOT_ENOUGH_SAMPLES`); empty where the server gave none.
        violations: The refused fields.
        metadata: What the server adds to the reason, for example `have` and `need`.
        retry_after: Seconds after which a retry makes sense; None where the server did not say.
        links: Web addresses of help, where the server gave some.
    """

    default_code: grpc.StatusCode | None = None

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        links: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.violations = violations
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.links = links

    def __str__(self) -> str:
        text = self.message or (self.code.name if self.code else type(self).__name__)
        # Servers often repeat the only violation as the message; say it once.
        extra = [v for v in self.violations if v.description not in text or v.field not in text]
        return "\n".join([text, *(f"  {v.field}: {v.description}" for v in extra)])

    def to_dict(self) -> dict[str, Any]:
        """The error as a dictionary that `json.dumps` takes."""
        return {
            "error": type(self).__name__,
            "code": self.code.name if self.code else None,
            "reason": self.reason,
            "message": self.message,
            "violations": [{"field": v.field, "description": v.description} for v in self.violations],
            "metadata": self.metadata,
            "retry_after": self.retry_after,
        }


class InvalidArgument(AdapterError, ValueError):
    """The request is not acceptable; raised by the client too, before anything is sent."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(AdapterError):
    """No such job, version, adapter or task."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(AdapterError):
    """The request id was used before with other content."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(AdapterError):
    """The step is not allowed in the present state."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class NotDue(FailedPrecondition):
    """Training is not due: too few samples (NOT_ENOUGH_SAMPLES) or too few errors (ERROR_RATE_TOO_LOW).

    `force` overrides.
    """

    @property
    def have(self) -> float | None:
        """What there is: samples, or the share of wrong predictions."""
        return _number(self.metadata.get("have"))

    @property
    def need(self) -> float | None:
        """What is needed, in the same unit."""
        return _number(self.metadata.get("need"))


class Aborted(AdapterError):
    """Something else is in force than expected; nothing changed."""

    default_code = grpc.StatusCode.ABORTED


class OutOfRange(AdapterError):
    """A position lies beyond the end."""

    default_code = grpc.StatusCode.OUT_OF_RANGE


class PermissionDenied(AdapterError):
    """The caller may not do this, or the base model is not on the allow-list."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(AdapterError):
    """The server asks for credentials, or does not accept these."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class ResourceExhausted(AdapterError):
    """A limit is met: of the queue, of open streams, or of a message's size."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(AdapterError):
    """The server is not reached, starting, stopping, or still loads the base model."""

    default_code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(AdapterError, TimeoutError):
    """The call took longer than its deadline. What it asked for may have happened nevertheless."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class CallCancelled(AdapterError):
    """The call (not the job) was cancelled."""

    default_code = grpc.StatusCode.CANCELLED


class Unimplemented(AdapterError):
    """This server does not have the call."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class ServerFault(AdapterError):
    """The server failed in a way that it does not explain (INTERNAL, UNKNOWN)."""

    default_code = grpc.StatusCode.INTERNAL


class DataLoss(AdapterError):
    """What arrived is incomplete: a gap in a job's events, or a file that does not have its digest."""

    default_code = grpc.StatusCode.DATA_LOSS


class TrainingFailed(AdapterError):
    """A job whose result was asked for ended without a version. `job_id` names it."""

    job_id: str = ""


class TrainingCancelled(AdapterError):
    """A job whose result was asked for was cancelled. `job_id` names it."""

    job_id: str = ""


BY_CODE: Mapping[grpc.StatusCode, type[AdapterError]] = {
    grpc.StatusCode.CANCELLED: CallCancelled,
    grpc.StatusCode.UNKNOWN: ServerFault,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: ServerFault,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: DataLoss,
}

# Reasons that deserve a class of their own.
BY_REASON: Mapping[str, type[AdapterError]] = {
    "NOT_ENOUGH_SAMPLES": NotDue,
    "ERROR_RATE_TOO_LOW": NotDue,
}


def from_call(error: Any) -> AdapterError:
    """The exception for a failed call, synchronous or asyncio.

    Args:
        error: A `grpc.RpcError` that is also a `grpc.Call`, or a `grpc.aio.AioRpcError`.
    """
    code: grpc.StatusCode = error.code() or grpc.StatusCode.UNKNOWN
    message: str = error.details() or ""
    reason, metadata, violations, retry_after, links = "", {}, [], None, []
    for detail in _details(error):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Is(error_details_pb2.Help.DESCRIPTOR):
            help_ = error_details_pb2.Help()
            detail.Unpack(help_)
            links = [link.url for link in help_.links]
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and not reason and "larger than max" in message:
        # What gRPC itself says, of a request on either side, knows nothing of this project.
        reason = "MESSAGE_TOO_LARGE"
        message += ". Send fewer or shorter rows in one call; the server's limit is its setting max_message_mib."
    kind = BY_REASON.get(reason) or BY_CODE.get(code, AdapterError)
    return kind(
        message,
        code=code,
        reason=reason,
        violations=tuple(violations),
        metadata=metadata,
        retry_after=retry_after,
        links=tuple(links),
    )


def _details(error: Any) -> list[Any]:
    """The packed details; none where the server, or something on the way, sent none that can be read."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
