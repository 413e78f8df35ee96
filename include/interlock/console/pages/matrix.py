"""The test matrix of a release, for its page: tickets, test cases, results, environments, and what nobody tested."""

from __future__ import annotations

from pydantic import Field

from interlock.adapters.testing.matrices import matrix_of
from interlock.domain.canonical import Model
from interlock.domain.ledger.chain import release_chain
from interlock.domain.outcome.progress import defects_of
from interlock.domain.records import DefectLine
from interlock.domain.testing.matrix import MatrixRow, untested

from .downloads import OpenLedger, Store


class Matrix(Model):
    """What was tested of a release, and what nobody tested."""

    rows: tuple[MatrixRow, ...] = Field(description="Empty: the release has no test cases that people run")
    untested: tuple[str, ...] = Field(description="What must be tested and has no result")
    defects: tuple[DefectLine, ...]


def matrix(dag_id: str, dag_run_id: str, store: Store, open_ledger: OpenLedger) -> Matrix:
    """Return each ticket of a release with its test cases and their results in each environment."""
    with open_ledger() as ledger:
        entries = ledger.entries(release_chain(dag_id, dag_run_id))
    rows = matrix_of(entries, store) or ()
    return Matrix(rows=rows, untested=tuple(untested(rows)), defects=defects_of(entries))
