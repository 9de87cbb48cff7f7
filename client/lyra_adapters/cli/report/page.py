"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup

from lyra_adapters.cli.report.charts import charts, svg
from lyra_adapters.cli.report.figures import Figures, Row
from lyra_adapters.cli.visible import visible

# Rows shown of each list: enough to see what is going on, few enough to open on a phone.
MAX_ROWS = 200

_CORRECTIONS = "Held-out reviews on which a model had erred, and what was in force was wrong."
OUTCOMES = {"BETTER": "Better", "NOT_WORSE": "Not worse", "UNDECIDED": "Undecided", "WORSE": "Worse"}


def page(found: Figures) -> str:
    """The page. Texts are escaped, whatever they hold."""
    lists: list[tuple[str, str, list[Row]]] = [
        ("Corrections it now gets right", f"{_CORRECTIONS} {found.already}", found.now_right),
        ("Corrections it still gets wrong", _CORRECTIONS, found.still_wrong),
        ("Rows it broke", "What was in force had these right, and the version has not.", found.broken),
    ]
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown).from_string(
        files("lyra_adapters.cli.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    verdict = found.version.verdict
    return template.render(
        version=found.version,
        outcome=OUTCOMES.get(verdict.outcome, verdict.outcome) if verdict else "",
        scores=found.scores,
        scored_rows=found.rows,
        # Drawn here from numbers and fixed words alone, so there is nothing in them to escape.
        charts=[(title, Markup(svg(draw, found))) for title, draw in charts(found)],  # noqa: S704
        lists=[(title, says, rows[:MAX_ROWS], max(0, len(rows) - MAX_ROWS)) for title, says, rows in lists],
        texts_deleted=found.texts_deleted,
    )


def _shown(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
