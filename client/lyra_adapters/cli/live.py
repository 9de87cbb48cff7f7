"""A job as it goes: a live bar on a terminal, a line an event elsewhere, JSON Lines where asked for."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from lyra_adapters import models as m
from lyra_adapters.cli import output
from lyra_adapters.cli.visible import one_line
from lyra_adapters.resume import Reconnect


class JobView:
    """Shows the events of one job.

    Args:
        as_json: Print each event as a line of JSON and nothing else.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._bar: Progress | None = None
        self._validation = ""
        self._version: m.AdapterVersion | None = None
        self._verdict: m.Verdict | None = None

    def __enter__(self) -> Self:
        if not self._json and output.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=32),
                TextColumn("{task.fields[place]}"),
                console=output.console,
            )
            self._task = self._bar.add_task("Sending", total=None, place="")
            self._live = Live(self._bar, console=output.console, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._live.stop()

    def show(self, event: m.TrainEvent) -> None:
        """Shows one event."""
        if self._json:
            output.emit_json(event.to_dict())
            return
        self._remember(event.event)
        if self._bar is None:
            output.say(one_line(f"{event.sequence:>4}  {event.kind:<12}  {describe(event)}").rstrip())
        else:
            self._update(self._bar, event)

    def reconnecting(self, reconnect: Reconnect) -> None:
        """Says on stderr that the stream broke; not at every try, and not in JSON's way."""
        if reconnect.attempt == 1 and not self._json:
            text = f"Waiting for the server ({reconnect.error.message or reconnect.error.code}) …"
            if self._bar is None:
                output.note(text)
            else:
                self._bar.console.print(Text(one_line(text), style="yellow"))

    def summary(self) -> None:
        """The scores before and after, and the verdict, after the job's end."""
        if self._json:
            return
        if self._verdict is not None:
            scores(self._verdict)
            verdict(self._verdict)
        if self._version is not None:
            output.say(
                f"Published {self._version.name} ({output.size(self._version.size_bytes)}) at {self._version.path}"
            )

    def _remember(self, event: m.Event) -> None:
        if isinstance(event, m.Evaluation) and event.metrics:
            self._validation = f"validation accuracy {event.metrics.accuracy:.3f}, loss {event.metrics.loss:.3f}"
        elif isinstance(event, m.Published):
            self._version = event.version
        elif isinstance(event, m.Verdict):
            self._verdict = event

    def _update(self, bar: Progress, event: m.TrainEvent) -> None:
        what = event.event
        if isinstance(what, m.Progress):
            place = f"{what.step}/{what.total_steps}{eta(what)}"
            bar.update(self._task, description="Training", total=what.total_steps, completed=what.step, place=place)
            figures = (f"loss {what.loss:.3f}", self._validation, f"{what.tokens_per_second:,.0f} tokens/s")
            # Two lines: on 80 columns the figures leave no room for a bar beside them.
            self._live.update(Group(bar, Text("  ".join(figure for figure in figures if figure))))
        elif isinstance(what, m.Queued):
            bar.update(self._task, description=f"Waiting, place {what.position}")
            bar.console.print(Text(f"Job {event.job_id}", style="bold"))
        elif isinstance(what, m.Evaluation):
            bar.console.print(Text(one_line(describe(event))))
        else:
            bar.update(self._task, description=event.kind.capitalize())
            if not isinstance(what, (m.Checkpointed, m.Published, m.Verdict)):
                style = "yellow" if isinstance(what, m.Warning) else ""
                bar.console.print(Text(one_line(describe(event)), style=style))


def speed(progress: m.Progress) -> str:
    """Tokens per second and time left."""
    return f"{progress.tokens_per_second:,.0f} tokens/s{eta(progress)}"


def eta(progress: m.Progress) -> str:
    """Time left, if it is known."""
    return "" if progress.eta is None else f"  ETA {timedelta(seconds=round(progress.eta.total_seconds()))}"


def describe(event: m.TrainEvent) -> str:
    """An event in one line."""
    match event.event:
        case m.Queued() as e:
            merged = f", {e.merged_duplicates} duplicates merged" if e.merged_duplicates else ""
            merged += f", {e.merged_near_duplicates} near duplicates merged" if e.merged_near_duplicates else ""
            dropped = f", {e.dropped_conflicts} contradicted rows dropped" if e.dropped_conflicts else ""
            return f"job {event.job_id}, place {e.position}{merged}{dropped}"
        case m.Started() as e:
            return (
                f"{e.training_samples} rows to train on, {e.validation_samples} held out, {_chosen(e)}"
                f"{e.total_steps} steps, "
                f"{e.device} {e.dtype}, {e.trainable_parameters:,} parameters"
            )
        case m.Progress() as e:
            run = f"  {e.run_name}" if e.run_name else ""
            return f"step {e.step}/{e.total_steps}  epoch {e.epoch:.2f}  loss {e.loss:.4f}  {speed(e)}{run}"
        case m.Evaluation() as e:
            f = e.metrics or m.Metrics()
            subject = f" {e.subject}" if e.subject else ""
            return (
                f"{e.stage.lower()}{subject}: accuracy {f.accuracy:.3f}  macro-F1 {f.macro_f1:.3f}  "
                f"Brier {f.brier:.3f}  loss {f.loss:.3f}{'  best so far' if e.best else ''}"
            )
        case m.Checkpointed() as e:
            return f"step {e.step}"
        case m.Resumed() as e:
            return f"attempt {e.attempt} from step {e.step}: {e.reason}"
        case m.Warning() | m.Failed() as e:
            return f"{e.reason}: {e.message}"
        case m.Published() as e:
            return e.version.name if e.version else ""
        case m.Verdict() as e:
            return f"{e.outcome}: {e.explanation}"
        case m.Succeeded() as e:
            took = "" if e.duration is None else f" in {timedelta(seconds=round(e.duration.total_seconds()))}"
            return f"{e.version}{took}, {'in force' if e.activated else 'not in force'}"
        case m.Cancelled() as e:
            return " ".join(part for part in (f"by {e.actor}" if e.actor else "", e.reason) if part)
        case _:
            return ""


def _chosen(started: m.Started) -> str:
    """The rows beside those that are trained on and held out, where there are any."""
    inner = f"{started.inner_samples} of them choose the step, " if started.inner_samples else ""
    replayed = f"{started.replayed_general_rows} general rows beside them, " if started.replayed_general_rows else ""
    distilled = f"{started.distilled_pairs} pairs answered as before, " if started.distilled_pairs else ""
    return inner + replayed + distilled


def scores(given: m.Verdict) -> None:
    """Before and after on the same held-out rows."""
    before, after = given.champion_metrics, given.challenger_metrics
    if before is None or after is None:
        return
    rows = [
        (
            name,
            f"{getattr(before, key):.4f}",
            f"{getattr(after, key):.4f}",
            f"{getattr(after, key) - getattr(before, key):+.4f}",
        )
        for name, key in (
            ("accuracy", "accuracy"),
            ("macro-F1", "macro_f1"),
            ("Brier", "brier"),
            ("loss", "loss"),
            ("calibration error", "calibration_error"),
        )
        if key != "calibration_error" or after.calibration_known
    ]
    title = f"On {after.samples} held-out rows"
    output.table((" ", f"before ({given.champion})", "after", "change"), rows, title)


def verdict(given: m.Verdict) -> None:
    """The verdict in two lines."""
    style = {"BETTER": "bold green", "NOT_WORSE": "green", "UNDECIDED": "yellow", "WORSE": "bold red"}
    output.say(f"Verdict: {given.outcome}. {given.explanation}", style.get(given.outcome, ""))
    if given.activated:
        output.say("The new version is in force.")
    else:
        output.say(f"The new version is not in force{f': {given.held}' if given.held else ''}.")
