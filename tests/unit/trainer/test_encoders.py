"""Encoders against transformers and PEFT as they come."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from lyra_adapters_server.trainer.base import EncoderBase
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.data import encode_rows, make_batch
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.fused import Dropout
from lyra_adapters_server.trainer.heads import summed_loss
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.packing import lay_out
from lyra_adapters_server.trainer.score import classify, score
from lyra_adapters_server.trainer.spec import (
    BaseModelConfig,
    ClassifySpec,
    ScoreSpec,
    TrainSpec,
    WorkerConfig,
    class_prior,
)
from lyra_adapters_server.types import LABELS, AdapterRef, Label, LoraConfig, Pair, Sample, TrainingConfig
from test_lora import SameDropout, SameMasks
from tiny_encoders import ENCODERS, NLI, make_tiny_encoder

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

BARE = AdapterRef(name="base", base_alias="tiny")
WORDS = ("yes", "no", "maybe")


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[Any, Path] = {}

    def make(family: str, labels: tuple[str, ...] = NLI) -> Path:
        if (family, labels) not in made:
            made[family, labels] = make_tiny_encoder(tmp_path_factory.mktemp(family), family, labels)
        return made[family, labels]

    return make


def load(directory: Path, cache: Path, **settings: Any) -> Bases:
    dtype = settings.pop("dtype", "float32")
    base = BaseModelConfig(alias="tiny", source=str(directory), **settings)
    return Bases(WorkerConfig(bases=(base,), device="cpu", dtype=dtype, cache_dir=str(cache)))


def samples(count: int, long: int = 0) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            id=str(index),
            premise=f"the premise {WORDS[index % 3]} sleep " * (1 + index % 4 + (40 if index < long else 0)),
            hypothesis=f"memory {WORDS[index % 2]} or sleep",
            correct_label=LABELS[(index * index) % 3 if index % 5 else 0],
        )
        for index in range(count)
    )


def spec(output: Path, **changes: Any) -> TrainSpec:
    fields: dict[str, Any] = {
        "job_id": "job",
        "base_alias": "tiny",
        "training_samples": samples(20),
        "validation_samples": samples(6, long=1),
        "lora": LoraConfig(rank=4),
        "training": TrainingConfig(epochs=2, batch_size=4, learning_rate=1e-2),
        "champion": BARE,
        "output_dir": str(output),
        "progress_interval_s": 0.0,
    }
    return TrainSpec.model_validate(fields | changes)


def run(wanted: TrainSpec, bases: Bases) -> list[Any]:
    return [event for event in train(wanted, bases) if event is not None]


def plain(directory: Path, adapter: Path | None = None, **options: Any) -> Any:
    """The model as users load it."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        directory, num_labels=3, dtype=torch.float32, ignore_mismatched_sizes=True
    )
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter, **options)
    return model.eval()


def plain_probabilities(model: Any, directory: Path, rows: tuple[Sample, ...], prompt: dict[str, Any]) -> torch.Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    order = [prompt["label_indices"][label] for label in LABELS]
    found = []
    for row in rows:
        inputs = tokenizer(
            row.premise,
            row.hypothesis,
            truncation="only_first",
            max_length=prompt["max_length"],
            return_tensors="pt",
        )
        with torch.inference_mode():
            found.append(torch.softmax(model(**inputs).logits[0, order], dim=0))
    return torch.stack(found)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("labels", [NLI, ()], ids=["own head", "new head"])
