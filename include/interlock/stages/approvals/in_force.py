"""What is in force when people are asked: emergency stops and freezes, in the text of the question."""

from __future__ import annotations

from collections.abc import Iterable

from interlock.adapters.templates import escape
from interlock.domain.catalogue import Policy, Service
from interlock.domain.records import ReleasePlan
from interlock.stages.runtime.calendars import answer_now
from interlock.stages.runtime.permits import refuse_stopped_release, stops_now


def before_asking(policy: Policy, service: Service, plan: ReleasePlan) -> str:
    """Return what is in force now, as the beginning of a question's text; empty: nothing is.

    :raises PolicyViolation: an emergency stop keeps the release from production, so nobody is asked.
    """
    refuse_stopped_release(plan)
    return "" if plan.rehearsal else in_force_now(policy, service, plan.target)


def in_force_now(policy: Policy, service: Service, environment: str) -> str:
    """Return the emergency stops and the freeze that hold a service back now, as the beginning of a question's text."""
    answer = answer_now(policy, service, environment)
    outside_of_window = answer.by is not None and answer.by.effect == "allow"
    freeze = () if answer.open or outside_of_window else (f"Calendar: {answer}",)
    return as_notice((*(f"Emergency stop: {stop}" for stop in stops_now(service)), *freeze))


def as_notice(sentences: Iterable[str]) -> str:
    """Return what is in force as the beginning of a question's text; empty: nothing is."""
    lines = "\n".join(f"- {escape(one)}" for one in dict.fromkeys(sentences))
    return f"**In force now:**\n\n{lines}\n\n" if lines else ""
