"""The permit: leave to open connections to some production hosts, for one purpose, once, and soon.

An approval can be days old when a wave begins. So just before it everything is checked again (:func:`objections`), and
only what holds then is written into a permit, signed, and used once. Without one, no connection is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from interlock.domain.calendars.bookings import Under
from interlock.domain.calendars.calendar import Answer
from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import END, Entry
from interlock.domain.records import Decision, QualityReport, RolloutPlan, Waiver

SANDBOXES = frozenset({"test"})
"""Environments whose hosts are reached without a permit: nobody depends on them."""
LONGEST = timedelta(minutes=15)
"""A permit is never older when it is used."""
PERMIT_TYPE = "application/vnd.interlock.permit+json"
"""Payload type of a signed permit."""

NO_PERMIT = "No permit:"
"""What refusals begin with, and the results of hosts to which a wave had no permit."""

Purpose = Literal["inspect", "deploy", "back_out", "restart", "traffic", "return"]
"""To ask hosts what they run; to bring them to the approved release; to take them back to what they had; to restart
what they run; to let the load balancer send them another share of the traffic; to bring them to a release that came
while they were down."""

_GATE = "before every wave, everything that was approved is proven again"
_MANAGER = "the release manager"


class Permit(Model):
    """Leave to connect to hosts."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$", description="Random; it is used once")
    purpose: Purpose
    chain: str = Field(description="The chain of the release in the ledger: its Dag and run")
    environment: str
    wave: int | None = Field(None, ge=1, description="Counted from 1; none: not for a wave")
    hosts: tuple[str, ...] = Field(min_length=1, description="Addresses")
    plan: Sha256 | None = Field(None, description="Digest of the frozen rollout plan; none: not frozen yet")
    bundle: Sha256 | None = Field(None, description="Digest of what is deployed")
    catalogue: Sha256 = Field(description="Digest of the policy, board and service that held when it was given")
    calendar: Answer | None = Field(None, description="What the calendars answered then; none: they were not asked")
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    entered: Under = Field(None, description="Where it may change something; none: it changes nothing")


class Circumstances(Model):
    """What is found just before a wave, each from its primary record."""

    frozen: Sha256 | None = Field(description="Digest of the plan that was frozen, by the ledger; none: none was")
    decision: Decision | None = Field(description="The votes, counted again; none: no decision yet")
    catalogue: Sha256 = Field(description="Digest of the catalogue's part as it is now")
    bundle: Sha256 | None = Field(description="Digest of the bundle's bytes, read again; none: they are not there")
    quality: QualityReport | None = Field(description="The quality report that the ledger has; none: none")
    waivers: tuple[Waiver, ...] = Field((), description="By the ledger; each given by somebody who might")
    closed: bool = Field(False, description="The release has ended")
    unsigned: str = Field("", description="That what was decided is not vouched for by a signed head, in words")
    stops: tuple[str, ...] = Field((), description="Emergency stops in force, in words")
    freezes: tuple[str, ...] = Field((), description="What the calendars close it by now, in words")
    interventions: tuple[str, ...] = Field((), description="Done by hand since the plan was frozen, in words")
    findings: tuple[str, ...] = Field((), description="Of the bypass detector about this release, in words")
    marked: str = Field("", description="Why this version is kept out of the environment, in words")
    ran_before: bool = Field(False, description="Of a rollback: by the ledger the environment ran exactly this before")
    booked: str = Field("", description="Another release that holds the environment, in words")
    overtaken: str = Field("", description="Another release that changed its hosts since it was frozen, in words")


class Objection(Model):
    """Why no permit is given."""

    what: str
    rule: str
    who: str
    next_step: str


def objections(plan: RolloutPlan, found: Circumstances, now: datetime) -> tuple[Objection, ...]:
    """Return every reason against changing production by this plan now; none: a permit may be given."""
    return tuple(
        objection
        for check in (_check_plan, _check_version, _check_board, _check_quality, _check_time, _check_interventions)
        for objection in check(plan, found, now)
    )


def refuse(found: Sequence[Objection]) -> None:
    """Raise a PolicyViolation that names every objection; nothing if there is none."""
    if found:
        raise PolicyViolation(
            f"{NO_PERMIT} " + " ".join(objection.what for objection in found),
            rule="; ".join(dict.fromkeys(objection.rule for objection in found)),
            who="; ".join(dict.fromkeys(objection.who for objection in found)),
            next_step="; ".join(dict.fromkeys(objection.next_step for objection in found)),
        )


def refuse_unusable(permit: Permit, *, purposes: Sequence[Purpose], environment: str, now: datetime) -> None:
    """Raise a PolicyViolation unless a permit is for this, and is neither too old nor from later."""
    if permit.purpose not in purposes:
        problem = f"it was given to {permit.purpose.replace('_', ' ')}"
    elif permit.environment != environment:
        problem = f"it was given for {permit.environment}"
    elif permit.expires_at - permit.issued_at > LONGEST:
        problem = f"it says that it holds for more than {in_words(LONGEST)}"
    elif permit.entered is None and permit.purpose != "inspect":
        problem = "it is to change something, and its holder entered nowhere"
    elif now >= permit.expires_at:
        problem = f"it ended at {_utc(permit.expires_at)}"
    elif now < permit.issued_at:
        problem = f"it was given at {_utc(permit.issued_at)}, which is later than now"
    else:
        return
    raise _unusable(permit, problem)


