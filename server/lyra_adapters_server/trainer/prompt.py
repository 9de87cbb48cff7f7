"""How a pair becomes tokens: the template's parts, the label words, and cutting what is too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.excerpt import excerpt
from lyra_adapters_server.types import LABELS, Label, Prompt

# A prompt's name is its version: an adapter is only good under the text it was trained with, so a changed text takes
# a new name. The words that are the same for every pair come first: packing.py computes them once for many.
PLAIN_V2 = Prompt(
    name="plain_v2",
    template=(
        "Does the premise support the claim? Answer yes, no or maybe.\nPremise: {premise}\nClaim: {hypothesis}\nAnswer:"
    ),
    label_words={Label.SUPPORTS: " yes", Label.REFUTES: " no", Label.NEUTRAL: " maybe"},
)

DEFAULT_PROMPT = PLAIN_V2

_PREMISE, _HYPOTHESIS = "{premise}", "{hypothesis}"


class Encoded(NamedTuple):
    """A pair as tokens, and whether anything was cut; `types` of the tokens where a model tells texts apart by them."""

    ids: list[int]
    truncated: bool
    types: Sequence[int] = ()


class PromptEncoder:
    """Turns pairs into token sequences under one prompt.

    Attributes:
        label_token_ids: The token of each label word in the answer's place, in the order of LABELS.
    """

    def __init__(self, prompt: Prompt, tokenizer: Any) -> None:
        """Checks the prompt against the tokenizer.

        Raises:
            TrainerError: PROMPT_INVALID, if a placeholder is missing or repeated; LABEL_NOT_ONE_TOKEN, if a label word
                is not a token of its own after the prompt, or two labels share one.
        """
        self.prompt = prompt
        self._tokenizer = tokenizer
        for placeholder in (_PREMISE, _HYPOTHESIS):
            if prompt.template.count(placeholder) != 1:
                raise TrainerError("PROMPT_INVALID", f"prompt `{prompt.name}` must hold {placeholder} exactly once")
        missing = [label for label in LABELS if label not in prompt.label_words]
        if missing:
            raise TrainerError("PROMPT_INVALID", f"prompt `{prompt.name}` has no word for {', '.join(missing)}")
        self.label_token_ids = self._check_label_words()

    def text(self, premise: str, hypothesis: str) -> str:
        """Fills the template; braces inside the pair are left alone."""
        before, rest = self.prompt.template.split(_PREMISE)
        if _HYPOTHESIS in before:
            head, middle = before.split(_HYPOTHESIS)
            return f"{head}{hypothesis}{middle}{premise}{rest}"
        middle, tail = rest.split(_HYPOTHESIS)
        return f"{before}{premise}{middle}{hypothesis}{tail}"

    def encode(self, pairs: Sequence[tuple[str, str]], max_length: int) -> list[Encoded]:
        """Tokenises pairs. Of premises that are too long stays what the hypothesis speaks of (see excerpt.py).

        A hypothesis is cut only when it does not fit with an empty premise: a claim without its end is another claim.

        Args:
            pairs: Premises and hypotheses.
            max_length: Tokens at most, prompt included.

        Raises:
            TrainerError: PROMPT_INVALID, if the prompt alone is longer than `max_length`.
        """
        if not pairs:
            return []
        # All at once: the tokenizer takes a list many times faster than its items.
        texts = [self.text(premise, hypothesis) for premise, hypothesis in pairs]
        found = self._tokenizer(texts, add_special_tokens=self.prompt.add_special_tokens)["input_ids"]
        return [
            Encoded(ids, False) if len(ids) <= max_length else self._fit(premise, hypothesis, ids, max_length)
            for (premise, hypothesis), ids in zip(pairs, found, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """What prompt.json says: the prompt and the label words' tokens."""
        label_token_ids = dict(zip(LABELS, self.label_token_ids, strict=True))
        return {**self.prompt.model_dump(mode="json"), "label_token_ids": label_token_ids}

    def _fit(self, premise: str, hypothesis: str, ids: list[int], max_length: int) -> Encoded:
        kept = excerpt(premise, hypothesis, lambda text: len(self._tokens(self.text(text, hypothesis))) <= max_length)
        if kept:
            return Encoded(self._tokens(self.text(kept, hypothesis)), True)
        ids, premise = self._cut(premise, ids, max_length, lambda text: self.text(text, hypothesis))
        if len(ids) > max_length:
            ids, _ = self._cut(hypothesis, ids, max_length, lambda text: self.text(premise, text))
        if len(ids) > max_length:
            raise TrainerError("PROMPT_INVALID", f"prompt `{self.prompt.name}` does not fit in {max_length} tokens")
        return Encoded(ids, True)

    def _cut(self, text: str, ids: list[int], max_length: int, fill: Any) -> tuple[list[int], str]:
        # Token borders move when text is cut, so this repeats: each round drops as many tokens as are over.
        while text and len(ids) > max_length:
            offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            keep = len(offsets) - (len(ids) - max_length)
            end = offsets[keep - 1][1] if keep > 0 else 0
            text = text[: min(end, len(text) - 1)].rstrip()
            ids = self._tokens(fill(text))
        return ids, text

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=self.prompt.add_special_tokens)["input_ids"]
        return ids

    def _check_label_words(self) -> tuple[int, ...]:
        text = self.text("The sky is blue.", "The sky has a colour.")
        before = self._tokens(text)
        found: list[int] = []
        for label in LABELS:
            word = self.prompt.label_words[label]
            after = self._tokens(text + word)
            if after[:-1] != before:
                raise TrainerError(
                    "LABEL_NOT_ONE_TOKEN",
                    f"the word {word!r} for {label} is not one token after prompt `{self.prompt.name}`",
                )
            found.append(after[-1])
        if len(set(found)) != len(found):
            raise TrainerError("LABEL_NOT_ONE_TOKEN", f"two labels of prompt `{self.prompt.name}` share a token")
        return tuple(found)
