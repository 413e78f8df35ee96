"""What the chain of a release says of what a permit asks: the same for the permit itself and for who asks early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.change.amended import changes_that_void, digest_bound_to
from interlock.domain.change.environments import stops_of
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    MIGRATION_REHEARSED,
    PATH_JUDGED,
    PATH_PASSED,
    PATH_TESTED,
    PATH_WAIVED,
    PLAN_MADE,
    QUALITY_JUDGED,
    QUALITY_WAIVED,
    RELEASE_CLOSED,
)
from interlock.domain.ledger.reading import all_in, last_in, last_of_each, plan_in
from interlock.domain.records import (
    Decision,
    EnvironmentPassed,
    EnvironmentTested,
    MigrationRehearsal,
    QualityReport,
    ReleasePlan,
    RolloutPlan,
    Waiver,
)

from .objections import FoundOnPath

SignOff = Callable[[EnvironmentTested], Decision | None]
"""Returns what was decided on the sign-off of an environment."""


def by_its_chain(
    catalogue: ServiceCatalogue, plan: RolloutPlan, entries: Sequence[Entry], sign_off: SignOff
) -> dict[str, Any]:
    """Return the fields of ``Circumstances`` that the chain of a release and the catalogue give."""
    frozen = plan_in(entries)
    return {
        "frozen": frozen.digest if frozen else None,
        "catalogue": digest_bound_to(plan, catalogue, entries),
        "changes": changes_that_void(entries, catalogue),
        "quality": last_in(entries, QUALITY_JUDGED, QualityReport),
        "waivers": tuple(all_in(entries, QUALITY_WAIVED, Waiver)),
        "environments": _on_path(catalogue, plan, entries, sign_off),
        "migrations": last_in(entries, MIGRATION_REHEARSED, MigrationRehearsal),
        "closed": any(entry.kind == RELEASE_CLOSED for entry in entries),
    }


def _on_path(
    catalogue: ServiceCatalogue, plan: RolloutPlan, entries: Sequence[Entry], sign_off: SignOff
) -> tuple[FoundOnPath, ...]:
    """Return what is found of the environments before production."""
    if plan.rehearsal or plan.rolls_back or not catalogue.service.path:
        return ()
    planned = last_in(entries, PLAN_MADE, ReleasePlan)
    step = planned.bump if planned else None
    passed = last_of_each(entries, PATH_PASSED, EnvironmentPassed)
    tested = last_of_each(entries, PATH_TESTED, EnvironmentTested)
    judged = last_of_each(entries, PATH_JUDGED, QualityReport)
    waivers = all_in(entries, PATH_WAIVED, Waiver)
    return tuple(
        FoundOnPath(
            environment=name,
            left_out=stop.left_out,
            soak=stop.soak,
            must_be_signed=stop.sign_off is not None,
            passed=passed.get(name),
            tested=tested.get(name),
            quality=judged.get(name),
            waivers=tuple(waiver for waiver in waivers if waiver.environment == name),
            decision=None if stop.left_out or name not in tested else sign_off(tested[name]),
        )
        for stop in stops_of(catalogue.policy, catalogue.service, change_type=plan.change_type, step=step)
        if (name := stop.environment)
    )
