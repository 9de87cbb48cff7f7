"""The history of what is in force, on a real database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.registry import pointer as pointers
from lyra_adapters_server.registry.names import full_name
from lyra_adapters_server.registry.pointer import Asked
from lyra_adapters_server.scope import EVERYTHING
from lyra_adapters_server.storage import versions as store
from lyra_adapters_server.storage.database import Database

ADA = Asked(principal="p", actor="ada")


class Registry:
    """An adapter `a` with a number of candidates."""

    def __init__(self, path: Path, versions: int = 4, rejected: int = 0) -> None:
        self.database = Database(path / "registry.db")
        self.database.migrate()
        for number in range(1, versions + 1):
            self.database.write_now(lambda c: store.take_number(c, "a"))
            outcome = "WORSE" if number == rejected else "BETTER"
            self.database.write_now(lambda c, n=number, o=outcome: store.insert_version(c, version_row(n, o)))

    def activate(self, version: str, expected: str = "", asked: Asked = ADA, **options: Any) -> str:
        return self._name(
            self.database.write_now(lambda c: pointers.activate(c, "a", version, expected, asked, **options))
        )

    def rollback(self, to: str = "", expected: str = "", asked: Asked = ADA) -> str:
        return self._name(self.database.write_now(lambda c: pointers.rollback(c, "a", to, expected, asked)))

    def active(self) -> str:
        pointer = self.database.read_now(lambda c: store.find_pointer(c, "a"))
        assert pointer
        return full_name("a", pointer.active)

    @staticmethod
    def _name(moved: pointers.Moved) -> str:
        return full_name("a", moved.change.active)


def version_row(number: int, outcome: str) -> dict[str, Any]:
    return {
        "adapter": "a",
        "number": number,
        "job_id": f"job-{number}",
        "task_id": "t",
        "domain": "",
        "actor": "",
        "create_time": number,
        "base_model": "tiny",
        "base_identity": {"id": "tiny", "revision": "", "digest": "d"},
        "continued_from": "",
        "lora": {},
        "metrics_before": None,
        "metrics_after": None,
        "verdict": {"outcome": f"VERDICT_OUTCOME_{outcome}"},
        "training_samples": 1,
        "validation_samples": 1,
        "files": [],
        "sha256": "s",
        "size_bytes": 1,
    }


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_stepping_back_goes_on_and_never_toggles(registry: Registry) -> None:
    for version in ("v1", "v2", "v3"):
        registry.activate(version)
    assert [registry.rollback() for _ in range(3)] == ["a_v2", "a_v1", "base"]
    with pytest.raises(Refusal, match="NOTHING_TO_ROLL_BACK"):
        registry.rollback()


def test_a_version_put_in_force_after_a_rollback_steps_back_to_where_that_was(registry: Registry) -> None:
    for version in ("v1", "v2"):
        registry.activate(version)
    registry.rollback()
    registry.activate("v3")
    assert [registry.rollback(), registry.rollback()] == ["a_v1", "base"]


def test_rollback_to_a_version_that_was_in_force(registry: Registry) -> None:
    for version in ("v1", "v2", "v3"):
        registry.activate(version)
    assert registry.rollback("v1") == "a_v1"
    assert registry.rollback("a_v3") == "a_v3"  # it was in force before, so one may go back to it
    assert registry.rollback() == "a_v1"
    with pytest.raises(Refusal, match="NEVER_IN_FORCE"):
        registry.rollback("v4")
    for unknown in ("v9", "v0", "x", "b_v1", "../v1"):
        with pytest.raises(Refusal, match="VERSION_NOT_FOUND"):
            registry.rollback(unknown)


def test_rollback_to_base_and_again_changes_nothing_more(registry: Registry) -> None:
    assert registry.rollback("base") == "base"  # nothing was ever in force
    registry.activate("v1")
    assert registry.rollback("base") == "base"
    assert not registry.database.write_now(lambda c: pointers.rollback(c, "a", "base", "", ADA)).changed
    registry.activate("v2")
    assert registry.rollback() == "base"


def test_expected_active_guards_a_change(registry: Registry) -> None:
    registry.activate("v1", expected="base")
    registry.activate("v2", expected="v1")
    with pytest.raises(Refusal, match="ACTIVE_CHANGED"):
        registry.rollback(expected="v1")
    assert registry.rollback(expected="a_v2") == "a_v1"


def test_a_retry_changes_nothing_more_and_gets_the_same_answer(registry: Registry) -> None:
    for version in ("v1", "v2", "v3"):
        registry.activate(version)
    asked = Asked(principal="p", request_id="r", digest="1")
    assert registry.rollback(asked=asked) == "a_v2"
    assert registry.rollback(asked=asked) == "a_v2"
    assert registry.active() == "a_v2"
    with pytest.raises(Refusal, match="REQUEST_ID_REUSED"):
        registry.rollback(asked=Asked(principal="p", request_id="r", digest="2"))
    assert registry.rollback(asked=Asked(principal="q", request_id="r", digest="1")) == "a_v1"


def test_a_rejected_version_needs_a_word(tmp_path: Path) -> None:
    registry = Registry(tmp_path, rejected=2)
    with pytest.raises(Refusal, match="VERSION_REJECTED"):
        registry.activate("v2")
    assert registry.activate("v2", allow_rejected=True) == "a_v2"


def test_states_follow_from_pointer_history_and_verdict(tmp_path: Path) -> None:
    registry = Registry(tmp_path, rejected=4)
    registry.activate("v1")
    registry.activate("v2")
    versions, total = registry.database.read_now(
        lambda c: store.page_of_versions(c, scope=EVERYTHING, adapter="a", limit=10)
    )
    assert [v.state for v in versions] == ["REJECTED", "CANDIDATE", "ACTIVE", "RETIRED"]
    assert total == 4
    found, total = registry.database.read_now(
        lambda c: store.page_of_versions(c, scope=EVERYTHING, adapter="a", states=["ACTIVE"], limit=10)
    )
    assert ([v.number for v in found], total) == ([2], 1)


def test_a_stale_view_of_the_pointer_cannot_move_it(registry: Registry) -> None:
    stale = registry.database.read_now(lambda c: store.find_pointer(c, "a"))
    assert stale
    registry.activate("v1")
    with pytest.raises(ValueError, match="revision"):
        registry.database.write_now(lambda c: pointers.publish(c, stale, 2, ADA))
    assert registry.active() == "a_v1"


def test_version_numbers_are_never_used_again(registry: Registry) -> None:
    assert registry.database.write_now(lambda c: store.take_number(c, "a")) == 5
    assert registry.database.write_now(lambda c: store.take_number(c, "a")) == 6
