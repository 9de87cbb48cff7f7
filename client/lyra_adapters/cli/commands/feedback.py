"""`feedback add|import|export|stats|delete`: reviews on their way to and from the server."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from lyra_adapters.cli import output
from lyra_adapters.cli.context import Context, command, fail, whoami
from lyra_adapters.cli.exits import Exit
from lyra_adapters.cli.jsonl import name_of
from lyra_adapters.cli.lyra_db import LyraDatabase, UnreadableDatabase, is_database
from lyra_adapters.cli.reviews import Defaults, Found, pages, parse_time, read_csv, read_jsonl, row_of
from lyra_adapters.client import AdapterClient
from lyra_adapters.errors import FieldViolation, InvalidArgument
from lyra_adapters.models import FeedbackReceipt, FeedbackSummary, RecordedReview

# Reviews of one call: a call is stored as a whole, so this is also what an interrupted import has to send again.
PAGE = 1_000

TaskId = Annotated[str, typer.Option(help="Your task, for rows that name none.")]
Domain = Annotated[str, typer.Option(help="Domain, for rows that name none.")]
Actor = Annotated[str | None, typer.Option(help="Who reviewed. Default: your user name.")]
Prefix = Annotated[str, typer.Option(help="Put before every id, where ids of several sources could be the same.")]
SkipInvalid = Annotated[bool, typer.Option("--skip-invalid", help="Leave bad rows out instead of stopping at one.")]
Tasks = Annotated[list[str] | None, typer.Option("--task-id", help="Only of this task; repeatable.")]
Domains = Annotated[list[str] | None, typer.Option("--domain", help="Only of this domain; repeatable.")]
After = Annotated[str | None, typer.Option(metavar="TIME", help="Only reviewed at or after this time (ISO 8601).")]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Only reviewed before this time.")]
UsedBy = Annotated[str, typer.Option(metavar="NAME", help="Only what this adapter or version has used.")]
NotUsedBy = Annotated[str, typer.Option(metavar="NAME", help="Only what this adapter or version has not used.")]


def add(
    context: Context,
    file: Annotated[Path, typer.Argument(help="Reviewed predictions in JSON Lines; - is standard input.")],
    task_id: TaskId = "",
    domain: Domain = "",
    actor: Actor = None,
) -> None:
    """Record reviewed predictions for later training; recording one twice changes nothing."""
    found = read_jsonl(file, Defaults(task_id, domain))
    with context.client() as client:
        sender = _Sender(client, name_of(file), whoami(actor), skip=False)
        for page in pages(found, PAGE):
            sender.send(page)
    sender.report(context, ids=True)


def import_(
    context: Context,
    file: Annotated[Path, typer.Argument(help="Lyra's database, JSON Lines, or CSV with a header.")],
    task_id: TaskId = "",
    domain: Domain = "",
    actor: Actor = None,
    prefix: Prefix = "",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only reviewed at or after this time (ISO 8601).")
    ] = None,
    confirmations: Annotated[
        bool, typer.Option(help="From a database: also edges that were reviewed and found right.")
    ] = True,
    skip_invalid: SkipInvalid = False,
) -> None:
    """Import reviews from Lyra's database, while Lyra runs, or from a file. Repeat it as often as you like.

    Rows that are there already are not stored again; new and changed ones are. The database is only read.
    """
    oldest = _time("--since", since)
    defaults = Defaults(task_id, domain, prefix)
    with context.client() as client:
        sender = _Sender(client, name_of(file), whoami(actor), skip=skip_invalid)
        try:
            for page in _read(file, defaults, confirmations, sender):
                sender.send([one for one in page if oldest is None or _is_since(one, oldest)])
        except UnreadableDatabase as error:
            fail(str(error), Exit.USAGE)
        except InvalidArgument:
            if sender.sent:
                output.note(f"{sender.sent:,} reviews before it are stored; import again once it is mended.")
            raise
    sender.report(context)


def export(
    context: Context,
    file: Annotated[Path, typer.Argument(help="JSON Lines to write; - is standard output.")] = Path("-"),
    task_id: Tasks = None,
    domain: Domains = None,
    after: After = None,
    before: Before = None,
    used_by: UsedBy = "",
    not_used_by: NotUsedBy = "",
) -> None:
    """Write recorded reviews as JSON Lines, which `feedback import` and `train` read. They hold users' texts."""
    with context.client() as client:
        reviews = client.feedback(
            task_ids=task_id or (),
            domains=domain or (),
            reviewed_after=_time("--after", after),
            reviewed_before=_time("--before", before),
            used_by=used_by,
            not_used_by=not_used_by,
            page_size=1_000,
        )
        if str(file) == "-":
            for line in _lines(reviews):
                sys.stdout.write(line)
            return
        count = _write(file, _lines(reviews))
    if context.json:
        output.emit_json({"file": str(file), "reviews": count})
    else:
        output.say(f"{count:,} reviews in {file}")


