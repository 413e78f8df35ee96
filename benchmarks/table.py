"""The tables of benchmarks, and the pages that they are written into."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path


def machine() -> str:
    """Return a sentence about the machine."""
    known = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model n" in line
    ]
    processor = known[0] if known else platform.machine()
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0]
    return (
        f"{os.cpu_count()} processors ({processor}), {ssh}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d}."
    )


def medians(found: Mapping[str, Sequence[float]]) -> str:
    """Return a table: median, least and most of each measurement."""
    rows = ["| What | Median | Least | Most |", "| --- | --- | --- | --- |"]
    for what, values in found.items():
        cells = (statistics.median(values), min(values), max(values))
        rows.append(f"| {what} | {' | '.join(f'{one:,.0f}' if one >= 1000 else f'{one:.3g}' for one in cells)} |")
    return "\n".join(rows) + "\n"


def publish(text: str, page: Path | None, name: str) -> None:
    """Print the results, and write them into a page, if there is one, between the two marks that have this name."""
    sys.stdout.write(text)
    if page is None:
        return
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- /measured: {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no marks {begin.strip()} and {end}")
    page.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
