"""The model card of a version: what it is, how well it does, and a snippet that runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from lyra_adapters_server.trainer.events import Calibration
from lyra_adapters_server.trainer.metrics import LEAST_CALIBRATED
from lyra_adapters_server.types import BaseIdentity, LoraConfig, Metrics


@dataclass(frozen=True)
class CardFacts:
    """What the card tells."""

    name: str
    adapter: str
    base: BaseIdentity
    # An encoder with a classification head, not a causal model.
    encoder: bool
    continued_from: str
    domain: str
    champion: str
    verdict: str
    explanation: str
    training_samples: int
    validation_samples: int
    lora: LoraConfig
    before: Metrics | None
    after: Metrics | None
    calibration: Calibration = field(default_factory=Calibration)


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with the metadata block that model hubs read."""
    lines = [
        "---",
        f"base_model: {facts.base.id}",
        "library_name: peft",
        "pipeline_tag: text-classification",
        "tags: [lora, nli, lyra-adapters]",
        "---",
        "",
        f"# {facts.name}",
        "",
        f"A LoRA adapter (rank {facts.lora.rank}, alpha {facts.lora.alpha:g}, "
        f"{', '.join(facts.lora.target_modules)}) for `{facts.base.id}` that judges whether a premise SUPPORTS, "
        "REFUTES or is NEUTRAL to a hypothesis. Trained by lyra-adapters from reviewed predictions.",
        "",
        f"- Trained on {facts.training_samples} rows; {facts.validation_samples} rows were held out by document.",
        f"- Domain: {facts.domain or 'not named'}. Continues from: {facts.continued_from or 'nothing'}.",
        f"- Base weights: digest `{facts.base.digest}`"
        + (f", revision `{facts.base.revision}`." if facts.base.revision else "."),
        f"- Verdict against {facts.champion}: {facts.verdict}. {facts.explanation}",
        "",
    ]
    if facts.before and facts.after:
        lines += [
            f"| on {facts.after.samples} held-out rows that neither was trained on | {facts.champion} | {facts.name} |",
            "| --- | --- | --- |",
            *(
                f"| {label} | {getattr(facts.before, field):.3f} | {getattr(facts.after, field):.3f} |"
                for label, field in (
                    ("accuracy", "accuracy"),
                    ("macro-F1", "macro_f1"),
                    ("Brier score (lower is better)", "brier"),
                    ("negative log-likelihood", "loss"),
                    ("calibration error", "calibration_error"),
                )
                if field != "calibration_error" or facts.after.samples >= LEAST_CALIBRATED
            ),
            "",
        ]
    lines += _calibration(facts.calibration)
    snippet = ENCODER_SNIPPET if facts.encoder else CAUSAL_SNIPPET
    return "\n".join([*lines, "## Use", "", "```python", snippet.strip(), "```", ""])


def _calibration(found: Calibration) -> list[str]:
    if found.rows == 0 and found.temperature == 1:
        return ["No temperature was fitted: its probabilities are as the model gives them.", ""]
    if found.rows == 0:
        return [f"Its logits are divided by {found.temperature:g}, the temperature of what it continues from.", ""]
    how = "each predicted by a training that left it out" if found.cross_fitted else "kept from training"
    told = f"Its logits are divided by {found.temperature:g} (temperature, fitted on {found.rows} rows, {how})."
    if found.uncalibrated and found.calibrated and found.calibrated.samples >= LEAST_CALIBRATED:
        told += (
            f" On all {found.calibrated.samples} held-out rows that takes the calibration error from "
            f"{found.uncalibrated.calibration_error:.3f} to {found.calibrated.calibration_error:.3f} and the negative "
            f"log-likelihood from {found.uncalibrated.loss:.3f} to {found.calibrated.loss:.3f}."
        )
    return [told, ""]


CAUSAL_SNIPPET = """
import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

directory = Path(".")  # this directory
config = json.loads((directory / "adapter_config.json").read_text())
prompt = json.loads((directory / "prompt.json").read_text())
base = config["base_model_name_or_path"]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
model = PeftModel.from_pretrained(model, directory).eval()

text = prompt["template"].format(premise="Naps of 90 minutes improved recall.", hypothesis="Naps help memory.")
inputs = tokenizer(text, return_tensors="pt", add_special_tokens=prompt["add_special_tokens"])
with torch.inference_mode():
    logits = model(**inputs).logits[0, -1]
labels = list(prompt["label_token_ids"])
chosen = logits[[prompt["label_token_ids"][label] for label in labels]].float()
probabilities = torch.softmax(chosen / prompt["temperature"], 0)
print({label: round(float(p), 3) for label, p in zip(labels, probabilities)})
"""

ENCODER_SNIPPET = """
import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

directory = Path(".")  # this directory
config = json.loads((directory / "adapter_config.json").read_text())
prompt = json.loads((directory / "prompt.json").read_text())
base = config["base_model_name_or_path"]
tokenizer = AutoTokenizer.from_pretrained(base)
# A base without a head for three labels gets one here; the adapter brings its weights.
model = AutoModelForSequenceClassification.from_pretrained(
    base, num_labels=3, ignore_mismatched_sizes=True, dtype=torch.float32
)
model = PeftModel.from_pretrained(model, directory).eval()

premise, hypothesis = "Naps of 90 minutes improved recall.", "Naps help memory."
inputs = tokenizer(
    premise, hypothesis, truncation="only_first", max_length=prompt["max_length"], return_tensors="pt"
)
with torch.inference_mode():
    logits = model(**inputs).logits[0]
labels = list(prompt["label_indices"])
chosen = logits[[prompt["label_indices"][label] for label in labels]]
probabilities = torch.softmax(chosen / prompt["temperature"], 0)
print({label: round(float(p), 3) for label, p in zip(labels, probabilities)})
"""