def stats(
    context: Context,
    task_id: Tasks = None,
    domain: Domains = None,
    after: After = None,
    before: Before = None,
    used_by: UsedBy = "",
    not_used_by: NotUsedBy = "",
) -> None:
    """Count recorded reviews by label, task, domain and version, and say whether training is due."""
    with context.client() as client:
        summary = client.feedback_summary(
            task_ids=task_id or (),
            domains=domain or (),
            reviewed_after=_time("--after", after),
            reviewed_before=_time("--before", before),
            used_by=used_by,
            not_used_by=not_used_by,
        )
        due = {one.adapter: one.training_due for one in client.status().adapters if one.training_due}
    if context.json:
        output.emit_json({**summary.to_dict(), "training_due": {name: one.to_dict() for name, one in due.items()}})
        return
    _show(summary)
    for name, one in due.items():
        output.say(f"{name}: {one.explanation}")


class _Sender:
    """Sends pages, adds up what became of them, and says where in the source a refused review stands."""

    def __init__(self, client: AdapterClient, name: str, actor: str, *, skip: bool) -> None:
        self._client = client
        self._name = name
        self._actor = actor
        self.skip = skip
        self.sent = 0
        self.skipped = 0
        self._receipts: list[FeedbackReceipt] = []

    def send(self, page: list[Found]) -> None:
        """Sends a page; with `skip`, without the rows that the server refuses."""
        while page:
            try:
                receipt = self._client.record_feedback([one.review for one in page], actor=self._actor)
            except InvalidArgument as error:
                bad = {int(match[1]) for v in error.violations if (match := re.match(r"reviews\[(\d+)\]", v.field))}
                if not self.skip or not bad:
                    raise self._located(error, page) from None
                self.skip_row(*(f"{page[index].place}: {_reason(error, index)}" for index in sorted(bad)))
                page = [one for index, one in enumerate(page) if index not in bad]
                continue
            self._receipts.append(receipt)
            self.sent += len(page)
            return

    def skip_row(self, *problems: str) -> None:
        """Counts rows that are left out, and says why."""
        self.skipped += len(problems)
        for problem in problems:
            output.note(f"Left out: {self._name}, {problem}")

    def report(self, context: Context, *, ids: bool = False) -> None:
        """Prints what was stored."""
        counts: dict[str, Any] = {
            name: sum(getattr(receipt, name) for receipt in self._receipts)
            for name in ("stored", "unchanged", "revised")
        }
        if ids:
            counts["ids"] = [id for receipt in self._receipts for id in receipt.ids]
        else:
            counts["skipped"] = self.skipped
        if context.json:
            output.emit_json(counts)
        else:
            skipped = f", {self.skipped} left out" if self.skipped else ""
            output.say(
                f"{counts['stored']} stored, {counts['revised']} revised, {counts['unchanged']} already there{skipped}"
            )

    def _located(self, error: InvalidArgument, page: list[Found]) -> InvalidArgument:
        def located(text: str) -> str:
            return re.sub(r"\breviews\[(\d+)\]", lambda match: f"{match[0]} ({page[int(match[1])].place})", text)

        return InvalidArgument(
            f"{self._name}: {located(error.message)}",
            reason=error.reason,
            violations=tuple(FieldViolation(located(v.field), located(v.description)) for v in error.violations),
            metadata=error.metadata,
        )


