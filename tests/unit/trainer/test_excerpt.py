"""What stays of a premise that is too long."""

from __future__ import annotations

import time

from conftest import tiny_tokenizer
from lyra_adapters_server.trainer.excerpt import excerpt
from lyra_adapters_server.trainer.pair import PairEncoder
from lyra_adapters_server.trainer.prompt import PromptEncoder
from lyra_adapters_server.types import LABELS, Label, Prompt

LONG = (
    "The museum opens at nine. Tickets are sold at the gate. Dogs have to wait outside. "
    "The Vermeer in room four is now known to be a forgery. Guided tours start at noon! Is there a café? Yes."
)
# One sentence whose end alone speaks of the claim.
ONE = f"{'The visitors of the house walked on and on, ' * 40}until the Vermeer in room four was found to be a forgery"
WORDS = {Label.SUPPORTS: " yes", Label.REFUTES: " no", Label.NEUTRAL: " maybe"}
CLAIM = "The Vermeer is a forgery."


def test_an_excerpt_keeps_what_the_hypothesis_speaks_of_in_its_order() -> None:
    kept = excerpt(LONG, "The Vermeer at the museum is a forgery.", lambda text: len(text) <= 90)
    assert kept == "The museum opens at nine. The Vermeer in room four is now known to be a forgery. Yes."
    assert excerpt(LONG, "Anything", lambda _: True).split() == LONG.split()
    assert excerpt("One sentence without an end", "end", lambda _: False) == ""


def test_a_rare_word_outweighs_many_that_are_everywhere() -> None:
    sections = [f"Section {n} describes the background of the study and the methods of the group." for n in range(60)]
    sections[30] = "Mice lacking BRCA1 died."
    claim = "The loss of BRCA1 in a mouse is lethal in the study and the trial of the group."
    kept = excerpt(" ".join(sections), claim, lambda text: len(text.split()) <= 60)
    assert "Mice lacking BRCA1 died." in kept


def test_an_excerpt_of_japanese() -> None:
    text = "美術館は九時に開く。切符は入口で買える。四号室の絵は贋作であった。犬は外で待つ。"
    assert excerpt(text, "その絵は贋作である。", lambda part: len(part) <= 14) == "四号室の絵は贋作であった。"


def test_of_one_long_sentence_the_part_that_the_hypothesis_speaks_of_stays() -> None:
    kept = excerpt(ONE, CLAIM, lambda text: len(text) <= 60)
    assert kept in ONE
    assert {"Vermeer", "forgery"} <= set(kept.split())
    # There is room on either side of it.
    kept = excerpt(f"{ONE} {'and so on' * 40}", CLAIM, lambda text: len(text) <= 120)
    assert "until the Vermeer in room four was found to be a forgery" in kept
    kept = excerpt(
        "眠" * 300 + "四号室の絵は贋作であった" + "夢" * 300, "その絵は贋作である。", lambda text: len(text) <= 20
    )
    assert "絵は贋作であった" in kept
    assert len(kept) == 20


def test_of_a_best_sentence_that_is_too_long_a_part_stays() -> None:
    kept = excerpt(f"It was late. {ONE}. Nobody spoke.", CLAIM, lambda text: len(text) <= 80)
    assert {"Vermeer", "forgery."} <= set(kept.split())


def test_a_sentence_that_does_not_fit_leaves_room_for_shorter_ones() -> None:
    second = f"The Vermeer {'hung there and ' * 10}hung there."
    kept = excerpt(f"{second} The Vermeer is no forgery. It is old.", CLAIM, lambda text: len(text) <= 50)
    assert kept == "The Vermeer is no forgery. It is old."


def test_nothing_stays_where_nothing_is_shared_or_fits() -> None:
    assert excerpt("A sentence about nothing of the kind", "Vermeer", lambda text: len(text) <= 10) == ""
    assert excerpt("x" * 100, "x" * 100, lambda text: len(text) <= 10) == ""
    assert excerpt("", "Vermeer", lambda _: False) == ""
    assert excerpt(LONG, "Vermeer", lambda text: len(text) <= 10) == "Vermeer"
    assert excerpt(LONG, "Vermeer", lambda text: len(text) <= 5) == ""


def test_long_premises_take_no_longer_than_their_length() -> None:
    asked = 0

    def fits(text: str) -> bool:
        nonlocal asked
        asked += 1
        return len(text) <= 500

    excerpt("\n".join("word " * (n * 7 % 40) + str(n) for n in range(2000)), "word 3", fits)
    assert asked < 300
    begun = time.monotonic()
    excerpt("夢の" * 10_000, "夢の中", fits)
    assert time.monotonic() - begun < 5


def test_what_is_encoded_holds_it() -> None:
    tokenizer = tiny_tokenizer()
    prompt = Prompt(name="t", template="{premise} Claim {hypothesis}", label_words=WORDS)
    premise = f"{'cats sleep and dogs run ' * 40}until fish swim"
    for encoder in (PromptEncoder(prompt, tokenizer), PairEncoder(tokenizer, dict(zip(LABELS, range(3), strict=True)))):
        (found,) = encoder.encode([(premise, "fish swim")], 40)
        assert found.truncated
        assert 30 <= len(found.ids) <= 40
        assert tokenizer.decode(found.ids).count("fish swim") == 2
