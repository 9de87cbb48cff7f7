"""The report's charts, in colours that are told apart without colour vision (Okabe and Ito); shapes repeat them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lyra_adapters.cli.report.figures import LABELS, Bin, Figures
from lyra_adapters.cli.visible import visible

BEFORE, AFTER, GREY = "#D55E00", "#0072B2", "#595959"
_SHORT = [label.capitalize() for label in LABELS]
# Inches: small, so that the text is large enough on a phone.
_SIZE = (3.9, 3.1)

Draw = Callable[[Any, Figures], None]


def svg(draw: Draw, found: Figures) -> str:
    """One chart as SVG, with its text as outlines: it looks alike whatever fonts a reader has."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    draw(figure.add_subplot(), found)
    target = io.StringIO()
    # Without a date and with a fixed salt the same report is the same file.
    with mpl.rc_context({"svg.hashsalt": "lyra-adapters"}):
        figure.savefig(target, format="svg", metadata={"Date": None})
    text = target.getvalue()
    return text[text.index("<svg") :]


def image(found: Figures, path: Path) -> None:
    """All charts in one PNG."""
    drawn = charts(found)
    columns = 2
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(_SIZE[0] * columns, _SIZE[1] * rows + 0.5), layout="constrained")
    verdict = found.version.verdict
    outcome = verdict.outcome.replace("_", " ").lower() if verdict else "no verdict"
    figure.suptitle(visible(f"{found.version.name}: {outcome}"))
    for number, (title, draw) in enumerate(drawn, start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.set_title(fill(title, 42), fontsize=10)
        draw(axes, found)
    figure.savefig(path, format="png", dpi=150)


def charts(found: Figures) -> list[tuple[str, Draw]]:
    """Title and drawing of every chart that there is something to show in."""
    drawn: list[tuple[str, Draw]] = []
    if found.differences:
        drawn.append(("Difference to what was in force, with intervals of 95 %", differences))
    if any(curve.training for curve in found.curves):
        drawn.append(("Loss while training", losses))
    if found.confusions:
        drawn += [("Confusion before", confusion_before), ("Confusion after", confusion_after)]
    if found.recalls:
        drawn.append(("Recall of each label", recalls))
    if any(found.reliability):
        drawn.append(("Reliability: how often a stated probability is right", reliabilities))
    return drawn


def losses(axes: Any, found: Figures) -> None:
    """Training loss, and the loss on rows that are not trained on, by step."""
    for number, curve in enumerate(found.curves):
        last = number == len(found.curves) - 1
        shade = {"alpha": 1.0 if last else 0.35}
        if curve.training:
            steps, values = zip(*curve.training, strict=True)
            axes.plot(steps, values, color=GREY, linewidth=1, label="training rows" if last else None, **shade)
        if curve.validation:
            steps, values = zip(*curve.validation, strict=True)
            label = "rows not trained on" if last else None
            axes.plot(steps, values, color=AFTER, marker="o", markersize=4, linestyle="--", label=label, **shade)
    if found.best_step:
        axes.axvline(found.best_step, color=BEFORE, linestyle=":", linewidth=2, label="published step")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_ylim(bottom=0)
    _finish(axes, columns=2)


def confusion_before(axes: Any, found: Figures) -> None:
    """What the champion says of rows by their correct label."""
    _confusion(axes, found, 0)


def confusion_after(axes: Any, found: Figures) -> None:
    """What the version says of the same rows."""
    _confusion(axes, found, 1)


def _confusion(axes: Any, found: Figures, which: int) -> None:
    assert found.confusions is not None
    table = found.confusions[which]
    shares = [[value / max(1, sum(row)) for value in row] for row in table]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(table):
        for x, value in enumerate(row):
            # The numbers say it all; the shade only guides the eye.
            dark = shares[y][x] > 0.7
            weight = "bold" if x == y else "normal"
            axes.text(x, y, f"{value}", ha="center", va="center", color="white" if dark else "black", weight=weight)
    axes.set_xticks(range(3), _SHORT)
    axes.set_yticks(range(3), _SHORT)
    axes.set_xlabel("answered")
    axes.set_ylabel("correct")


def recalls(axes: Any, found: Figures) -> None:
    """Share of each label's rows that are right, before and after."""
    assert found.recalls is not None
    for offset, values, colour, hatch, name in (
        (-0.2, found.recalls[0], BEFORE, "//", "before"),
        (0.2, found.recalls[1], AFTER, "", "after"),
    ):
        places = [index + offset for index in range(3)]
        heights = [value or 0.0 for value in values]
        bars = axes.bar(places, heights, 0.38, color=colour, hatch=hatch, edgecolor="white", label=name)
        words = ["no rows" if value is None else f"{value:.0%}" for value in values]
        axes.bar_label(bars, words, fontsize=9, padding=2)
    axes.set_xticks(range(3), _SHORT)
    axes.set_ylim(0, 1.12)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finish(axes)


def reliabilities(axes: Any, found: Figures) -> None:
    """Share of right rows by the probability of the predicted label; on the diagonal probabilities are honest."""
    axes.plot([0.3, 1], [0.3, 1], color=GREY, linestyle=":", linewidth=1, label="honest")
    sides: list[tuple[list[Bin], str, str, str]] = [
        (found.reliability[0], BEFORE, "s", "before"),
        (found.reliability[1], AFTER, "o", "after"),
    ]
    for bins, colour, marker, name in sides:
        if bins:
            places = [one.confidence for one in bins]
            heights = [one.right for one in bins]
            style = "--" if marker == "s" else "-"
            axes.plot(places, heights, color=colour, marker=marker, markersize=5, linestyle=style, label=name)
    axes.set_xlabel("stated probability")
    axes.set_ylabel("share that is right")
    axes.set_xlim(0.3, 1.02)
    axes.set_ylim(-0.03, 1.03)
    _finish(axes)


def differences(axes: Any, found: Figures) -> None:
    """The differences that the verdict rests on; what lies right of the line speaks for the version."""
    for place, one in enumerate(reversed(found.differences)):
        # A lower Brier score is better: turned round, right is always better.
        sign = 1 if one.upwards else -1
        ends = sorted((sign * one.interval.low, sign * one.interval.high))
        value = sign * one.interval.value
        colour, marker = (AFTER, "o") if one.upwards else (BEFORE, "s")
        axes.plot(ends, [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot([value], [place], color=colour, marker=marker, markersize=7)
        words = axes.text(ends[0], place + 0.18, one.name, fontsize=9, va="bottom", ha="left")
        # The line of no difference stops at the words, not in them.
        words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks([])
    axes.set_ylim(-0.5, len(found.differences) - 0.2)
    axes.margins(x=0.1)
    low, high = axes.get_xlim()
    # Room for the words that begin where an interval does.
    axes.set_xlim(low, high + 0.35 * (high - low))
    axes.set_xlabel("worse   ←   no difference   →   better")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _finish(axes: Any, columns: int = 3) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    # Below the chart: inside there is no place that is free in every report.
    below = -0.22 if axes.get_xlabel() else -0.12
    axes.legend(fontsize=9, frameon=False, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, below))
