"""Where Interlock's own files lie: in the package, and in the project around it unless a wheel was installed."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

INSTALLED = PACKAGE.parent.name != "include"
"""Whether the package was installed from a wheel, and so has no project around it."""

PROJECT = PACKAGE if INSTALLED else PACKAGE.parents[1]
"""The project's folder; the package itself if it was installed. Both have the Dag files in ``dags``."""

CATALOGUE = PROJECT / "include" / "catalogue"
"""The project's own catalogue. An installed package has none: ``INTERLOCK_CATALOGUE`` must name one."""

TEMPLATES = PACKAGE / "templates"
EXPECTATIONS = PACKAGE / "expectations"


def catalogue_folder() -> Path:
    """Return the catalogue's folder: ``INTERLOCK_CATALOGUE``, or the project's own.

    The folder may not exist; whatever reads the catalogue then says what to do.
    """
    return Path(os.environ.get("INTERLOCK_CATALOGUE") or CATALOGUE)