@pytest.mark.parametrize("family", ENCODERS)
def test_loss_and_gradients_equal_pefts(
    family: str, labels: tuple[str, ...], dropout: float, directories: Callable[..., Path], tmp_path: Path
) -> None:
    directory = directories(family, labels)
    base = load(directory, tmp_path).get("tiny")
    adapter = base.new_adapter(LoraConfig(rank=4, dropout=dropout), (*base.card.default_target_modules, "dense"), 1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    rows = make_batch(encode_rows(samples(5, long=2), base.encoder, 100), base.padding, base.device)
    assert len(set(rows.lengths.tolist())) > 1
    adapter.dropout = Dropout(dropout, 11)
    adapter.dropout.start(0, 0)
    with adapter.attached():
        loss = summed_loss(base.logits(rows, base.head(base.encoder, adapter)), rows.labels, 0.1)
        loss.backward()

    adapter.save(tmp_path)
    model = plain(directory, tmp_path, is_trainable=True)
    if dropout:
        masks = SameMasks(dropout, 11)
        masks.start(0, lay_out(rows, last=False) if base.packs else None)
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.lora_dropout["default"] = SameDropout(masks)
    types = {} if rows.types is None else {"token_type_ids": rows.types}
    logits = model(input_ids=rows.tokens, attention_mask=rows.mask, **types).logits
    expected = summed_loss(logits[:, list(base.encoder.label_indices)], rows.labels, 0.1)
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    theirs = {
        name.replace(".default", "").replace(".modules_to_save", ""): parameter
        for name, parameter in model.named_parameters()
        if ".original_module." not in name
    }
    assert any("classifier" in name for name in adapter.parameters) == (not labels)
    for name, parameter in adapter.parameters.items():
        wanted, found = theirs[name].grad, parameter.grad
        assert wanted is not None, name
        assert found is not None, name
        if wanted.norm() == 0:
            # DeBERTa's biases of keys and the like move nothing.
            assert found.norm() < 1e-6, name
            continue
        assert ((found - wanted).norm() / wanted.norm()).item() < 1e-5, name


@pytest.mark.parametrize("labels", [NLI, ()], ids=["own head", "new head"])
@pytest.mark.parametrize("family", ENCODERS)
def test_trains_and_scores_as_plain_transformers_and_peft_do(
    family: str, labels: tuple[str, ...], directories: Callable[..., Path], tmp_path: Path
) -> None:
    directory, output = directories(family, labels), tmp_path / "a"
    bases = load(directory, tmp_path)
    rows = samples(6, long=1)
    events = run(spec(output), bases)
    trained = events[-1]
    assert trained.truncated_samples == 1
    assert sorted(path.name for path in output.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "prompt.json",
    ]
    prompt = json.loads((output / "prompt.json").read_text())
    assert prompt["kind"] == "pair"
    config = json.loads((output / "adapter_config.json").read_text())
    assert bool(config["modules_to_save"]) == (not labels)

    subject = AdapterRef(name="x_v1", base_alias="tiny", directory=str(output))
    scored: Any = next(filter(None, score(ScoreSpec(subject=subject, samples=rows), bases)))
    assert scored.metrics == trained.metrics_after
    found = torch.tensor(scored.probabilities)
    expected = plain_probabilities(plain(directory, output), directory, rows, prompt)
    assert torch.allclose(found, expected, atol=1e-5)

    pairs = tuple(Pair(premise=row.premise, hypothesis=row.hypothesis) for row in rows)
    if labels:
        bare = next(filter(None, classify(ClassifySpec(subject=BARE, pairs=pairs), bases)))
        expected = plain_probabilities(plain(directory), directory, rows, prompt)
        assert torch.allclose(torch.tensor(bare.probabilities), expected, atol=1e-5)  # type: ignore[union-attr]
        assert not torch.allclose(found, expected, atol=1e-3)
        return
    with pytest.raises(TrainerError) as caught:
        list(classify(ClassifySpec(subject=BARE, pairs=pairs), bases))
    assert caught.value.reason == "BASE_HAS_NO_HEAD"


def test_before_a_new_head_stands_the_class_prior(directories: Callable[..., Path], tmp_path: Path) -> None:
    bases = load(directories("bert", ()), tmp_path)
    wanted = spec(tmp_path / "a")
    before = run(wanted, bases)[-1].metrics_before
    prior = class_prior(wanted.training_samples)
    assert sum(prior) == pytest.approx(1)
    held_out = [LABELS.index(row.correct_label) for row in wanted.validation_samples]
    assert before.loss == pytest.approx(-sum(math.log(prior[label]) for label in held_out) / len(held_out))
    assert before.accuracy == held_out.count(max(range(3), key=prior.__getitem__)) / len(held_out)
    again = list(filter(None, score(ScoreSpec(subject=BARE, samples=wanted.validation_samples, prior=prior), bases)))
    assert again[-1].metrics == before  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ENCODERS)
