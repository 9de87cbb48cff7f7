"""`train` and `watch`: a job and its events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lyra_adapters.cli import output
from lyra_adapters.cli.context import Context, command, whoami
from lyra_adapters.cli.exits import Exit
from lyra_adapters.cli.jsonl import read_samples
from lyra_adapters.cli.live import JobView
from lyra_adapters.convert import refused
from lyra_adapters.errors import InvalidArgument
from lyra_adapters.models import Activation, VersionState
from lyra_adapters.streams import EventStream

SHAPE, HOW, DUE = "Shape of the adapter", "Training", "When training is due"


def shape(name: str, help_: str) -> Any:
    """An option about the adapter's shape."""
    return typer.Option(name, help=help_, rich_help_panel=SHAPE)


def how(name: str, help_: str) -> Any:
    """An option about the training."""
    return typer.Option(name, help=help_, rich_help_panel=HOW)


def due(name: str, help_: str) -> Any:
    """An option about when training is due."""
    return typer.Option(name, help=help_, rich_help_panel=DUE)


def train(
    context: Context,
    file: Annotated[Path | None, typer.Argument(help="Corrections in JSON Lines; - is standard input.")] = None,
    adapter: Annotated[str, typer.Option(help="Name of the adapter. Default: user_feedback.")] = "",
    task_id: Annotated[str, typer.Option(help="Your task; rollback can name it.")] = "",
    actor: Annotated[str | None, typer.Option(help="Who asks. Default: your user name.")] = None,
    domain: Annotated[str, typer.Option(help="Domain of the rows; a new one makes training due.")] = "",
    base_model: Annotated[str, typer.Option(help="Alias or id. Default: the server's first.")] = "",
    feedback: Annotated[bool, typer.Option("--feedback", help="Train on recorded feedback, without a file.")] = False,
    feedback_task: Annotated[list[str] | None, typer.Option(help="Only feedback of this task; repeatable.")] = None,
    feedback_domain: Annotated[list[str] | None, typer.Option(help="Only feedback of this domain; repeatable.")] = None,
    only_new: Annotated[bool, typer.Option("--only-new", help="Only feedback not trained on yet.")] = False,
    rank: Annotated[int | None, shape("--rank", "1 to 256. Default 8.")] = None,
    alpha: Annotated[float | None, shape("--alpha", "Scale is alpha / rank. Default 16.")] = None,
    dropout: Annotated[float | None, shape("--dropout", "0 to below 1. Default 0.05.")] = None,
    target: Annotated[
        list[str] | None, shape("--target", "Linear module or all-linear; repeatable. Default: query and value.")
    ] = None,
    upper_half: Annotated[bool, shape("--upper-half", "The upper half of the layers alone: faster.")] = False,
    epochs: Annotated[int | None, how("--epochs", "Default 6.")] = None,
    learning_rate: Annotated[
        float | None,
        how(
            "--learning-rate",
            "Default: by the base's kind and width (2e-3 for the demo base); half with --continue-from.",
        ),
    ] = None,
    batch_size: Annotated[int | None, how("--batch-size", "Rows per step. Default 8.")] = None,
    max_length: Annotated[int | None, how("--max-length", "Tokens, prompt included. Default 512.")] = None,
    seed: Annotated[int | None, how("--seed", "Default 0.")] = None,
    validation_fraction: Annotated[float | None, how("--validation-fraction", "Held out. Default 0.2.")] = None,
    patience: Annotated[int | None, how("--patience", "Evaluations without gain; 0: no early stop. Default 3.")] = None,
    weight_decay: Annotated[float | None, how("--weight-decay", "Default 0.01.")] = None,
    warmup_ratio: Annotated[float | None, how("--warmup-ratio", "Share of the steps. Default 0.1.")] = None,
    max_grad_norm: Annotated[float | None, how("--max-grad-norm", "Default 1.0.")] = None,
    label_smoothing: Annotated[float | None, how("--label-smoothing", "0 to 0.5. Default 0.")] = None,
    evaluations_per_epoch: Annotated[int | None, how("--evaluations-per-epoch", "Default 1.")] = None,
    inner_fraction: Annotated[
        float | None, how("--inner-fraction", "Kept from training to choose step and temperature. Default 0.15.")
    ] = None,
    folds: Annotated[int | None, how("--folds", "Folds inside the training rows. Default: 3 below 100 rows.")] = None,
    candidate: Annotated[
        list[str] | None, how("--candidate", "EPOCHS:LEARNING_RATE to try, such as 6:1e-3; repeatable.")
    ] = None,
    balance_labels: Annotated[
        bool | None,
        typer.Option("--balance-labels/--as-they-are", help="Each label counts alike.", rich_help_panel=HOW),
    ] = None,
    replay_general_rows: Annotated[
        bool | None,
        typer.Option("--replay-general/--no-replay-general", help="Against forgetting.", rich_help_panel=HOW),
    ] = None,
    balance_reviews: Annotated[
        bool | None,
        typer.Option(
            "--balance-reviews/--reviews-as-they-are",
            help="Confirmations count as much as corrections.",
            rich_help_panel=HOW,
        ),
    ] = None,
    distillation: Annotated[
        float | None, how("--distillation", "Pairs a row answered as before. Default: 1 with --continue-from.")
    ] = None,
    min_samples: Annotated[int | None, due("--min-samples", "Default 50.")] = None,
    min_error_rate: Annotated[float | None, due("--min-error-rate", "0 to 1. Default 0.1.")] = None,
    force: Annotated[bool, due("--force", "Train whatever the counts say.")] = False,
    activation: Annotated[
        str | None, typer.Option(metavar="gated|manual|always", help="When the version goes in force. Default: gated.")
    ] = None,
    continue_from: Annotated[str, typer.Option(help="Full name of the version to start from (academic_v1).")] = "",
    keep_newest: Annotated[
        bool, typer.Option("--keep-newest", help="Of contradicting rows keep the last; else they are refused.")
    ] = False,
    request_id: Annotated[str | None, typer.Option(help="UUID; repeating it returns the same job.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and leave.")] = False,
    require_active: Annotated[
        bool, typer.Option("--require-active", help="Exit 10 if the version was not put in force.")
    ] = False,
) -> int:
    """Train an adapter from corrections, and watch it.

    Ctrl-C leaves the job running and says how to watch or cancel it.
    """
    source = None
    if feedback or feedback_task or feedback_domain or only_new:
        source = {"task_ids": feedback_task or [], "domains": feedback_domain or [], "only_new": only_new}
    if (file is None) == (source is None):
        raise typer.BadParameter("Give a FILE of corrections or --feedback, one of the two.")
    if activation is not None and activation.upper() not in ("GATED", "MANUAL", "ALWAYS"):
        raise typer.BadParameter(f"--activation is {activation!r}; it must be gated, manual or always.")
    training = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_length": max_length,
        "seed": seed,
        "validation_fraction": validation_fraction,
        "patience": patience,
        "weight_decay": weight_decay,
        "warmup_ratio": warmup_ratio,
        "max_grad_norm": max_grad_norm,
        "label_smoothing": label_smoothing,
        "evaluations_per_epoch": evaluations_per_epoch,
        "inner_fraction": inner_fraction,
        "folds": folds,
        "candidates": [_candidate(text) for text in candidate or ()],
        "balance_labels": balance_labels,
        "replay_general_rows": replay_general_rows,
        "balance_reviews": balance_reviews,
        "distillation": distillation,
    }
    rows = None if file is None else read_samples(file)
    view = JobView(context.json)
    with context.client(view.reconnecting) as client:
        try:
            stream = client.train(
                None if rows is None else rows.rows,
                adapter=adapter,
                task_id=task_id,
                actor=whoami(actor),
                domain=domain,
                feedback=source,
                base_model=base_model,
                lora={
                    "rank": rank,
                    "alpha": alpha,
                    "dropout": dropout,
                    "target_modules": target or (),
                    "upper_half": upper_half,
                },
                training=training,
                trigger={"min_samples": min_samples, "min_error_rate": min_error_rate, "force": force},
                activation=None if activation is None else Activation(activation),
                continue_from=continue_from,
                conflicts="keep_newest" if keep_newest else None,
                request_id=request_id,
            )
            if detach:
                return _detached(context, stream)
            return _follow(context, stream, view, require_active)
        except InvalidArgument as error:
            raise (error if rows is None else rows.located(error)) from None


