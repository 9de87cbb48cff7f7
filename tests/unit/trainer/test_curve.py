"""A whole training beside PEFT's layers, plain autograd and AdamW: the same losses, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from lyra_adapters_server.trainer.bases import Base, Bases
from lyra_adapters_server.trainer.data import encode_rows, make_batch, training_order
from lyra_adapters_server.trainer.loop import train
from lyra_adapters_server.trainer.packing import lay_out
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from lyra_adapters_server.types import LoraConfig, TrainingConfig
from test_loop import samples, spec
from test_lora import SameDropout, SameMasks
from tiny_encoders import make_tiny_encoder

# PEFT asks transformers by a name that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TRAINING = TrainingConfig(epochs=4, batch_size=4, learning_rate=5e-3, weight_decay=0.1, max_grad_norm=0.5, seed=3)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("family", ["llama", "qwen2", "bert"])
def test_follows_pefts_losses(
    family: str, dropout: float, tiny_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    encoder = family == "bert"
    directory = make_tiny_encoder(tmp_path / "base", family) if encoder else tiny_directory(family)
    source = BaseModelConfig(alias="tiny", source=str(directory))
    bases = Bases(WorkerConfig(bases=(source,), device="cpu", dtype="float32", cache_dir=str(tmp_path / "cache")))
    lora = LoraConfig(rank=4, alpha=16, dropout=dropout)
    wanted = spec(tmp_path / "ours", validation_samples=(), inner=(), lora=lora, training=TRAINING)
    losses = [event.loss for event in train(wanted, bases) if event is not None and event.kind == "progress"]

    expected = reference(bases.get("tiny"), directory, lora, tmp_path / "start")
    assert len(losses) == len(expected) == 20
    assert losses == pytest.approx(expected, abs=1e-4)
    # It moved, by far more than the difference allowed.
    assert max(expected) - min(expected) > 0.05


def reference(base: Base, directory: Path, lora: LoraConfig, start: Path) -> list[float]:
    """The same rows in the same order, from the same A, with transformers, PEFT, AdamW and autograd alone."""
    start.mkdir()
    base.new_adapter(lora, base.card.default_target_modules, TRAINING.seed).save(start)
    encoder = not hasattr(base.encoder, "label_token_ids")
    kind = transformers.AutoModelForSequenceClassification if encoder else transformers.AutoModelForCausalLM
    plain = kind.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    # Not to training mode: only the adapter drops anything.
    model = peft.PeftModel.from_pretrained(plain, start, is_trainable=True).eval()
    masks = SameMasks(lora.dropout, TRAINING.seed)
    if lora.dropout:
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.lora_dropout["default"] = SameDropout(masks)
    rows = encode_rows(samples(20), base.encoder, TRAINING.max_length)
    lengths = [len(row.tokens) for row in rows]
    order = training_order(lengths, TRAINING.epochs, TRAINING.batch_size, TRAINING.seed)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=TRAINING.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate(len(order)))
    losses = []
    for step, chosen in enumerate(order):
        # As the micro-batch has them, whose masks are drawn over all of it: shortest first.
        batch = sorted((rows[index] for index in chosen), key=lambda row: len(row.tokens))
        masks.start(step, lay_out(make_batch(batch, base.padding, base.device), last=not encoder))
        width = max(len(row.tokens) for row in batch)
        tokens = torch.tensor([[*row.tokens, *[base.padding] * (width - len(row.tokens))] for row in batch])
        mask = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in batch])
        inputs: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask}
        if encoder:
            inputs["token_type_ids"] = torch.tensor([[*row.types, *[0] * (width - len(row.types))] for row in batch])
        logits = model(**inputs).logits
        if encoder:
            logits = logits[:, list(base.encoder.label_indices)]
        else:
            logits = logits[torch.arange(len(batch)), mask.sum(1) - 1][:, list(base.encoder.label_token_ids)]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([row.label for row in batch]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, TRAINING.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def rate(steps: int) -> Callable[[int], float]:
    """A linear rise over the first tenth, then a linear fall that would reach 0 after the last step."""
    warmup = round(steps * TRAINING.warmup_ratio)

    def at(done: int) -> float:
        step = done + 1
        share = step / warmup if step <= warmup else (steps - step + 1) / (steps - warmup + 1)
        return share * TRAINING.learning_rate

    return at
