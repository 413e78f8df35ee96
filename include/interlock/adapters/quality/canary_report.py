"""The report of a canary: a self-contained page, with a plot of each metric as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from interlock.domain.canary.records import CanaryReport, Judged
from interlock.locations import TEMPLATES

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 180, 56, 22, 8
Rows = Sequence[Sequence[float]]
"""For each round, what was measured on each host; NaN: a measurement that is missing."""


class Plot(NamedTuple):
    """A metric's measurements, as points of an SVG of :data:`WIDTH` by :data:`HEIGHT`."""

    dots: dict[str, list[tuple[float, float]]]
    lines: dict[str, str]
    ticks: list[tuple[float, str]]
    rounds: int


def write_report(
    folder: Path, *, title: str, report: CanaryReport, baseline: Mapping[str, Rows], canary: Mapping[str, Rows]
) -> Path:
    """Write the page into a folder, as ``index.html``.

    :param baseline: metric: what was measured on the old version, round by round; ``canary``: on the new one.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metrics = [(one, plot(baseline.get(one.name, ()), canary.get(one.name, ()))) for one in report.metrics]
    page = environment.get_template("canary.html.j2").render(
        title=title, report=report, metrics=metrics, facts=_facts, width=WIDTH, height=HEIGHT, left=LEFT, bottom=BOTTOM
    )
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def plot(baseline: Rows, canary: Rows) -> Plot:
    """Return where the measurements of both lie on the plot: a dot for each host, a line through the means."""
    sides = {"baseline": baseline, "canary": canary}
    values = [value for rows in sides.values() for row in rows for value in row if not isnan(value)]
    low, high = min((0.0, *values)), max(values, default=1.0)
    high = high if high > low else low + 1
    rounds = max((len(rows) for rows in sides.values()), default=0)

    def place(number: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 8) * (number + 0.5) / max(rounds, 1)
        y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)
        return round(x, 1), round(y, 1)

    def line(rows: Rows) -> str:
        return " ".join(f"{x},{y}" for x, y in (place(*one) for one in _means(rows)))

    return Plot(
        dots={side: [place(*one) for one in _each(rows)] for side, rows in sides.items()},
        lines={side: line(rows) for side, rows in sides.items()},
        ticks=[(place(0, value)[1], f"{value:.3g}") for value in (low, (low + high) / 2, high)],
        rounds=rounds,
    )


def _each(rows: Rows) -> Iterator[tuple[int, float]]:
    return ((number, value) for number, row in enumerate(rows) for value in row if not isnan(value))


def _means(rows: Rows) -> Iterator[tuple[int, float]]:
    for number, row in enumerate(rows):
        if measured := [value for value in row if not isnan(value)]:
            yield number, fmean(measured)


def _facts(judged: Judged) -> list[tuple[str, str]]:
    """Return a judgement's numbers, as people read them."""
    facts: list[tuple[str, Any]] = [
        ("baseline, mean", judged.baseline.mean),
        ("canary, mean", judged.canary.mean),
        ("canary as a multiple", judged.ratio),
        ("measurements", f"{judged.baseline.count} and {judged.canary.count}"),
    ]
    if judged.failed:
        failed, made, failed_before, made_before = judged.failed
        facts.append(("requests that failed", f"{failed_before:g} of {made_before:g} and {failed:g} of {made:g}"))
    if judged.difference:
        low, estimate, high = judged.difference
        facts.append(("difference (98 %)", f"{_near(estimate)}, from {_near(low)} to {_near(high)}"))
    return [(name, _shown(value)) for name, value in facts]


def _near(value: float) -> str:
    """Return a number; what the search for it left beside 0 is 0."""
    return f"{round(value, 6) + 0.0:.3g}"


def _shown(value: Any) -> str:
    return "—" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