def _reason(error: InvalidArgument, index: int) -> str:
    """What was wrong with one review."""
    path = f"reviews[{index}]."
    return "; ".join(
        f"{v.field.removeprefix(path).removeprefix('sample.')} {v.description}"
        for v in error.violations
        if v.field.startswith(path)
    )


def _read(file: Path, defaults: Defaults, confirmations: bool, sender: _Sender) -> Iterator[list[Found]]:
    on_bad = sender.skip_row if sender.skip else None
    if str(file) != "-" and is_database(file):
        with LyraDatabase(file, defaults, on_bad) as database:
            yield from database.corrections(PAGE)
            if confirmations and database.has_confirmations:
                yield from database.confirmations(PAGE)
            if database.left_out:
                output.note(f"{database.left_out} reviewed edges were left out: their texts are no longer there.")
    elif file.suffix.lower() in (".db", ".sqlite", ".sqlite3"):
        raise UnreadableDatabase(f"{file} is no SQLite database.")
    else:
        read = read_csv if file.suffix.lower() == ".csv" else read_jsonl
        yield from pages(read(file, defaults, on_bad), PAGE)


def _is_since(found: Found, oldest: datetime) -> bool:
    # A review without a time may be new.
    return found.review.review_time is None or found.review.review_time >= oldest


def delete(
    context: Context,
    task_id: Annotated[list[str] | None, typer.Option(help="Everything of this task; repeatable.")] = None,
    sample_id: Annotated[
        list[str] | None, typer.Option("--id", help="The review or row with this id; repeatable.")
    ] = None,
) -> None:
    """Delete users' texts for good: reviews with their history, and the copies kept with finished jobs."""
    if not task_id and not sample_id:
        raise typer.BadParameter("Give --task-id or --id: whose texts to delete.")
    with context.client() as client:
        deleted = client.delete_feedback(task_ids=task_id or (), sample_ids=sample_id or ())
    if context.json:
        output.emit_json(deleted.to_dict())
    else:
        output.say(f"{deleted.reviews:,} reviews and {deleted.job_rows:,} rows of jobs deleted")


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise typer.BadParameter(f"{option} is {text!r}; it must be like 2026-01-31 or 2026-01-31T12:00:00Z.") from None


def _lines(reviews: Iterable[RecordedReview]) -> Iterator[str]:
    for one in reviews:
        yield output.as_json(row_of(one.review)) + "\n"


def _write(file: Path, lines: Iterable[str]) -> int:
    """Writes a file whole or not at all, readable by its owner only; returns the number of lines."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    count = 0
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            for line in lines:
                opened.write(line)
                count += 1
            opened.flush()
            os.fsync(opened.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return count


def _show(summary: FeedbackSummary) -> None:
    if not summary.reviews:
        output.say("No feedback matches.")
        return
    output.say(
        f"{summary.reviews:,} reviews of {summary.samples:,} pairs, {summary.revisions:,} revisions; "
        f"{summary.corrections:,} corrections, {summary.confirmations:,} confirmations",
        "bold",
    )
    if summary.first_review_time and summary.last_review_time:
        output.say(f"From {output.when(summary.first_review_time)} to {output.when(summary.last_review_time)}")
    for title, counts in (
        ("LABEL", summary.labels),
        ("TASK", summary.tasks),
        ("DOMAIN", summary.domains),
        ("USED BY", summary.versions),
    ):
        if counts:
            output.table((title, "COUNT"), [(one.name or "(none)", f"{one.count:,}") for one in counts])


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    group = typer.Typer(no_args_is_help=True, help="Record, import, export, count and delete reviewed predictions.")
    for name, function in (("add", add), ("import", import_), ("export", export), ("stats", stats), ("delete", delete)):
        group.command(name)(command(function))
    app.add_typer(group, name="feedback")
