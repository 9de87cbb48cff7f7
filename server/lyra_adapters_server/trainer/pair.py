"""How a pair becomes tokens for an encoder: the tokenizer's own pair encoding, and cutting what is too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.excerpt import excerpt
from lyra_adapters_server.trainer.prompt import Encoded
from lyra_adapters_server.types import LABELS, PAIR, Label


class PairEncoder:
    """Turns pairs into token sequences as the tokenizer joins them: premise first, hypothesis second.

    Attributes:
        label_indices: The head's output of each label, in the order of LABELS. They belong to the encoding, since an
            adapter is only good under those that it was trained with.
    """

    def __init__(self, tokenizer: Any, label_indices: Mapping[Label, int]) -> None:
        """Takes the base's tokenizer and the outputs of the head."""
        self._tokenizer = tokenizer
        self.label_indices = tuple(label_indices[label] for label in LABELS)

    def encode(self, pairs: Sequence[tuple[str, str]], max_length: int) -> list[Encoded]:
        """Tokenises pairs. Of premises that are too long stays what the hypothesis speaks of (see excerpt.py).

        A hypothesis is cut only when it does not fit with an empty premise: a claim without its end is another claim.

        Args:
            pairs: Premises and hypotheses.
            max_length: Tokens at most, the special ones included.

        Raises:
            TrainerError: PROMPT_INVALID, if the special tokens alone are as many as `max_length`.
        """
        if not pairs:
            return []
        if max_length <= self._specials:
            raise TrainerError("PROMPT_INVALID", f"no text fits in {max_length} tokens")
        premises, hypotheses = (list(texts) for texts in zip(*pairs, strict=True))
        found = self._tokenizer(premises, hypotheses)
        # Some families tell the two texts apart by types, others only by the tokens between them.
        types = found.get("token_type_ids") or [()] * len(pairs)
        return [
            Encoded(ids, False, kinds) if len(ids) <= max_length else self._cut(premise, hypothesis, max_length)
            for ids, kinds, premise, hypothesis in zip(found["input_ids"], types, premises, hypotheses, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """What prompt.json says: that pairs are joined by the tokenizer, and which output is which label."""
        return {"kind": PAIR, "label_indices": dict(zip(LABELS, self.label_indices, strict=True))}

    @property
    def _specials(self) -> int:
        return int(self._tokenizer.num_special_tokens_to_add(pair=True))

    def _cut(self, premise: str, hypothesis: str, max_length: int) -> Encoded:
        kept = excerpt(
            premise, hypothesis, lambda text: len(self._tokenizer(text, hypothesis)["input_ids"]) <= max_length
        )
        if kept:
            found = self._tokenizer(kept, hypothesis)
            return Encoded(found["input_ids"], True, found.get("token_type_ids") or ())
        length = len(self._tokenizer(hypothesis, add_special_tokens=False)["input_ids"])
        if length + self._specials < max_length:
            found = self._tokenizer(premise, hypothesis, truncation="only_first", max_length=max_length)
        else:
            found = self._tokenizer("", hypothesis, truncation="only_second", max_length=max_length)
        return Encoded(found["input_ids"], True, found.get("token_type_ids") or ())
