"""What tools take beyond words and numbers. Labels stay text: the client reads every spelling that Lyra uses."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

LABEL_WORDS = "SUPPORTS, REFUTES or NEUTRAL, in any case; entailment, contradiction and the like are read too"


class Input(BaseModel):
    """Refuses unknown fields: a misspelt one would be left out without a word. Errors quote no values."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ReviewInput(Input):
    """One prediction that somebody reviewed: corrected or confirmed."""

    premise: str = Field(description="The fragment of the document, 1 to 20,000 characters.")
    hypothesis: str = Field(description="The claim judged against it, 1 to 4,000 characters.")
    correct_label: str = Field(description=f"What the reviewer says is right: {LABEL_WORDS}.")
    original_label: str = Field(default="", description="What the model had said. Empty: not known.")
    original_confidence: float | None = Field(default=None, description="The model's probability of it, 0 to 1.")
    id: str = Field(default="", description="The caller's id of the review. Empty: a digest of task and pair.")
    group: str = Field(default="", description="The source document; it is never split between training and test.")
    task_id: str = Field(default="", description="Another task than the call's.")
    domain: str = Field(default="", description="Another domain than the call's.")

    def review(self, task_id: str, domain: str) -> dict[str, Any]:
        """The review as the client takes it."""
        sample = self.model_dump(exclude={"task_id", "domain"}, exclude_defaults=True)
        return {"sample": sample, "task_id": self.task_id or task_id, "domain": self.domain or domain}


class PairInput(Input):
    """A pair to classify."""

    premise: str = Field(description="The fragment of the document.")
    hypothesis: str = Field(description="The claim judged against it.")


class TrainingInput(Input):
    """How to train; what is left out takes the service's default."""

    epochs: int | None = Field(default=None, description="Passes over the rows, 1 to 100. Default 6.")
    learning_rate: float | None = Field(
        default=None, description="Above 0, at most 0.1. Default: by the base's kind and width."
    )
    batch_size: int | None = Field(default=None, description="Rows per step. Default 8.")
    max_length: int | None = Field(default=None, description="Longest token sequence. Default 512.")
    validation_fraction: float | None = Field(default=None, description="Share held out to judge by. Default 0.2.")
    seed: int | None = Field(default=None, description="Default 0.")


class LoraInput(Input):
    """The adapter's shape; what is left out takes the service's default."""

    rank: int | None = Field(default=None, description="1 to 256. Default 8.")
    alpha: float | None = Field(default=None, description="The update is scaled by alpha / rank. Default 16.")
    dropout: float | None = Field(default=None, description="0 to below 1. Default 0.05.")


Reviews = Annotated[list[ReviewInput], Field(min_length=1, max_length=20_000, description="The reviews to store.")]
Pairs = Annotated[list[PairInput], Field(min_length=1, max_length=256, description="1 to 256 pairs.")]
