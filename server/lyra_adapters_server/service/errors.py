"""The one mapping of refusals to gRPC: `google.rpc.Status` with ErrorInfo, BadRequest and RetryInfo."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from lyra_adapters_server.errors import Kind, Refusal

DOMAIN = "lyra_adapters"

# Each refusal's status code; the names are those of google.rpc.Code.
CODES: dict[Kind, int] = {kind: code_pb2.Code.Value(kind) for kind in Kind}
# Trailing metadata travels in HTTP/2 headers, which are limited to 8 KiB; what does not fit is counted instead.
MAX_VIOLATIONS = 20
MAX_MESSAGE = 1500


def rich_status(refusal: Refusal) -> status_pb2.Status:
    """The refusal as a Status with each kind of detail at most once."""
    details: list[any_pb2.Any] = [
        _pack(error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN, metadata=refusal.metadata))
    ]
    if refusal.violations:
        shown = refusal.violations[:MAX_VIOLATIONS]
        details.append(
            _pack(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description[:200])
                        for v in shown
                    ]
                )
            )
        )
    if refusal.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(refusal.retry_after_s * 1000))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=CODES[refusal.kind], message=refusal.message[:MAX_MESSAGE], details=details)


async def abort(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> NoReturn:
    """Ends a call with the refusal's status; by way of `abort`, which is what tracing sees."""
    status = rpc_status.to_status(rich_status(refusal))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")


def status_code(refusal: Refusal) -> grpc.StatusCode:
    """The refusal's gRPC code."""
    return grpc.StatusCode[refusal.kind]


def _pack(
    detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