def watch(
    context: Context,
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    after: Annotated[int, typer.Option(help="Only events after this sequence.")] = 0,
    require_active: Annotated[
        bool, typer.Option("--require-active", help="Exit 10 if the version was not put in force.")
    ] = False,
) -> int:
    """Show the events of a job, during and after it."""
    if not job_id:
        raise refused("job_id", "must not be empty")
    view = JobView(context.json)
    with context.client(view.reconnecting) as client:
        return _follow(context, client.watch(job_id, after_sequence=after), view, require_active)


def _follow(context: Context, stream: EventStream, view: JobView, require_active: bool) -> int:
    try:
        with view:
            for event in stream:
                view.show(event)
        version = stream.result()
    except KeyboardInterrupt:
        stream.close()
        _leave(context, stream)
        return Exit.DETACHED
    view.summary()
    return Exit.NOT_ACTIVE if require_active and version.state is not VersionState.ACTIVE else Exit.OK


def _candidate(text: str) -> dict[str, Any]:
    """A setting to try from EPOCHS:LEARNING_RATE; either may be left out."""
    epochs, _, rate = text.partition(":")
    try:
        found = {"epochs": int(epochs) if epochs else None, "learning_rate": float(rate) if rate else None}
    except ValueError:
        raise typer.BadParameter(
            f"--candidate {text!r} is no EPOCHS:LEARNING_RATE, such as 6:1e-3, 4: or :5e-4."
        ) from None
    return {key: value for key, value in found.items() if value is not None}


def _detached(context: Context, stream: EventStream) -> int:
    with stream:
        first = next(stream)
    if context.json:
        output.emit_json(first.to_dict())
    else:
        output.say(first.job_id)
        output.note(f"Watch it: {context.hint(f'watch {first.job_id}')}")
    return Exit.OK


def _leave(context: Context, stream: EventStream) -> None:
    if stream.job_id:
        output.note(
            f"\nDetached; job {stream.job_id} goes on.\n"
            f"  watch it:  {context.hint(f'watch {stream.job_id} --after {stream.last_sequence}')}\n"
            f"  cancel it: {context.hint(f'cancel {stream.job_id}')}"
        )
    else:
        output.note(
            "\nLeft before the server confirmed the job; it may exist nevertheless.\n"
            f"  To get the same job, repeat the command with --request-id {stream.request_id}"
        )


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    for function in (train, watch):
        app.command()(command(function))
