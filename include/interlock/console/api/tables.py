"""The measures as a table for spreadsheets, and as Prometheus reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from interlock.domain.measures.measures import Measures

_OF_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_csv(found: Measures) -> str:
    """Return measures as CSV (RFC 4180): a line for each figure; after an empty line, one for each seat."""
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(["measure", "unit", "value", "p90", "counted", "among", "definition", "source"])
    for one in found.figures:
        figures = [one.value, one.p90, len(one.counted), len(one.among)]
        table.writerow(_plain([one.title, one.unit, *figures, one.definition, one.group]))
    table.writerow([])
    table.writerow(["stage", "person", "answers", "median seconds", "p90 seconds", "within a minute"])
    for seat in found.seats:
        table.writerow(_plain(seat.model_dump().values()))
    return written.getvalue()


def as_metrics(services: Mapping[str, Measures]) -> str:
    """Return measures in Prometheus's text format, version 0.0.4.

    :param services: the measures of each service, by its name.
    """
    lines: dict[str, list[str]] = {}
    for name, found in services.items():
        for one in found.figures:
            metric = f"interlock_{one.key}{'_seconds' if one.unit == 'seconds' else ''}"
            told = lines.setdefault(metric, [f"# HELP {metric} {one.definition}", f"# TYPE {metric} gauge"])
            if one.value is not None:
                told.append(f'{metric}{{service="{_escaped(name)}"}} {one.value!r}')
    return "".join(f"{line}\n" for told in lines.values() for line in told)


def _plain(cells: Iterable[Any]) -> list[Any]:
    """Return cells of which a spreadsheet takes none for a formula (OWASP, CSV injection)."""
    return [f"'{one}" if isinstance(one, str) and one.startswith(_OF_FORMULAS) else one for one in cells]


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
