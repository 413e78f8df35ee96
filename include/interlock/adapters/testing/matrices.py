"""The test matrix of a release, from its chain in the ledger and the tables in the artifact store."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.adapters.artifacts.store import ArtifactStore
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import CASE_TESTED, PLAN_MADE, TEST_PLANNED
from interlock.domain.ledger.reading import last_in
from interlock.domain.quality.rows import rows_from_json
from interlock.domain.records import ReleasePlan
from interlock.domain.testing.matrix import MatrixRow, matrix
from interlock.domain.testing.planning import PlannedCase, TestPlan
from interlock.domain.testing.results import CaseResult


def matrix_of(entries: Sequence[Entry], store: ArtifactStore) -> tuple[MatrixRow, ...] | None:
    """Return the test matrix of a release; None: no test cases were planned.

    :param entries: the verified chain of the release.
    :raises ReleaseError: a table is not in the store, or was changed.
    """
    plans = [TestPlan.model_validate(one.payload, extra="ignore") for one in entries if one.kind == TEST_PLANNED]
    if not plans:
        return None
    last = {plan.environment: plan for plan in plans}
    planned = {name: rows_from_json(PlannedCase, store.get_bytes(plan.cases)) for name, plan in last.items()}
    results = [CaseResult.model_validate(one.payload, extra="ignore") for one in entries if one.kind == CASE_TESTED]
    own = [one for one in results if one.environment in last and one.artifact == last[one.environment].artifact]
    plan = last_in(entries, PLAN_MADE, ReleasePlan)
    return matrix(plan.tickets if plan else (), planned, own)
