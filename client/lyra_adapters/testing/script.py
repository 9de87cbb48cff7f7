"""Ready lists of events, as a job on a real server gives them; the figures are invented."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lyra_adapters.models import (
    AdapterVersion,
    Cancelled,
    Confusion,
    ConfusionRow,
    Evaluation,
    EvaluationStage,
    Event,
    Failed,
    Metrics,
    Progress,
    Published,
    Queued,
    Started,
    Succeeded,
    Verdict,
    VerdictOutcome,
    VersionState,
)

BEFORE = Metrics(
    samples=20,
    accuracy=0.4,
    macro_f1=0.35,
    brier=0.75,
    loss=1.2,
    confusion=Confusion(
        supports=ConfusionRow(supports=3, refutes=2, neutral=2),
        refutes=ConfusionRow(supports=2, refutes=2, neutral=3),
        neutral=ConfusionRow(supports=1, refutes=2, neutral=3),
    ),
)
AFTER = Metrics(
    samples=20,
    accuracy=0.8,
    macro_f1=0.79,
    brier=0.31,
    loss=0.55,
    confusion=Confusion(
        supports=ConfusionRow(supports=6, refutes=0, neutral=1),
        refutes=ConfusionRow(supports=1, refutes=5, neutral=1),
        neutral=ConfusionRow(supports=0, refutes=1, neutral=5),
    ),
)


def _begin(steps: int) -> list[Event]:
    started = Started(
        attempt=1,
        training_samples=80,
        validation_samples=20,
        total_steps=steps,
        device="cpu",
        dtype="float32",
        trainable_parameters=460_800,
    )
    events: list[Event] = [Queued(position=1), started]
    events.append(Evaluation(stage=EvaluationStage.BEFORE, subject="base", metrics=BEFORE))
    return events + [
        Progress(
            step=step,
            total_steps=steps,
            epoch=step / steps,
            loss=round(1.2 - 0.6 * step / steps, 4),
            learning_rate=5e-4,
            tokens_per_second=1500.0,
            fraction_done=step / steps,
            eta=timedelta(seconds=steps - step),
        )
        for step in range(1, steps + 1)
    ]


def training_script(
    *,
    adapter: str = "user_feedback",
    version: str = "v1",
    steps: int = 4,
    outcome: VerdictOutcome | str = VerdictOutcome.BETTER,
    activated: bool | None = None,
    held: str = "",
) -> list[Event]:
    """A job that publishes a version.

    Args:
        adapter: The adapter's name.
        version: The version it publishes.
        steps: Progress events.
        outcome: The gate's verdict.
        activated: Whether the version comes in force. Default: what the gate does with the outcome.
        held: Why it does not, although the verdict allows it.
    """
    outcome = VerdictOutcome(outcome)
    if activated is None:
        activated = outcome in (VerdictOutcome.BETTER, VerdictOutcome.NOT_WORSE) and not held
    verdict = Verdict(
        outcome=outcome,
        champion="base",
        champion_metrics=BEFORE,
        challenger_metrics=AFTER,
        explanation="Accuracy 0.80 against 0.40 on 20 rows; Brier 0.31 against 0.75.",
        activated=activated,
        held=held,
    )
    published = AdapterVersion(
        adapter=adapter,
        version=version,
        name=f"{adapter}_{version}",
        state=VersionState.CANDIDATE,
        base_model="demo",
        create_time=datetime.now(UTC),
        metrics_before=BEFORE,
        metrics_after=AFTER,
        path=f"/adapters/{adapter}_{version}",
        sha256="0" * 64,
        size_bytes=1_843_200,
        training_samples=80,
        validation_samples=20,
    )
    return [
        *_begin(steps),
        Evaluation(stage=EvaluationStage.VALIDATION, metrics=AFTER, step=steps, best=True),
        Evaluation(stage=EvaluationStage.AFTER, metrics=AFTER, step=steps, best=True),
        Published(version=published),
        verdict,
        Succeeded(version=published.name, activated=activated, duration=timedelta(seconds=90)),
    ]


def failed_script(reason: str = "WORKER_DIED", message: str = "The trainer died three times.") -> list[Event]:
    """A job that fails after its first steps."""
    return [*_begin(2), Failed(reason=reason, message=message)]


def cancelled_script(actor: str = "", reason: str = "") -> list[Event]:
    """A job that is cancelled after its first steps."""
    return [*_begin(2), Cancelled(actor=actor, reason=reason)]
