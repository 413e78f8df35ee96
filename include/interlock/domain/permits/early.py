"""What would refuse a permit if the wave began now, or at its start: asked while there is time to change it.

It asks what ledger, catalogue and calendars say. What only hosts, connections, the artifact store, other systems and
Airflow's audit log know, the permit alone asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from interlock.domain.board.decision import count_votes, eligible_members
from interlock.domain.calendars.bookings import Standing, held_by_other
from interlock.domain.calendars.calendar import Calendars, may_change
from interlock.domain.calendars.overrides import in_force
from interlock.domain.calendars.stops import STOPS, stops_in_force
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.change.amended import changes_that_void, rule_in_force
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.findings import findings_about
from interlock.domain.ledger.kinds import (
    BOARD_DECIDED,
    FINDING,
    FREEZE_OVERRIDDEN,
    PLAN_MADE,
    RELEASE_REQUESTED,
    SIGN_OFF_DECIDED,
)
from interlock.domain.ledger.reading import last_in, last_of_each, plan_in
from interlock.domain.outcome.marks import MARKS, describe_block
from interlock.domain.records import Decision, ReleasePlan, RolloutPlan

from . import objections
from .found import by_its_chain
from .objections import Circumstances, Objection

KINDS = (MARKS, STOPS, FREEZE_OVERRIDDEN, FINDING)
"""The kinds of entries of the installation's chain that are asked, as the ledger finds them."""


@dataclass(frozen=True, slots=True)
class Early:
    """What is known of a release, and what of it is asked early.

    :param entries: its chain; ``installation``: for each of :data:`KINDS`, the entries of the installation's chain.
    :param bookings: of the environment that it goes to.
    """

    chain: str
    entries: Sequence[Entry]
    installation: Mapping[str, Sequence[Entry]]
    catalogue: ServiceCatalogue
    calendars: Calendars
    environment: str
    bookings: Standing

    def refusals(self, at: datetime) -> tuple[Objection, ...]:
        """Return what would refuse a wave at an instant, by what is known now."""
        plan = plan_in(self.entries)
        if plan is not None:
            return (*objections.foreseen_objections(plan, self._found(plan, at), at), *self._of_seats(plan))
        return (
            *objections.of_stops(self._stops(at)),
            *objections.of_freezes(self._closed(at)),
            *objections.of_findings(self._findings()),
            *self._of_rules(),
            *self._of_seats(last_in(self.entries, PLAN_MADE, ReleasePlan)),
        )

    def _found(self, plan: RolloutPlan, at: datetime) -> Circumstances:
        signed = last_of_each(self.entries, SIGN_OFF_DECIDED, Decision)
        return Circumstances(
            **by_its_chain(self.catalogue, plan, self.entries, lambda tested: signed.get(tested.environment)),
            decision=self._decision(plan),
            bundle=plan.bundle.sha256,
            stops=self._stops(at),
            freezes=self._closed(at),
            findings=self._findings(),
            marked=describe_block(self.installation[MARKS], plan.service, plan.environment, plan.version),
            ran_before=True,  # the permit reads the chain of the earlier release
            booked=held_by_other(self.bookings, self.chain),
        )

    def _decision(self, plan: RolloutPlan) -> Decision | None:
        """Return the board's decision, with its votes counted again by the rules and the members of now."""
        decision = last_in(self.entries, BOARD_DECIDED, Decision)
        if decision is None or not decision.required or plan.train is not None:
            return decision
        rule = rule_in_force(self.catalogue, plan, self.entries)
        if rule is None:
            return decision
        about = {"digest": decision.digest, "requester": plan.requested_by, "excluded": plan.excluded}
        return count_votes(rule, decision.votes, expired=True, **about)  # type: ignore[arg-type]

    def _of_seats(self, plan: ReleasePlan | RolloutPlan | None) -> Iterator[Objection]:
        """Yield why a board that has not decided yet cannot approve the release any more."""
        decided = any(entry.kind == BOARD_DECIDED for entry in self.entries)
        if plan is None or decided or (isinstance(plan, RolloutPlan) and plan.train is not None):
            return
        rule = rule_in_force(self.catalogue, plan, self.entries)
        excluded = plan.excluded if isinstance(plan, RolloutPlan) else ()
        try:
            if rule is not None:
                eligible_members(rule, requester=plan.requested_by, excluded=excluded)
        except PolicyViolation as error:
            yield Objection(what=error.what, rule=error.rule, who=error.who, next_step=error.next_step)

    def _of_rules(self) -> Iterator[Objection]:
        if changes := changes_that_void(self.entries, self.catalogue):
            yield Objection(
                what=f"The rules of this release changed after it started: {'; '.join(changes)}.",
                rule="a release keeps the rules with which it started",
                who="the person who changed include/catalogue",
                next_step="trigger the release again",
            )

    def _stops(self, at: datetime) -> tuple[str, ...]:
        return tuple(map(str, stops_in_force(self.installation[STOPS], self.catalogue.service, at)))

    def _closed(self, at: datetime) -> tuple[str, ...]:
        service = self.catalogue.service
        asked = next((one for one in reversed(self.entries) if one.kind == RELEASE_REQUESTED), None)
        by = str(asked.payload.get("requested_by", "")) if asked else ""
        overrides = in_force(self.installation[FREEZE_OVERRIDDEN], service.name, self.environment, at, requester=by)
        lifted = {one.place for one in overrides}
        answer = may_change(self.calendars, service, self.environment, at, overridden=lifted)
        waits = answer.by is not None and answer.by.effect == "allow"  # for its window, a release waits by itself
        return () if answer.open or waits else (str(answer),)

    def _findings(self) -> tuple[str, ...]:
        about = findings_about(self.installation[FINDING], self.chain)
        return tuple(str(entry.payload.get("what")) for entry in (*self.entries, *about) if entry.kind == FINDING)
