"""Some of the generated pairs of versions with a database change; ``make migrations`` tries 500."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from interlock.locations import PROJECT
from tests.migrations.trials import FAULTS


@pytest.mark.parametrize("tool", ["sql", "alembic"])
def test_every_fault_leaves_a_database_change_done_or_taken_back_and_loses_no_row(tool: str) -> None:
    # In a process of its own: the trials put what they need in the place of parts of the product.
    first = 0 if tool == "sql" else 2 * len(FAULTS)
    command = [
        sys.executable,
        "-m",
        "tests.migrations",
        "--pairs",
        str(len(FAULTS)),
        "--seed",
        "7",
        "--from",
        str(first),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT / 'include'}{os.pathsep}{PROJECT}"}
    ran = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.rstrip().endswith(f"{len(FAULTS)} pairs, 0 wrong")
    assert all(f"1 {tool}: {fault}\n" in ran.stdout for fault in FAULTS)
