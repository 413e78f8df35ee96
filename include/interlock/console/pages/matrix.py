"""The test matrix of a release, for its page: tickets, test cases, results, environments, and what nobody tested."""

from __future__ import annotations

from typing import Any

from interlock.adapters.testing.matrices import matrix_of
from interlock.domain.ledger.chain import release_chain
from interlock.domain.outcome.progress import defects_of
from interlock.domain.testing.matrix import untested

from .downloads import OpenLedger, Store, or_refused


def shown(dag_id: str, run_id: str, store: Store, open_ledger: OpenLedger) -> dict[str, Any]:
    """Return the rows of the matrix, what nobody tested, and the defects; no rows: the release has no test cases."""

    def found() -> dict[str, Any]:
        with open_ledger() as ledger:
            entries = ledger.entries(release_chain(dag_id, run_id))
        rows = matrix_of(entries, store) or ()
        return {
            "rows": [row.model_dump(mode="json") for row in rows],
            "untested": list(untested(rows)),
            "defects": [one.model_dump(mode="json") for one in defects_of(entries)],
        }

    return or_refused(found)
