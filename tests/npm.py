"""Packages of npm for tests, as their package-lock.json says."""

from __future__ import annotations

import subprocess
from pathlib import Path


def fetch_packages(folder: Path) -> None:
    """Fetch what a folder's package-lock.json names, from npm's cache or its registry."""
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"npm does not reach its registry: {done.stderr[-300:]}"
