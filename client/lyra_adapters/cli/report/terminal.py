"""The report in a terminal: the scores, the verdict, and the first rows of each list."""

from __future__ import annotations

from lyra_adapters.cli import output
from lyra_adapters.cli.live import verdict
from lyra_adapters.cli.report.figures import LABELS, Figures, Row

FIRST = 5


def show(found: Figures) -> None:
    """Prints it."""
    version = found.version
    output.say(f"{version.name} on {version.base_model}: {version.state}", "bold")
    if found.scores:
        rows = [(name, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}") for name, old, new in found.scores]
        output.table(("", "before", "after", "change"), rows, f"On {found.rows}")
    if found.recalls:
        recall = [
            (label, *("no rows" if side[index] is None else f"{side[index]:.0%}" for side in found.recalls))
            for index, label in enumerate(LABELS)
        ]
        output.table(("RECALL", "before", "after"), recall)
    if found.differences:
        differences = [
            (one.name, f"{one.interval.value:+.3f}", f"{one.interval.low:+.3f} to {one.interval.high:+.3f}")
            for one in found.differences
        ]
        output.table(("DIFFERENCE", "value", "95 % interval"), differences)
    if version.verdict:
        verdict(version.verdict)
    for title, rows_, more in (
        ("Corrections it now gets right", found.now_right, found.already),
        ("Corrections it still gets wrong", found.still_wrong, ""),
        ("Rows it broke", found.broken, ""),
    ):
        output.say(f"\n{title}: {len(rows_)}{more and f'. {more}'}", "bold")
        for row in rows_[:FIRST]:
            output.say(_line(row))
        if len(rows_) > FIRST:
            output.say(f"  … and {len(rows_) - FIRST} more; --html has them all")


def _line(row: Row) -> str:
    text = " ".join((row.hypothesis or "(text deleted)").split())
    short = text if len(text) <= 70 else f"{text[:69]}…"
    return f"  {row.before} -> {row.after}, correct {row.correct}: {short}"