def test_everything_random_follows_from_the_seed(family: str, directories: Callable[..., Path], tmp_path: Path) -> None:
    # A checkpoint's missing weights are drawn by transformers, at random, when it is loaded.
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        bases = load(directories(family, ()), tmp_path)
        run(spec(tmp_path / name, training=TrainingConfig(epochs=1, batch_size=4, seed=seed)), bases)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "abc"]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_child_starts_as_its_parent_head_and_all(directories: Callable[..., Path], tmp_path: Path) -> None:
    bases = load(directories("deberta-v3", ()), tmp_path)
    trained = run(spec(tmp_path / "parent"), bases)[-1]
    parent = AdapterRef(name="p_v1", base_alias="tiny", directory=str(tmp_path / "parent"))
    still = TrainingConfig(epochs=1, learning_rate=1e-12)
    child = spec(tmp_path / "child", lora=LoraConfig(rank=6), continue_from=parent, champion=parent, training=still)
    done = run(child, bases)[-1]
    assert done.metrics_before == trained.metrics_after
    assert done.metrics_after.loss == pytest.approx(trained.metrics_after.loss, abs=1e-5)


@pytest.mark.parametrize("family", ENCODERS)
def test_in_bfloat16_the_answer_is_nearly_the_same(
    family: str, directories: Callable[..., Path], tmp_path: Path
) -> None:
    directory = directories(family)
    pairs = tuple(Pair(premise=row.premise, hypothesis=row.hypothesis) for row in samples(6))
    found = []
    for dtype in ("float32", "bfloat16"):
        bases = load(directory, tmp_path, dtype=dtype)
        run(spec(tmp_path / dtype), bases)
        scored: Any = next(filter(None, classify(ClassifySpec(subject=BARE, pairs=pairs), bases)))
        found.append(torch.tensor(scored.probabilities))
    assert torch.allclose(*found, atol=0.02)


def test_labels_without_names_need_the_setting(directories: Callable[..., Path], tmp_path: Path) -> None:
    directory = directories("bert", ("LABEL_0", "LABEL_1", "LABEL_2"))
    with pytest.raises(TrainerError) as caught:
        load(directory, tmp_path).get("tiny")
    assert caught.value.reason == "LABELS_UNKNOWN"
    told = {Label.SUPPORTS: "LABEL_1", Label.REFUTES: "LABEL_2", Label.NEUTRAL: "LABEL_0"}
    card = load(directory, tmp_path, labels=told).get("tiny").card
    assert tuple(card.label_indices.values()) == (1, 2, 0)
    assert card.has_head


def test_a_head_for_something_else_is_replaced(directories: Callable[..., Path], tmp_path: Path) -> None:
    directory = directories("roberta", ("bad", "good"))
    bases = load(directory, tmp_path)
    assert not bases.get("tiny").card.has_head
    run(spec(tmp_path / "a"), bases)
    prompt = json.loads((tmp_path / "a" / "prompt.json").read_text())
    found = plain_probabilities(plain(directory, tmp_path / "a"), directory, samples(2), prompt)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("family", ENCODERS)
def test_the_card_is_true_before_and_after_loading(
    family: str, directories: Callable[..., Path], tmp_path: Path
) -> None:
    bases = load(directories(family), tmp_path)
    base = bases.get("tiny")
    assert isinstance(base, EncoderBase)
    card = base.card
    assert card.parameters == sum(parameter.numel() for parameter in base.model.parameters())
    assert card.prompt is None
    assert card.prompt_name == "pair"
    assert card.max_length == (128 if family == "roberta" else 130)
    assert not {"classifier", "out_proj"} & set(card.linear_modules)
    assert set(card.default_target_modules) <= set(card.linear_modules)
    longest = samples(1, long=1)
    run(spec(tmp_path / "a", training_samples=longest, training=TrainingConfig(epochs=1)), bases)


def test_settings_of_the_other_kind_are_refused(
    directories: Callable[..., Path], tiny_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    from lyra_adapters_server.trainer.prompt import DEFAULT_PROMPT

    with pytest.raises(TrainerError, match=r"\[prompts\.tiny\] is for causal models"):
        load(directories("bert"), tmp_path, prompt=DEFAULT_PROMPT).get("tiny")
    names = dict(zip(Label, NLI, strict=True))
    with pytest.raises(TrainerError, match=r"\[labels\.tiny\] is for encoders"):
        load(tiny_directory("llama"), tmp_path, labels=names).get("tiny")
