"""Say what is wrong with the catalogue, as an import error in the Airflow UI.

It holds no Dag. The Dags of the services that are well come from ``release.py`` and go on working meanwhile.
"""

from __future__ import annotations

from include.interlock.adapters.catalogue import load_catalogue
from include.interlock.domain.errors import CatalogueError
from include.interlock.stages.resources import catalogue_folder

if broken := load_catalogue(catalogue_folder()).broken:
    raise CatalogueError(
        "\n\n".join(broken.values()), next_step="correct the files named; their Dags come back by themselves"
    )
