"""Domains are compared by what a reader sees."""

import pytest
from lyra_adapters_server.feedback.domains import domain_key, new_domains


def test_domains_that_read_alike_are_the_same() -> None:
    same = ["Sleep research", " sleep\u3000 RESEARCH\n", "ｓｌｅｅｐ research", "sleep\ufe0f re\u00adsearch\u200b"]
    assert {domain_key(domain) for domain in same} == {"sleep research"}
    assert domain_key("睡眠") != domain_key("睡魔")


@pytest.mark.parametrize("domain", ["", " ", "\t\n", "\u200b", "\ufeff \u202e", "\u3164", "\u2800"])
def test_what_nobody_can_see_is_no_domain(domain: str) -> None:
    assert domain_key(domain) == ""
    assert new_domains([domain], []) == []


def test_new_ones_are_named_once() -> None:
    assert new_domains({"Sleep", "diet", "Diet "}, {"sleep "}) == ["Diet "]
