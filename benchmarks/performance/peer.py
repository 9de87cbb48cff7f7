"""The peer: what a user would run instead, transformers' Trainer with PEFT, as one plain script.

    python benchmarks/performance/peer.py ROWS.jsonl --base DIRECTORY --output DIRECTORY [--style tuned|default] …

ROWS have premise, hypothesis and label. It trains a LoRA adapter (rank 8, alpha 16, dropout 0.05) on the query and
value projections and saves it; the last line on standard output is one JSON object. It knows nothing of the service.

`tuned` is the best that Trainer's own means gave on CPU: weights in bfloat16 without autocast and plain attention
(both faster there than the alternatives that --autocast and --attention name), no worker processes, rows padded on
the left to the longest of their batch, batches grouped by length, and with `logits_to_keep` the output matrix at the
answer's place alone. `default` is what the documentation's examples do: dynamic padding, random batches, labels in
the place of the answer and -100 elsewhere, logits for every token.

With --paced it stops after each round of steps until a line comes on standard input, so that another program's rounds
can take turns with its own (see speed.py).
"""

from __future__ import annotations

import time

STARTED = time.time()

import argparse  # noqa: E402  # the clock starts before the imports, which are a part of what a user waits for
import json  # noqa: E402
import logging  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

LABELS = ("SUPPORTS", "REFUTES", "NEUTRAL")
WORDS = (" yes", " no", " maybe")
TEMPLATE = (
    "Does the premise support the claim? Answer yes, no or maybe.\nPremise: {premise}\nClaim: {hypothesis}\nAnswer:"
)