def refuse_other_host(permit: Permit, address: str) -> None:
    """Raise a PolicyViolation unless the permit names a host."""
    if address not in permit.hosts:
        raise _unusable(permit, f"it does not name {address}")


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _unusable(permit: Permit, problem: str) -> PolicyViolation:
    return PolicyViolation(
        f"The permit {permit.id[:8]} of {permit.chain} opens no connection: {problem}.",
        rule="a permit is for the hosts, the purpose and the minutes that it names",
        who=_MANAGER,
        next_step="run the task again: it asks for a new permit",
    )


# --- the checks ------------------------------------------------------------------------------------------------------


def _check_plan(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    again = "trigger the release again: what was decided is void"
    if plan.rehearsal != (plan.environment in SANDBOXES):
        says = "a rehearsal" if plan.rehearsal else "no rehearsal"
        yield Objection(
            what=f"The plan says that it is {says}, but it is for {plan.environment}.",
            rule="a rehearsal changes a sandbox, and nothing else does",
            who=_MANAGER,
            next_step=again,
        )
    if found.closed:
        yield Objection(
            what="The release has ended.",
            rule="a release that was closed touches nothing any more",
            who=_MANAGER,
            next_step="trigger a new release",
        )
    if found.frozen != plan.digest:
        was = f"the plan {found.frozen[:12]} was frozen" if found.frozen else "no plan was frozen"
        yield Objection(
            what=f"This is the plan {plan.digest[:12]}, and by the ledger {was}.",
            rule="the plan that is carried out is the one that was frozen",
            who=_MANAGER,
            next_step=again,
        )
    if found.catalogue != plan.policy_digest:
        yield Objection(
            what="The policy, the board or the service's file changed since the release began.",
            rule="a release ends by the rules with which it began",
            who="whoever changed include/catalogue",
            next_step=again,
        )
    if found.bundle != plan.bundle.sha256:
        what = f"has the digest {found.bundle[:12]}" if found.bundle else "is not in the artifact store"
        yield Objection(
            what=f"The bundle {what}, and {plan.bundle.sha256[:12]} was approved.",
            rule="the bytes that were approved are the bytes that are deployed",
            who="the platform engineer, who keeps the artifact store",
            next_step="find out who replaced or removed it, then " + again,
        )


def _check_version(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    if found.marked:
        yield Objection(
            what=found.marked,
            rule="a version that is marked bad is not rolled out, and where one is pinned no other is",
            who="the release manager, with the Dag mark_version",
            next_step="take another version, or have the mark lifted and run the task again",
        )
    if plan.rolls_back and not found.ran_before:
        yield Objection(
            what=f"By the ledger {plan.environment} never ran {plan.release}, or the record of it does not hold.",
            rule="without a board an environment goes back only to what it ran before",
            who="the board",
            next_step="release that version as a normal or an emergency change",
        )
    if found.overtaken:
        yield Objection(
            what=found.overtaken,
            rule="what a plan says about its hosts is true until another release changes them",
            who=_MANAGER,
            next_step="trigger the release again, so that it is planned from what the hosts run now",
        )


def _check_board(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    decision = found.decision
    if decision is None:
        what = "The board has not decided."
    elif decision.digest != plan.digest:
        what = f"The board decided on the plan {decision.digest[:12]}, and this is {plan.digest[:12]}."
    elif not decision.approved:
        what = f"The votes, counted again, do not approve the plan. {decision.reason}"
    else:
        return
    yield Objection(
        what=what, rule=_GATE, who="the board", next_step="trigger the release again and let the board vote"
    )


def _check_quality(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    who, again = "the service's team", "trigger the release again, and let it be reviewed"
    if found.quality is None or sha256_of(found.quality) != plan.quality_digest:
        yield Objection(
            what="The quality report that the plan names is not the one in the ledger.",
            rule="the report that was read is the report that counts",
            who=who,
            next_step=again,
        )
        return
    # On record, and seen by the board: a waiver that came after the plan was frozen is none.
    waivers = [one for one in found.waivers if one in plan.waivers]
    bare = [failure for failure in found.quality.failures if not any(one.covers(failure, now) for one in waivers)]
    if bare or (not found.quality.success and not found.quality.failures):
        names = "; ".join(f"{failure.suite}: {failure.expected}" for failure in bare) or "the review as a whole"
        yield Objection(
            what=f"Quality review failed, and no waiver in force covers it: {names}.",
            rule="a failed expectation is mended or waived by those whom the policy names",
            who=who,
            next_step="mend it and release a new version, or have it waived before the board votes",
        )


def _check_time(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    if plan.not_before and now < plan.not_before:
        yield Objection(
            what=f"The rollout is not to begin before {_utc(plan.not_before)}.",
            rule="a rollout begins when its plan says, or later",
            who=_MANAGER,
            next_step="wait until then",
        )
    if found.booked:
        yield Objection(
            what=found.booked,
            rule="an environment of a service is changed by one release at a time",
            who="whoever asked for the release that holds it",
            next_step="run the task again when it is free",
        )
    for stop in found.stops:
        yield Objection(
            what=f"Emergency stop: {_sentence(stop)}",
            rule="an emergency stop halts every rollout in its scope",
            who="whoever may lift the stop",
            next_step="run the task again when it is lifted",
        )
    for freeze in found.freezes:
        yield Objection(
            what=f"Calendar: {_sentence(freeze)}",
            rule="nothing is changed while the calendars close it",
            who="whoever keeps include/catalogue/calendars",
            next_step="run the task again when it is over",
        )


def refuse_ended(task: str, entries: Sequence[Entry], *, way_back: bool = False) -> None:
    """Raise a PolicyViolation if a release or a train has ended: its tasks do nothing any more, and add nothing.

    :param task: that is to run.
    :param entries: of the chain.
    :param way_back: it is on the way back, which a release that failed is not at the end of.
    """
    end = next((entry for entry in reversed(entries) if entry.kind in END), None)
    if end is None or (way_back and end.payload.get("outcome") == "failed"):
        return
    outcome = end.payload.get("outcome")
    how = f", as {str(outcome).replace('_', ' ')}" if outcome else ""
    raise PolicyViolation(
        f"The release has ended{how}: {task} does nothing any more."
        if end.kind == END[0]
        else f"The train has arrived: {task} does nothing any more.",
        rule="what has ended touches nothing, and nothing is added to its record",
        who="nobody",
        next_step="to change something again, trigger another run",
    )


def had_permit(plan: RolloutPlan, entries: Sequence[Entry]) -> bool:
    """Tell whether a permit to deploy by a plan was used, by its release's chain: hosts may have been changed."""
    permits = [entry.payload.get("permit", {}) for entry in entries if entry.kind == "permit.used"]
    return any((one.get("purpose"), one.get("plan")) == ("deploy", plan.digest) for one in permits)


def refuse_back_out(plan: RolloutPlan, entries: Sequence[Entry], *, unsigned: str = "", overtaken: str = "") -> None:
    """Raise a PolicyViolation unless a release may take its hosts back: what stops a release does not stop that.

    :param entries: the release's chain. It froze this plan, had a permit to deploy by it, and did not end since; a
        release that failed is not at its end while its back-out is not done.
    :param unsigned: what was decided in it and is not signed.
    :param overtaken: which other release changed its hosts since its plan was frozen: they are that one's now.
    """
    frozen = [entry.payload.get("digest") for entry in entries if entry.kind == "rollout.frozen"]
    closed = [entry.payload.get("outcome") for entry in entries if entry.kind == "release.closed"]
    if not frozen or frozen[-1] != plan.digest:
        problem, rule = "by the ledger its plan is not the one that was frozen", "it goes where the frozen plan says"
    elif not had_permit(plan, entries):
        problem, rule = "by the ledger it never had a permit to deploy", "only what was deployed is backed out"
    elif closed and closed[-1] != "failed":
        problem, rule = f"by the ledger it has ended as {closed[-1]}", "what has ended touches nothing any more"
    elif unsigned:
        problem, rule = unsigned.rstrip("."), "what was frozen and decided is signed with the installation's key"
    elif overtaken:
        problem, rule = overtaken.rstrip("."), "hosts are taken back by the release that changed them last"
    else:
        return
    raise PolicyViolation(
        f"No permit for a back-out of {plan.service} {plan.version}: {problem}.",
        rule=rule,
        who=_MANAGER,
        next_step="to go back to another version, release that version",
    )


def _check_interventions(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    if found.unsigned:
        yield Objection(
            what=found.unsigned,
            rule="what was frozen and decided is signed with the installation's key",
            who="whoever may write to the ledger's database as its owner",
            next_step="find out who changed it, then trigger the release again",
        )
    for what in found.interventions:
        yield Objection(
            what=f"Somebody intervened by hand: {_sentence(what)}",
            rule="nobody marks, clears, edits or deletes anything of a release after its plan was frozen",
            who="the auditor, who sees it in the audit log",
            next_step="trigger the release again",
        )
    for what in found.findings:
        yield Objection(
            what=f"There is a finding about this release: {_sentence(what)}",
            rule="a release with a finding gets no permit",
            who="those whom the policy names for findings",
            next_step="clear it up, then trigger the release again",
        )


def _sentence(words: str) -> str:
    """Return words that others wrote with a full stop: several of them follow each other in a refusal."""
    return words if words.endswith(".") else f"{words}."
