"""The test matrix of a release, from its chain in the ledger and the tables in the artifact store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from interlock.adapters.artifacts.store import ArtifactStore
from interlock.domain.board.questions import ask_testers
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import ANSWER_GIVEN, CASE_TESTED, CASES_RUN, PLAN_MADE, TEST_PLANNED
from interlock.domain.ledger.reading import last_in
from interlock.domain.quality.rows import rows_from_json
from interlock.domain.records import ReleasePlan, Vote
from interlock.domain.testing.attachments import answered_with
from interlock.domain.testing.matrix import MatrixRow, matrix
from interlock.domain.testing.planning import PlannedCase, TestPlan
from interlock.domain.testing.results import CaseResult, result_of
from interlock.domain.testing.takers import Taker, takers_in


def matrix_of(entries: Sequence[Entry], store: ArtifactStore) -> tuple[MatrixRow, ...] | None:
    """Return the test matrix of a release; None: no test cases were planned.

    :param entries: the verified chain of the release.
    :raises ReleaseError: a table is not in the store, or was changed.
    """
    last = plans_of(entries)
    if not last:
        return None
    planned = {name: rows_from_json(PlannedCase, store.get_bytes(plan.cases)) for name, plan in last.items()}
    results = [CaseResult.model_validate(one.payload, extra="ignore") for one in entries if one.kind == CASE_TESTED]
    results += _not_yet_recorded(entries, last, planned)
    own = [one for one in results if one.environment in last and one.artifact == last[one.environment].artifact]
    plan = last_in(entries, PLAN_MADE, ReleasePlan)
    return matrix(plan.tickets if plan else (), planned, own, _takers(entries, last, planned))


def plans_of(entries: Iterable[Entry]) -> dict[str, TestPlan]:
    """Return the last plan of the test cases of each environment, by its name."""
    plans = (TestPlan.model_validate(one.payload, extra="ignore") for one in entries if one.kind == TEST_PLANNED)
    return {plan.environment: plan for plan in plans}


def asked_cases(plan: TestPlan, store: ArtifactStore) -> tuple[PlannedCase, ...]:
    """Return the cases of a plan that testers are asked for, in the order of the questions.

    :raises ReleaseError: the table is not in the store, or was changed.
    """
    return tuple(one for one in rows_from_json(PlannedCase, store.get_bytes(plan.cases)) if one.demanded)


def _takers(
    entries: Sequence[Entry], plans: Mapping[str, TestPlan], planned: Mapping[str, Sequence[PlannedCase]]
) -> dict[tuple[str, str], Taker]:
    """Return who is at which case, by environment and case; nobody is, where the cases are closed."""
    closed, at = _closed(entries), takers_in(entries)
    every = ((name, one, one.digest(plans[name].artifact)) for name, cases in planned.items() for one in cases)
    return {(name, one.case.id): at[binds] for name, one, binds in every if binds in at and name not in closed}


def _closed(entries: Iterable[Entry]) -> frozenset[str]:
    """Return the environments whose results are all recorded."""
    return frozenset(str(one.payload["environment"]) for one in entries if one.kind == CASES_RUN)


def _not_yet_recorded(
    entries: Sequence[Entry], plans: Mapping[str, TestPlan], planned: Mapping[str, Sequence[PlannedCase]]
) -> Iterator[CaseResult]:
    """Yield the answers that testers have given in an environment whose results are not recorded yet.

    They are as Airflow's API server recorded them when they came in. What counts is decided when all are in.
    """
    closed = _closed(entries)
    for environment, plan in plans.items():
        if environment in closed:
            continue
        asked = [one for one in planned[environment] if one.demanded]
        digests = [one.digest(plan.artifact) for one in asked]
        attached = answered_with(entries, ask_testers(environment), digests)
        for entry in entries:
            given = entry.payload
            if entry.kind == ANSWER_GIVEN and given.get("task_id") == ask_testers(environment):
                index = int(given["map_index"])
                vote = Vote(
                    user=given["user"],
                    assigned=given["user"],
                    choice=given["choice"],
                    comment=given.get("comment", ""),
                    evidence=given.get("evidence", ""),
                    step=given.get("step", ""),
                    defect=given.get("defect", ""),
                    at=entry.at,
                )
                if 0 <= index < len(asked) and (result := result_of(plan, asked[index], [vote], attached)):
                    yield result
