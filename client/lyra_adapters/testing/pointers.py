"""The fake server's pointers: what is in force under each name, with a history that rolls back as the real one's."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc

from lyra_adapters.models import AdapterStatus, PointerChange, PointerChangeKind, PointerMove
from lyra_adapters.testing.fault import Fault

BASE = "base"


class Refused(Exception):
    """A move that is not allowed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Pointers:
    """All pointers of a fake server."""

    def __init__(self) -> None:
        self.changes: list[PointerChange] = []
        self._stacks: dict[str, list[str]] = {}

    def active(self, adapter: str) -> str:
        """What is in force under a name."""
        return self._stacks.get(adapter, [BASE])[-1]

    def history(self, adapter: str) -> list[PointerChange]:
        """Changes of one pointer, oldest first."""
        return [change for change in self.changes if change.adapter == adapter]

    def move(
        self,
        adapter: str,
        to: str,
        kind: PointerChangeKind,
        *,
        actor: str = "",
        reason: str = "",
        expected: str = "",
        job_id: str = "",
    ) -> PointerMove:
        """Puts a version in force."""
        self._check(adapter, expected)
        stack = self._stacks.setdefault(adapter, [BASE])
        previous = stack[-1]
        if previous == to:
            past = self.history(adapter)
            return PointerMove(change=past[-1] if past else PointerChange(adapter=adapter, active=to), changed=False)
        stack.append(to)
        return self._note(adapter, previous, kind, actor, reason, job_id)

    def back(self, adapter: str, to: str, *, actor: str, reason: str, expected: str) -> PointerMove:
        """One step back, or to a version that was in force, or to base."""
        self._check(adapter, expected)
        stack = self._stacks.get(adapter)
        if stack is None:
            raise Refused(_fault("NOT_FOUND", "ADAPTER_NOT_FOUND", f"There is no adapter {adapter}."))
        previous = stack[-1]
        if not to and len(stack) == 1:
            raise Refused(_fault("FAILED_PRECONDITION", "NOTHING_TO_ROLL_BACK", f"{adapter} is at its beginning."))
        goal = to if to in ("", BASE) or to.startswith(adapter) else f"{adapter}_{to}"
        if goal and goal not in stack and goal not in (change.active for change in self.history(adapter)):
            raise Refused(_fault("FAILED_PRECONDITION", "NEVER_IN_FORCE", f"{goal} has not been in force."))
        if goal in stack:
            del stack[stack.index(goal) + 1 :]
        elif goal:
            stack.append(goal)
        else:
            stack.pop()
        return self._note(adapter, previous, PointerChangeKind.ROLLED_BACK, actor, reason, "")

    def statuses(self) -> tuple[AdapterStatus, ...]:
        """What is in force under every name."""
        found = []
        for adapter in self._stacks:
            past = self.history(adapter)
            found.append(
                AdapterStatus(
                    adapter=adapter,
                    active=self.active(adapter),
                    pointer_revision=len(past),
                    change_time=past[-1].time if past else None,
                )
            )
        return tuple(found)

    def _check(self, adapter: str, expected: str) -> None:
        active = self.active(adapter)
        if expected and expected not in (active, active.removeprefix(f"{adapter}_")):
            raise Refused(_fault("ABORTED", "ACTIVE_CHANGED", f"{active} is in force, not {expected}."))

    def _note(
        self, adapter: str, previous: str, kind: PointerChangeKind, actor: str, reason: str, job_id: str
    ) -> PointerMove:
        change = PointerChange(
            adapter=adapter,
            pointer_revision=len(self.history(adapter)) + 1,
            active=self.active(adapter),
            previous=previous,
            kind=kind,
            actor=actor,
            reason=reason,
            time=datetime.now(UTC),
            job_id=job_id,
        )
        self.changes.append(change)
        return PointerMove(change=change, changed=True)


def _fault(code: str, reason: str, message: str) -> Fault:
    return Fault(code=grpc.StatusCode[code], reason=reason, message=message)
