"""Audit lines: who changed what, and every call that was refused. No texts and no tokens.

They are written whatever the log level.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

import structlog

from lyra_adapters_server.registry.names import is_adapter_name
from lyra_adapters_server.service.auth.caller import Caller, Role
from lyra_adapters_server.service.auth.roles import ROLES
from lyra_adapters_server.service.training_request import DEFAULT_ADAPTER

log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
    None, wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)
)

# Recording feedback changes nothing that is in force, and comes by the thousand.
AUDITED = frozenset(name for name, role in ROLES.items() if role > Role.READ) - {"RecordFeedback"}
MAX_ACTOR = 200


class Audit:
    """The audit line of one call; a stream that is refused later than at its beginning gets a second one."""

    def __init__(self, rpc: str, peer: str) -> None:
        self._rpc = rpc
        self._peer = peer
        self._caller: Caller | None = None
        self._fields: dict[str, str] = {}
        self._written: set[bool] = set()

    def called_by(self, caller: Caller) -> None:
        """Notes who calls, as proven."""
        self._caller = caller

    def note(self, message: Any) -> None:
        """Takes from a request or an answer what it is about; of the caller's own words only what is no text."""
        for part in (message, *(getattr(message, name, None) for name in ("job", "change", "version"))):
            adapter, job_id = getattr(part, "adapter", ""), getattr(part, "job_id", "")
            if isinstance(adapter, str) and is_adapter_name(adapter):
                self._fields["adapter"] = adapter
            if isinstance(job_id, str) and _is_uuid(job_id):
                self._fields["job_id"] = job_id

    def asked(self, request: Any) -> None:
        """Takes from a request what it is about and who the caller says acts."""
        self.note(request)
        if self._rpc == "Train":
            self._fields.setdefault("adapter", DEFAULT_ADAPTER)
        if actor := getattr(request, "actor", ""):
            self._fields["actor"] = actor[:MAX_ACTOR]

    def write(self, code: str, reason: str | None = None) -> None:
        """Writes the line, if the call is one that is audited or was refused."""
        refused = reason is not None
        if refused in self._written or not (refused or (self._rpc in AUDITED and not self._written)):
            return
        self._written.add(refused)
        log.info(
            "audit",
            principal=self._caller.principal if self._caller else "",
            role=str(self._caller.role) if self._caller else "",
            rpc=self._rpc,
            code=code,
            peer=self._peer,
            **self._fields,
            **({"reason": reason} if reason else {}),
        )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
