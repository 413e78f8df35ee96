"""Show the errors of the catalogue as an import error in the Airflow UI.

This file defines no Dag. The Dags of valid services and trains come from ``release.py`` and ``trains.py``, and are not
affected.
"""

from __future__ import annotations

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.catalogue.trains import load_trains
from interlock.domain.errors import CatalogueError
from interlock.locations import catalogue_folder

catalogue = load_catalogue(catalogue_folder())
trains = load_trains(catalogue_folder(), catalogue.policy, catalogue.board)
if broken := [*catalogue.broken.values(), *trains.broken.values()]:
    raise CatalogueError(
        "\n\n".join(broken), next_step="correct the files that are named here; Airflow then adds their Dags again"
    )
