"""What benchmarks say beside their figures, and where they put them."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def machine() -> str:
    """Say on what was measured."""
    known = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model n" in line
    ]
    processor = known[0] if known else platform.machine()
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0]
    return (
        f"{os.cpu_count()} processors ({processor}), {ssh}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d}."
    )


def write_down(text: str, page: Path, name: str) -> None:
    """Put what was measured into a page, between the two marks that have this name."""
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- /measured: {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no marks {begin.strip()} and {end}")
    page.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
