"""Manual steps: who is asked what, and how the answer ends the step."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from interlock.adapters.templates import escape, instant, quoted
from interlock.domain.board.questions import ASK_STEP, ASK_WAY_BACK
from interlock.domain.canonical import Sha256, sha256_of
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.catalogue.runbook_file import ManualStep
from interlock.domain.records import PlannedStep, RolloutPlan, StepDirection, StepReport
from interlock.domain.runbook.planning import step_id
from interlock.domain.runbook.progress import DONE, FAILED, UNKNOWN, Ended, known_of, settle_manual
from interlock.stages.approvals.in_force import in_force_now
from interlock.stages.approvals.people import persons, question, votes_on
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, record_worded

from .once import begun, finish, settled_before

ASKS: dict[StepDirection, str] = {"forward": ASK_STEP, "back": ASK_WAY_BACK}


def manual_of(step: PlannedStep, direction: StepDirection) -> ManualStep:
    """Return what people are to do, or to find out."""
    action = step.action(direction)
    if action is None or action.question is None:
        raise ValueError(f"no people are asked about {step.name}")
    return action.question


def digest_of(rollout: RolloutPlan, step: PlannedStep, direction: StepDirection) -> Sha256:
    """Return the digest that the answer to the question about a step is bound to."""
    return sha256_of({"step": step_id(rollout.digest, step, direction)})


def prepare(service: str, rollout: RolloutPlan, step: PlannedStep, direction: StepDirection) -> list[dict[str, Any]]:
    """Begin a manual step, with a permit of its own, and return the question about it; nothing if it is left out."""
    if settled_before(rollout, step, direction) is not None:
        return []
    with begun(service, rollout, step, direction) as (catalogue, _, began_at):
        doing = "is to be done now" if direction == "forward" else "is to be taken back now, because it is backed out"
        return _asked(catalogue, rollout, step, direction, doing, began_at)


def in_doubt(service: str, rollout: RolloutPlan, step: PlannedStep, direction: StepDirection) -> list[dict[str, Any]]:
    """Return the question about a step that was begun, of which nobody but people can find out what became of it."""
    began_at = known_of(chain_entries(), step_id(rollout.digest, step, direction)).began_at
    if began_at is None:
        raise ValueError(f"{step.name} was not begun")
    doing = f"was begun at {instant(began_at)}, and Interlock cannot find out what became of it; it is not done again"
    return _asked(resources.catalogue_of(service), rollout, step, direction, doing, began_at)


def _asked(
    catalogue: ServiceCatalogue,
    rollout: RolloutPlan,
    step: PlannedStep,
    direction: StepDirection,
    doing: str,
    began_at: datetime,
) -> list[dict[str, Any]]:
    manual = manual_of(step, direction)
    until, title, version = began_at + manual.within, catalogue.service.title, rollout.version
    body = in_force_now(catalogue, rollout.environment) + (
        f"A step of **{escape(title)} {escape(version)}** to {escape(rollout.environment)} {doing}: "
        f"**{escape(step.title)}**.\n\n{quoted(manual.instructions)}\n\n"
        f"- *{DONE}*: it is done. Name in the comment: {escape(manual.evidence)}.\n"
        f"- *{FAILED}*: it is not done, or only in part; say in the comment what was done. "
        + ("The release is then backed out.\n" if direction == "forward" else "Somebody then has to see to it.\n")
        + f"\nWithout an answer until {instant(until)}, the step has failed."
    )
    back = "" if direction == "forward" else "Take back: "
    asked = question(
        f"{back}{step.title} ({title} {version})",
        body,
        digest_of(rollout, step, direction),
        persons(catalogue.board, manual.who),
        options=(DONE, FAILED),
        answer_by=until,
    )
    record_worded(ASKS[direction].format(number=step.number), [asked])
    return [asked]


def settle(rollout: RolloutPlan, step: PlannedStep, direction: StepDirection) -> StepReport:
    """End a manual step as its people answered.

    :raises StepFailed: it failed, or nobody answered in time.
    """
    if (settled := settled_before(rollout, step, direction)) is not None:
        return settled
    known = known_of(chain_entries(), step_id(rollout.digest, step, direction))
    if known.began_at is None:
        return finish(rollout, step, direction, Ended(f"nobody was asked. {UNKNOWN}"), None)
    votes = votes_on(ASKS[direction].format(number=step.number), digest_of(rollout, step, direction))
    ended = settle_manual(manual_of(step, direction), votes, known.began_at)
    return finish(rollout, step, direction, ended, known.began_at)
