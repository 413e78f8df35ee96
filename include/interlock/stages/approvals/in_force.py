"""The emergency stops, freezes and incidents in force, for the text of a question."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from interlock.adapters.templates import escape
from interlock.domain.calendars.stops import scopes_about
from interlock.domain.catalogue import Service, ServiceCatalogue
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.events import open_incidents
from interlock.domain.ledger.kinds import INCIDENT_SEEN
from interlock.domain.records import ReleasePlan
from interlock.stages.runtime import resources
from interlock.stages.runtime.calendars import answer_now
from interlock.stages.runtime.permits import refuse_stopped_release, stops_now


def before_asking(catalogue: ServiceCatalogue, plan: ReleasePlan) -> str:
    """Return the stops, the freeze and the incidents in force now, as the beginning of a question's text.

    :raises PolicyViolation: an emergency stop holds the release back, so no question is asked.
    """
    refuse_stopped_release(catalogue.service, plan)
    return "" if plan.rehearsal else in_force_now(catalogue, plan.target)


def in_force_now(catalogue: ServiceCatalogue, environment: str) -> str:
    """Return the stops, the freeze and the incidents of a service now, as the beginning of a question's text."""
    answer = answer_now(catalogue, environment)
    outside_of_window = answer.by is not None and answer.by.effect == "allow"
    freeze = () if answer.open or outside_of_window else (f"Calendar: {answer}",)
    stops = (f"Emergency stop: {stop}" for stop in stops_now(catalogue.service))
    return as_notice((*stops, *freeze, *(f"Incident: {one}" for one in incidents_now(catalogue.service))))


def incidents_now(service: Service) -> tuple[str, ...]:
    """Return the open incidents of other systems about a service, in words."""
    with resources.ledger() as ledger:
        seen = ledger.entries(INSTALLATION, kind=INCIDENT_SEEN)
    return open_incidents(seen, scopes_about(service), datetime.now(UTC))


def as_notice(sentences: Iterable[str]) -> str:
    """Return sentences as the beginning of a question's text; empty if there are none."""
    lines = "\n".join(f"- {escape(one)}" for one in dict.fromkeys(sentences))
    return f"**In force now:**\n\n{lines}\n\n" if lines else ""
