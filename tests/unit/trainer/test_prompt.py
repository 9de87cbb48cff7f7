from typing import Any

import pytest
from conftest import tiny_tokenizer
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.prompt import PromptEncoder
from lyra_adapters_server.types import Label, Prompt

WORDS = {Label.SUPPORTS: " yes", Label.REFUTES: " no", Label.NEUTRAL: " maybe"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def prompt(template: str = "Premise {premise} Claim {hypothesis} Answer", words: dict[Label, str] = WORDS) -> Prompt:
    return Prompt(name="t", template=template, label_words=words)


def encode(encoder: PromptEncoder, premise: str, hypothesis: str, max_length: int) -> tuple[list[int], bool]:
    found = encoder.encode([(premise, hypothesis)], max_length)[0]
    return found.ids, found.truncated


def test_fills_the_template_and_leaves_braces_in_the_pair(tokenizer: Any) -> None:
    encoder = PromptEncoder(prompt(), tokenizer)
    assert encoder.text("a {hypothesis}", "b {premise}") == "Premise a {hypothesis} Claim b {premise} Answer"
    turned = PromptEncoder(prompt("{hypothesis}|{premise} Answer"), tokenizer)
    assert turned.text("p", "h") == "h|p Answer"


def test_cuts_the_end_of_the_premise(tokenizer: Any) -> None:
    encoder = PromptEncoder(prompt(), tokenizer)
    premise, hypothesis = "cats sleep dogs run fish swim " * 20, "fish swim"
    whole, truncated = encode(encoder, premise, hypothesis, 1000)
    assert not truncated
    ids, truncated = encode(encoder, premise, hypothesis, 40)
    assert truncated
    assert 36 <= len(ids) <= 40
    text = tokenizer.decode(ids)
    assert text.startswith("Premise cats sleep dogs run")
    assert text.endswith(" Claim fish swim Answer")
    assert len(whole) > 100


def test_cuts_the_hypothesis_only_when_the_premise_is_gone(tokenizer: Any) -> None:
    encoder = PromptEncoder(prompt(), tokenizer)
    ids, truncated = encode(encoder, "cats sleep", "fish swim " * 50, 30)
    assert truncated
    assert len(ids) <= 30
    text = tokenizer.decode(ids)
    assert "cats" not in text
    assert text.endswith(" Answer")
    with pytest.raises(TrainerError) as caught:
        encode(encoder, "cats", "dogs", 3)
    assert caught.value.reason == "PROMPT_INVALID"


def test_pairs_are_encoded_as_if_alone(tokenizer: Any) -> None:
    encoder = PromptEncoder(prompt(), tokenizer)
    pairs = [("cats sleep " * 30, "dogs run"), ("fish", "swim"), ("", "x")]
    assert [found[:2] for found in encoder.encode(pairs, 30)] == [encode(encoder, *pair, 30) for pair in pairs]
    assert encoder.encode([], 30) == []


@pytest.mark.parametrize("character", ["日本語", "é", "😀", "\u200b"])
def test_cuts_between_characters_of_any_script(tokenizer: Any, character: str) -> None:
    ids, truncated = encode(PromptEncoder(prompt(), tokenizer), character * 200, "dogs run", 50)
    assert truncated
    assert len(ids) <= 50
    assert "\ufffd" not in tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (prompt("no place for {premise}"), "PROMPT_INVALID"),
        (prompt("{premise} {premise} {hypothesis}"), "PROMPT_INVALID"),
        (prompt(words={Label.SUPPORTS: " yes"}), "PROMPT_INVALID"),
        (prompt(words={**WORDS, Label.NEUTRAL: " undecided"}), "LABEL_NOT_ONE_TOKEN"),
        (prompt(words={**WORDS, Label.NEUTRAL: " no"}), "LABEL_NOT_ONE_TOKEN"),
    ],
)
def test_refuses_a_prompt_that_cannot_work(tokenizer: Any, bad: Prompt, reason: str) -> None:
    with pytest.raises(TrainerError) as caught:
        PromptEncoder(bad, tokenizer)
    assert caught.value.reason == reason
