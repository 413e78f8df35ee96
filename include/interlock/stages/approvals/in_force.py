"""The emergency stops and freezes in force, for the text of a question."""

from __future__ import annotations

from collections.abc import Iterable

from interlock.adapters.templates import escape
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.records import ReleasePlan
from interlock.stages.runtime.calendars import answer_now
from interlock.stages.runtime.permits import refuse_stopped_release, stops_now


def before_asking(catalogue: ServiceCatalogue, plan: ReleasePlan) -> str:
    """Return the emergency stops and the freeze in force now, as the beginning of a question's text.

    :raises PolicyViolation: an emergency stop holds the release back, so no question is asked.
    """
    refuse_stopped_release(catalogue.service, plan)
    return "" if plan.rehearsal else in_force_now(catalogue, plan.target)


def in_force_now(catalogue: ServiceCatalogue, environment: str) -> str:
    """Return the emergency stops and the freeze that hold a service back now, as the beginning of a question's text."""
    answer = answer_now(catalogue, environment)
    outside_of_window = answer.by is not None and answer.by.effect == "allow"
    freeze = () if answer.open or outside_of_window else (f"Calendar: {answer}",)
    return as_notice((*(f"Emergency stop: {stop}" for stop in stops_now(catalogue.service)), *freeze))


def as_notice(sentences: Iterable[str]) -> str:
    """Return sentences as the beginning of a question's text; empty if there are none."""
    lines = "\n".join(f"- {escape(one)}" for one in dict.fromkeys(sentences))
    return f"**In force now:**\n\n{lines}\n\n" if lines else ""
