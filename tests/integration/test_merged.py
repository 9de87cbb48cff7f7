"""The merged model, and the PEFT directory itself, in plain transformers and peft: the same label probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.trainer.bases import Bases
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.formats.make import make_format
from lyra_adapters_server.trainer.score import write_prompt
from lyra_adapters_server.trainer.spec import BaseModelConfig, FormatSpec, WorkerConfig
from lyra_adapters_server.types import AdapterRef, LoraConfig
from tiny_base import rows
from tiny_causal import FAMILIES, make_adapter, make_tiny_causal, reference_probabilities
from tiny_encoders import ENCODERS, NLI, make_tiny_encoder

# PEFT asks transformers for an attribute of an older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

ROWS = rows(9)


def bases_of(base: Path, cache: Path) -> Bases:
    config = BaseModelConfig(alias="tiny", source=str(base))
    return Bases(WorkerConfig(bases=(config,), device="cpu", dtype="float32", cache_dir=str(cache)))


def make(bases: Bases, adapter: Path, form: str, output: Path) -> Path:
    output.mkdir()
    subject = AdapterRef(name="x_v1", base_alias="tiny", directory=str(adapter))
    digest = bases.get("tiny").card.identity.digest
    spec = FormatSpec.model_validate(
        {"subject": subject, "form": form, "base_digest": digest, "output_dir": str(output)}
    )
    turns = list(make_format(spec, bases))
    assert [event.kind for event in turns if event is not None] == ["format_made"]
    # Other work gets its turns meanwhile.
    assert None in turns
    return output


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_causal_model_answers_as_with_the_adapter(tmp_path: Path, family: str) -> None:
    base = make_tiny_causal(tmp_path / "base", family)
    adapter = make_adapter(tmp_path / "adapter", base)
    merged = make(bases_of(base, tmp_path / "cache"), adapter, "MERGED", tmp_path / "merged")
    _, _, expected = reference_probabilities(base, ROWS, adapter)
    _, _, bare = reference_probabilities(base, ROWS, None, prompt_from=adapter)
    _, _, found = reference_probabilities(merged, ROWS, None, prompt_from=merged)
    for row, other, unlike in zip(found, expected, bare, strict=True):
        assert row == pytest.approx(other, abs=1e-4)
        assert row != pytest.approx(unlike, abs=0.02)
    names = {path.name for path in merged.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "prompt.json", "Modelfile"} <= names
    assert "FROM .\n" in (merged / "Modelfile").read_text()


@pytest.mark.parametrize("labels", [NLI, ()], ids=["with_its_head", "with_a_new_head"])
@pytest.mark.parametrize("family", ENCODERS)
def test_a_merged_encoder_answers_as_with_the_adapter(tmp_path: Path, family: str, labels: tuple[str, ...]) -> None:
    import torch

    base = make_tiny_encoder(tmp_path / "base", family, labels)
    bases = bases_of(base, tmp_path / "cache")
    loaded = bases.get("tiny")
    adapter = loaded.new_adapter(LoraConfig(rank=4), loaded.card.default_target_modules, seed=1)
    with torch.no_grad():
        for name, parameter in adapter.parameters.items():
            if ".lora_B." in name or ".lora_" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    (tmp_path / "adapter").mkdir()
    adapter.save(tmp_path / "adapter")
    write_prompt(tmp_path / "adapter", loaded.encoder, 128)
    merged = make(bases, tmp_path / "adapter", "MERGED", tmp_path / "merged")
    expected = encoder_probabilities(base, tmp_path / "adapter")
    assert encoder_probabilities(merged, None) == [pytest.approx(row, abs=1e-4) for row in expected]
    named = json.loads((merged / "config.json").read_text())["id2label"]
    assert set(named.values()) == (set(labels) if labels else {"SUPPORTS", "REFUTES", "NEUTRAL"})
    assert not (merged / "Modelfile").exists()
    for form in ("GGUF", "OLLAMA"):
        with pytest.raises(TrainerError) as caught:
            make(bases, tmp_path / "adapter", form, tmp_path / form)
        assert caught.value.reason == "FORMAT_NOT_AVAILABLE"
        assert "classification head" in caught.value.message


def encoder_probabilities(model_directory: Path, adapter: Path | None) -> list[list[float]]:
    import peft
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_directory)
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_directory, num_labels=3, ignore_mismatched_sizes=True, dtype=torch.float32
    )
    if adapter:
        model = peft.PeftModel.from_pretrained(model, adapter)
    found = []
    with torch.inference_mode():
        for row in ROWS:
            inputs = tokenizer(row["premise"], row["hypothesis"], return_tensors="pt")
            found.append(torch.softmax(model.eval()(**inputs).logits[0].double(), 0).tolist())
    return found


def test_the_peft_directory_merges_and_unloads_in_peft(tmp_path: Path) -> None:
    import peft
    import torch
    import transformers

    base = make_tiny_causal(tmp_path / "base", "qwen2")
    adapter = make_adapter(tmp_path / "adapter", base)
    tokens, labels, expected = reference_probabilities(base, ROWS, adapter)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    assert not any("lora" in name for name, _ in merged.named_parameters())
    with torch.inference_mode():
        for ids, row in zip(tokens, expected, strict=True):
            logits = merged.eval()(torch.tensor([ids])).logits[0, -1, labels].double()
            assert torch.softmax(logits, 0).tolist() == pytest.approx(row, abs=1e-4)


def test_an_adapter_is_not_mixed_with_other_weights_than_its_bases(tmp_path: Path) -> None:
    base = make_tiny_causal(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    (tmp_path / "merged").mkdir()
    spec = FormatSpec(
        subject=AdapterRef(name="x_v1", base_alias="tiny", directory=str(adapter)),
        form="MERGED",
        base_digest="0" * 64,
        output_dir=str(tmp_path / "merged"),
    )
    with pytest.raises(TrainerError, match="other weights") as caught:
        list(make_format(spec, bases_of(base, tmp_path / "cache")))
    assert caught.value.reason == "FORMAT_NOT_AVAILABLE"
    assert not list((tmp_path / "merged").iterdir())


def test_a_form_that_needs_more_memory_than_there_is_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_tiny_causal(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    monkeypatch.setattr("lyra_adapters_server.trainer.formats.merged.available_bytes", lambda _: 1000)
    with pytest.raises(TrainerError, match=r"merging needs .* GiB of memory"):
        make(bases_of(base, tmp_path / "cache"), adapter, "MERGED", tmp_path / "merged")
