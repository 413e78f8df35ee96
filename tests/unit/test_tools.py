"""What the tests need of the machine, and who is told what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / ".ci" / "tools"


def looked_at(path: Path) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash
    return subprocess.run([bash, str(TOOLS)], env={"PATH": str(path)}, capture_output=True, text=True, timeout=30)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Make a PATH with all that the tests need, and no package manager."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "python3").symlink_to(sys.executable)
    lines = TOOLS.with_name("packages").read_text().splitlines()
    for name in (line.split()[1] for line in lines if line and not line.startswith("#")):
        if not (tmp_path / name).exists():
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
    return tmp_path


def test_a_machine_with_everything_is_left_alone(machine: Path) -> None:
    done = looked_at(machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_nothing_can_be_installed_what_is_missing_is_said(machine: Path) -> None:
    (machine / "ant").unlink()
    (machine / "python3").unlink()
    done = looked_at(machine)
    assert done.returncode == 1
    assert "need what is not installed: python3-venv ant\n" in done.stderr
    assert "apt-get install python3-venv ant;" in done.stderr