class Paced(transformers.TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Times steps, and in rounds of `seconds` waits for a line on standard input."""

    def __init__(self, collator: Any, warm_up: int) -> None:
        self.collator, self.warm_up, self.steps = collator, warm_up, 0
        self.begin, self.until, self.first = 0.0, 0.0, 0

    def on_step_end(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> Any:
        """Counts the step; ends or begins a round."""
        self.steps += 1
        now = time.monotonic()
        if self.until and now >= self.until:
            seconds, steps = now - self.begin, self.steps - self.first
            say({"tokens": self.collator.tokens, "seconds": seconds, "steps": steps, "peak_bytes": peak_bytes()})
            self.until = 0.0
        if self.steps == self.warm_up:
            say({"ready": True})
        if self.steps >= self.warm_up and not self.until:
            line = sys.stdin.readline().strip()
            if not line:
                control.should_training_stop = True
                return control
            self.begin, self.first, self.collator.tokens = time.monotonic(), self.steps, 0
            self.until = self.begin + float(line)
        return control


class Collator:
    """Pads rows to the longest, and counts tokens without padding."""

    def __init__(self, tokenizer: Any, answers: bool) -> None:
        self.tokenizer, self.answers, self.tokens = tokenizer, answers, 0

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes a batch of rows."""
        labels = [row["labels"] for row in rows]
        inputs = [{key: value for key, value in row.items() if key not in ("labels", "length")} for row in rows]
        batch = dict(self.tokenizer.pad(inputs, return_tensors="pt"))
        self.tokens += int(batch["attention_mask"].sum())
        if self.answers:
            width = batch["input_ids"].shape[1]
            padding = [[-100] * (width - len(label)) for label in labels]
            left = self.tokenizer.padding_side == "left"
            labels = [fill + label if left else label + fill for fill, label in zip(padding, labels, strict=True)]
        return {**batch, "labels": torch.tensor(labels)}


class AnswerTrainer(transformers.Trainer):  # type: ignore[misc]  # transformers is untyped here
    """Cross entropy over the three words in the last place, which is the answer's under padding on the left."""

    words: list[int]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Gives the loss of a batch."""
        labels = inputs.pop("labels")
        output = model(**inputs, logits_to_keep=1, use_cache=False)
        loss = torch.nn.functional.cross_entropy(output.logits[:, -1, self.words].float(), labels)
        return (loss, output) if return_outputs else loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--kind", choices=("causal", "encoder"), default="causal")
    parser.add_argument("--style", choices=("tuned", "default"), default="tuned")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attention", default="")
    parser.add_argument("--autocast", choices=("yes", "no"), default="no")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--warm-up", type=int, default=2)
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.set_seed(arguments.seed)
    imported = time.time()

    rows = [json.loads(line) for line in arguments.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.base)
    causal, tuned = arguments.kind == "causal", arguments.style == "tuned"
    model = load(arguments, causal, tuned)
    if causal and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left" if causal and tuned else "right"
    words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in WORDS] if causal else []
    collator = Collator(tokenizer, answers=causal and not tuned)
    pace = Paced(collator, arguments.warm_up)
    autocast = arguments.autocast == "yes"
    options: dict[str, Any] = {"train_sampling_strategy": "group_by_length"} if tuned else {}
    settings = transformers.TrainingArguments(
        output_dir=str(arguments.output),
        num_train_epochs=10_000 if arguments.paced else arguments.epochs,
        per_device_train_batch_size=arguments.batch,
        learning_rate=arguments.learning_rate,
        warmup_steps=0.1,
        weight_decay=0.01,
        seed=arguments.seed,
        use_cpu=not torch.cuda.is_available(),
        # Autocast: the weights are bfloat16 without it, and it casts what need not be.
        bf16=autocast and arguments.dtype == "bfloat16",
        dataloader_num_workers=arguments.workers,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no" if arguments.paced else "steps",
        report_to=[],
        disable_tqdm=True,
        **options,
    )
    kind = AnswerTrainer if causal and tuned else transformers.Trainer
    trainer = kind(
        model=model,
        args=settings,
        train_dataset=encode(rows, tokenizer, words, arguments.max_length, causal, tuned),
        data_collator=collator,
        callbacks=[pace] if arguments.paced else [],
    )
    trainer.words = words
    loaded = time.time()
    trainer.train()
    trained = time.time()
    if arguments.paced:
        return
    model.save_pretrained(arguments.output)
    say(
        {
            "started": STARTED,
            "import_s": imported - STARTED,
            "load_s": loaded - imported,
            "train_s": trained - loaded,
            "save_s": time.time() - trained,
            "total_s": time.time() - STARTED,
            "tokens": collator.tokens,
            "peak_bytes": peak_bytes(),
        }
    )


def load(arguments: argparse.Namespace, causal: bool, tuned: bool) -> Any:
    """The base with a new adapter."""
    options: dict[str, Any] = {"dtype": getattr(torch, arguments.dtype)}
    attention = arguments.attention or ("eager" if tuned else "")
    if attention:
        options["attn_implementation"] = attention
    kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSequenceClassification
    if not causal:
        options |= {"num_labels": len(LABELS), "ignore_mismatched_sizes": True}
    model = kind.from_pretrained(arguments.base, **options)
    lora = peft.LoraConfig(
        r=8,
        lora_alpha=16,
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj"] if causal else ["query", "value"],
        task_type="CAUSAL_LM" if causal else "SEQ_CLS",
    )
    return peft.get_peft_model(model, lora)


def encode(
    rows: list[dict[str, Any]], tokenizer: Any, words: list[int], max_length: int, causal: bool, tuned: bool
) -> list[dict[str, Any]]:
    """The rows as the collator takes them."""
    found = []
    for row in rows:
        label = LABELS.index(row.get("label") or row["correct_label"])
        if not causal:
            encoded = tokenizer(row["premise"], row["hypothesis"], truncation="only_first", max_length=max_length)
        else:
            text = TEMPLATE.format(premise=row["premise"], hypothesis=row["hypothesis"])
            encoded = tokenizer(text, truncation=True, max_length=max_length)
        made = {key: list(encoded[key]) for key in encoded}
        if causal and not tuned:
            # The answer follows the prompt, and is all that has a label.
            made["input_ids"], made["attention_mask"] = [*made["input_ids"], words[label]], [*made["attention_mask"], 1]
            made["labels"] = [-100] * (len(made["input_ids"]) - 1) + [words[label]]
        else:
            made["labels"] = label
        made["length"] = len(made["input_ids"])
        found.append(made)
    return found


def say(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
