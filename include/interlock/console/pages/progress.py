"""How far a release has come, for its page: each environment, the steps of the runbook, and the defects."""

from __future__ import annotations

from typing import Any

from interlock.adapters.catalogue.kept import kept_rules
from interlock.domain.errors import CatalogueError
from interlock.domain.ledger.chain import release_chain
from interlock.domain.outcome.progress import progress_of
from interlock.locations import catalogue_folder

from .downloads import OpenLedger, or_refused


def shown(dag_id: str, run_id: str, open_ledger: OpenLedger) -> dict[str, Any]:
    """Return what the ledger has of a release in each environment and of its runbook; durations as in ISO 8601."""

    def found() -> dict[str, Any]:
        with open_ledger() as ledger:
            entries = ledger.entries(release_chain(dag_id, run_id))
        return progress_of(entries, names_known()).model_dump(mode="json")

    return or_refused(found)


def names_known() -> dict[str, str]:
    """Return the name of each person by user name; none, if the catalogue cannot be read."""
    try:
        return kept_rules(catalogue_folder())[1].names
    except CatalogueError:
        return {}
