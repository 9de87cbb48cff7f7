"""How to train: optional settings of a request, of which unset ones take the server's defaults."""

from __future__ import annotations

from dataclasses import dataclass

from lyra_adapters.models.base import Model, Word


class Activation(Word):
    """When a newly trained version goes in force."""

    UNSPECIFIED = "UNSPECIFIED"
    GATED = "GATED"
    MANUAL = "MANUAL"
    ALWAYS = "ALWAYS"


class ConflictPolicy(Word):
    """What to do when the same pair comes with different labels."""

    UNSPECIFIED = "UNSPECIFIED"
    REFUSE = "REFUSE"
    KEEP_NEWEST = "KEEP_NEWEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig(Model):
    """The adapter's shape (LoRA, arXiv 2106.09685).

    Attributes:
        rank: Rank of the update, 1 to 256. Default 8.
        alpha: The update is scaled by alpha / rank; above 0, at most 1,024. Default 16.
        dropout: Dropout on the update's input, 0 to below 1. Default 0.05.
        target_modules: Linear modules of the base (`q_proj`), or `all-linear`. Default: its query and value
            projections.
        upper_half: Whether the upper half of the layers alone is adapted: faster, and learns less. Default False.
    """

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    upper_half: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Model):
    """One setting to try; what is None is as in TrainingConfig.

    Attributes:
        epochs: Passes over the training rows, 1 to 100.
        learning_rate: Peak learning rate of AdamW, above 0, at most 0.1.
    """

    epochs: int | None = None
    learning_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig(Model):
    """How to train.

    Attributes:
        epochs: Passes over the training rows, 1 to 100. Default 6.
        learning_rate: Peak learning rate of AdamW, above 0, at most 0.1. Default: by the base's kind and width, 2e-3
            for the demo base; half of that with continue_from.
        batch_size: Rows per optimizer step, 1 to 1,024. Default 8.
        max_length: Longest token sequence, prompt included, 32 to 8,192. Of longer premises stays what the hypothesis
            speaks of. Default 512.
        seed: Seed of everything random. Default 0.
        validation_fraction: Share of the rows held out, 0 to 0.9. Default 0.2.
        patience: Evaluations on inner rows without a lower loss before stopping early, 0 to 100; 0: never. Default 3.
        weight_decay: Weight decay of AdamW, 0 to 1. Default 0.01.
        warmup_ratio: Share of the steps over which the learning rate rises, 0 to 1. Default 0.1.
        max_grad_norm: Longest gradient norm, above 0. Default 1.0.
        label_smoothing: Probability spread over the wrong labels, 0 to 0.5. Default 0.
        evaluations_per_epoch: Evaluations on the inner rows per epoch, 1 to 100. Default 1.
        inner_fraction: Share of the training rows kept from training to choose the best step and the temperature, 0 to
            0.5. Default 0.15.
        folds: Folds inside the training rows in the place of a fixed inner part, 1 to 10. Default: 3 where fewer than
            100 rows are trained on, else 1. Never more than there are groups.
        candidates: Settings to try, at most 8; the best on the inner rows is published.
        balance_labels: Whether each label counts alike in the loss. Default: where labels are far from balanced.
        replay_general_rows: Whether some general rows are trained on too, against forgetting: one for every three
            training rows, less the confirmations. Default: where recorded feedback has fewer confirmations than that.
        balance_reviews: Whether confirmations count as much in the loss, all together, as corrections. Default: where
            there are confirmations, and more than two corrections for each.
        distillation: Recombined pairs for each training row, 0 to 4, on which the version learns to answer as what it
            starts from did. Default: 1 with `continue_from`, else 0.
    """

    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    seed: int | None = None
    validation_fraction: float | None = None
    patience: int | None = None
    weight_decay: float | None = None
    warmup_ratio: float | None = None
    max_grad_norm: float | None = None
    label_smoothing: float | None = None
    evaluations_per_epoch: int | None = None
    inner_fraction: float | None = None
    folds: int | None = None
    candidates: tuple[Candidate, ...] = ()
    balance_labels: bool | None = None
    replay_general_rows: bool | None = None
    balance_reviews: bool | None = None
    distillation: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerPolicy(Model):
    """When training is due.

    Attributes:
        min_samples: Fewest samples, 1 to 20,000. Default 50.
        min_error_rate: Smallest share of reviewed predictions that were wrong, 0 to 1. Default 0.1.
        force: Train whatever the counts say.
    """

    min_samples: int | None = None
    min_error_rate: float | None = None
    force: bool = False
