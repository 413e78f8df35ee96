"""Where Interlock's own files lie: the package, and the project that it is in, if it was not installed as a wheel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

PROJECT = PACKAGE.parents[1] if PACKAGE.parent.name == "include" else PACKAGE
"""The project's folder; the package itself where a wheel is installed."""

CATALOGUE = PROJECT / "include" / "catalogue"
"""The project's own catalogue; an installed wheel has none, and ``INTERLOCK_CATALOGUE`` names one."""

TEMPLATES = PACKAGE / "templates"
EXPECTATIONS = PACKAGE / "expectations"


def catalogue_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the catalogue's folder: ``INTERLOCK_CATALOGUE``, or the project's own."""
    return Path(environ.get("INTERLOCK_CATALOGUE") or CATALOGUE)
