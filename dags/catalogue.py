"""Say what is wrong with the catalogue, as an import error in the Airflow UI.

It holds no Dag. The Dags of the services and trains that are well come from ``release.py`` and ``trains.py``, and go on
working meanwhile.
"""

from __future__ import annotations

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.catalogue.trains import load_trains
from interlock.domain.errors import CatalogueError
from interlock.locations import catalogue_folder

catalogue = load_catalogue(catalogue_folder())
trains = load_trains(catalogue_folder(), catalogue.policy, catalogue.board)
if broken := [*catalogue.broken.values(), *trains.broken.values()]:
    raise CatalogueError("\n\n".join(broken), next_step="correct the files named; their Dags come back by themselves")
