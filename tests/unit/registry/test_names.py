from __future__ import annotations

import pytest
from lyra_adapters_server.registry.names import full_name, is_adapter_name, parse_full_name, version_of


@pytest.mark.parametrize("name", ["a", "user_feedback", "a" * 63, "x_v", "v3", "x_v3a", "base"])
def test_adapter_names(name: str) -> None:
    assert is_adapter_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "..", "a/b", "a.b", "x_v3", "x_v0", "_a", "1a", "a" * 64, "a b", "a\n", "é", "a-b", "x_v３"]
)
def test_not_adapter_names(name: str) -> None:
    assert not is_adapter_name(name)


def test_full_names() -> None:
    assert full_name("user_feedback", 3) == "user_feedback_v3"
    assert full_name("user_feedback", None) == "base"
    assert parse_full_name("user_feedback_v3") == ("user_feedback", 3)
    assert parse_full_name("user_feedback_v03") is None
    assert parse_full_name("user_feedback") is None
    assert version_of("a", "a_v2") == version_of("a", "v2") == 2
    assert version_of("a", "b_v2") is None
