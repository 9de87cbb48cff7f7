"""An error as the server sends it: a status with its details in the trailing metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lyra_adapters.errors import DETAILS_KEY

DOMAIN = "lyra_adapters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error to raise.

    Attributes:
        code: The gRPC status.
        message: What went wrong.
        reason: Upper-case word; empty: no details are sent, as by a proxy or a broken connection.
        metadata: Goes with the reason, for example have and need.
        violations: Field path to what is wrong with it.
        retry_after: Seconds after which a retry makes sense.
        help_url: Where help is found.
    """

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    help_url: str = ""

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        """Ends a call with this error."""
        details = self._details()
        if details:
            status = status_pb2.Status(code=self.code.value[0], message=self.message, details=details)
            context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
        context.abort(self.code, self.message)
        raise AssertionError("abort does not return")

    def _details(self) -> list[Packed]:
        messages: list[Message] = []
        if self.reason:
            messages.append(
                error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=dict(self.metadata))
            )
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for path, description in self.violations.items():
                bad.field_violations.add(field=path, description=description)
            messages.append(bad)
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(self.retry_after * 1000))
            messages.append(retry)
        if self.help_url:
            help_ = error_details_pb2.Help()
            help_.links.add(url=self.help_url)
            messages.append(help_)
        packed = []
        for message in messages:
            item = Packed()
            item.Pack(message)
            packed.append(item)
        return packed
