"""Which output of a classification head stands for which label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.types import LABELS, Label

# How published NLI models call their outputs, in lower case with single underscores.
_NAMES: dict[str, Label] = {
    **dict.fromkeys(("entailment", "entails", "entail", "supports", "support", "supported"), Label.SUPPORTS),
    **dict.fromkeys(
        ("contradiction", "contradicts", "contradict", "refutes", "refute", "refuted"),
        Label.REFUTES,
    ),
    **dict.fromkeys(("neutral", "not_enough_info", "nei"), Label.NEUTRAL),
}
_NAMELESS = re.compile(r"label_\d+")


def match_labels(names: Sequence[str], told: Mapping[Label, str] | None, alias: str) -> dict[Label, int] | None:
    """Finds each label among the names of a head's outputs.

    Args:
        names: What the head calls its outputs, in their order.
        told: The setting: what it calls each label. None: its names tell.
        alias: The base's, for the message.

    Returns:
        The output of each label, in the order of LABELS; None if this is not a head for NLI.

    Raises:
        TrainerError: LABELS_UNKNOWN, if three outputs have numbers for names and no setting says more, or if the
            setting names what is not there.
    """
    plain = [re.sub(r"[\s_-]+", "_", name.strip().lower()) for name in names]
    if told is not None:
        wanted = {label: re.sub(r"[\s_-]+", "_", told[label].strip().lower()) for label in LABELS}
        if sorted(wanted.values()) != sorted(plain):
            raise TrainerError(
                "LABELS_UNKNOWN",
                f"[labels.{alias}] names {', '.join(told[label] for label in LABELS)}, "
                f"but the outputs of the model's head are {', '.join(names) or 'none: it has no head'}",
            )
        return {label: plain.index(wanted[label]) for label in LABELS}
    found = {_NAMES[name]: index for index, name in enumerate(plain) if name in _NAMES}
    if len(plain) == len(found) == len(LABELS):
        return {label: found[label] for label in LABELS}
    if len(plain) == len(LABELS) and all(_NAMELESS.fullmatch(name) for name in plain):
        raise TrainerError(
            "LABELS_UNKNOWN",
            f"the outputs of the model's head are only called {', '.join(names)}; say which is which in the settings "
            f"under [labels.{alias}]",
        )
    return None
