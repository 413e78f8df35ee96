"""How far a release has come, for its page: each environment, the steps of the runbook, and the defects."""

from __future__ import annotations

from interlock.adapters.catalogue.kept import kept_rules
from interlock.domain.errors import CatalogueError
from interlock.domain.ledger.chain import release_chain
from interlock.domain.outcome.progress import Progress, progress_of
from interlock.locations import catalogue_folder

from .downloads import OpenLedger


def progress(dag_id: str, dag_run_id: str, open_ledger: OpenLedger) -> Progress:
    """Return how far a release has come: each environment, the steps around its waves, its defects."""
    with open_ledger() as ledger:
        entries = ledger.entries(release_chain(dag_id, dag_run_id))
    return progress_of(entries, names_known())


def names() -> dict[str, str]:
    """Return how people call everybody whom the catalogue names: user name to name."""
    return kept_rules(catalogue_folder())[1].names


def names_known() -> dict[str, str]:
    """Return the name of each person by user name; none, if the catalogue cannot be read."""
    try:
        return kept_rules(catalogue_folder())[1].names
    except CatalogueError:
        return {}
