"""Which output of a head stands for which label, by its own names or by the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from lyra_adapters_server.config import ConfigError, load_settings
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.labels import match_labels
from lyra_adapters_server.types import Label

TOLD = {Label.SUPPORTS: "LABEL_2", Label.REFUTES: "label_0", Label.NEUTRAL: "LABEL_1"}


@pytest.mark.parametrize(
    ("names", "told", "indices"),
    [
        (["entailment", "neutral", "contradiction"], None, (0, 2, 1)),
        (["CONTRADICTION", "ENTAILMENT", "NEUTRAL"], None, (1, 0, 2)),
        (["Contradiction", "Neutral", "Entailment"], None, (2, 0, 1)),
        (["SUPPORTS", "REFUTES", "NEUTRAL"], None, (0, 1, 2)),
        (["refutes", "NOT ENOUGH INFO", "supports"], None, (2, 0, 1)),
        (["neutral", "refuted", "supported"], None, (2, 1, 0)),
        (["contradict", "entail", "nei"], None, (1, 0, 2)),
        (["LABEL_0", "LABEL_1", "LABEL_2"], TOLD, (2, 0, 1)),
        (
            ["entailment", "neutral", "contradiction"],
            dict(zip(Label, ("neutral", "entailment", "contradiction"), strict=True)),
            (1, 0, 2),
        ),
    ],
)
def test_labels_are_found(names: list[str], told: dict[Label, str] | None, indices: tuple[int, ...]) -> None:
    found = match_labels(names, told, "x")
    assert found is not None
    assert tuple(found.values()) == indices
    assert list(found) == list(Label)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["LABEL_0", "LABEL_1"],
        ["positive", "negative", "neutral"],
        ["entailment", "not_entailment"],
        ["entailment", "supports", "neutral"],
        ["entailment", "neutral", "contradiction", "other"],
    ],
)
def test_other_heads_are_none_for_nli(names: list[str]) -> None:
    assert match_labels(names, None, "x") is None


@pytest.mark.parametrize(
    ("names", "told"),
    [(["LABEL_0", "LABEL_1", "LABEL_2"], None), (["a", "b", "c"], TOLD), ([], TOLD), (["LABEL_0", "LABEL_1"], TOLD)],
)
def test_what_can_not_be_known_is_asked_for(names: list[str], told: dict[Label, str] | None) -> None:
    with pytest.raises(TrainerError, match=r"\[labels\.x\]") as caught:
        match_labels(names, told, "x")
    assert caught.value.reason == "LABELS_UNKNOWN"


def test_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("LYRA_ADAPTERS_CONFIG", str(file))
    start = 'base_model = ["nli=/models/nli"]\n'
    file.write_text(start + '[labels.nli]\nSUPPORTS = "LABEL_2"\nREFUTES = "LABEL_0"\nNEUTRAL = "LABEL_1"\n')
    assert load_settings(["--config", str(file)]).bases[0].labels == TOLD | {Label.REFUTES: "LABEL_0"}
    for table, said in (
        ('[labels.other]\nSUPPORTS = "a"\nREFUTES = "b"\nNEUTRAL = "c"\n', "no base model has this alias"),
        ('[labels.nli]\nSUPPORTS = "a"\nREFUTES = "b"\n', "a name of its own for each"),
        ('[labels.nli]\nSUPPORTS = "a"\nREFUTES = "A"\nNEUTRAL = "c"\n', "a name of its own for each"),
        ('[labels.nli]\nYES = "a"\nREFUTES = "b"\nNEUTRAL = "c"\n', "labels.nli"),
    ):
        file.write_text(start + table)
        with pytest.raises(ConfigError, match=said):
            load_settings(["--config", str(file)])
