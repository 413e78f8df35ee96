"""Objections: each reason to refuse a permit to change production now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import Field

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue.values import Duration, in_words
from interlock.domain.errors import HeldBack, TransientError
from interlock.domain.records import (
    Decision,
    EnvironmentPassed,
    EnvironmentTested,
    MigrationRehearsal,
    QualityReport,
    RolloutPlan,
    Waiver,
)
from interlock.domain.runbook import rehearsal

from .installation import Fault
from .permit import RELEASE_MANAGER, SANDBOXES, utc_text

_GATE = "all approvals are verified again before every wave"


WHO_ELSE_APPROVES = (
    "the people who approve changes in that system; the owner of policy.yaml, who can make it a mirror for later "
    "releases; for an emergency change, the emergency board alone"
)


class FoundOnPath(Model):
    """What is found just before a wave of an environment between test and production, each from its primary record."""

    environment: str
    left_out: str = Field(
        "", description="Why releases like this do not go there, by the catalogue now; empty: they do"
    )
    soak: Duration | None = Field(None, description="For how long they run there, by the catalogue; none: not asked")
    must_be_signed: bool = Field(False, description="By the catalogue")
    passed: EnvironmentPassed | None = Field(None, description="By the ledger")
    tested: EnvironmentTested | None = Field(None, description="By the ledger")
    quality: QualityReport | None = Field(None, description="By the ledger")
    waivers: tuple[Waiver, ...] = Field((), description="By the ledger")
    decision: Decision | None = Field(None, description="The votes of the sign-off, counted again")


class Circumstances(Model):
    """What is found just before a wave, each from its primary record."""

    frozen: Sha256 | None = Field(description="Digest of the plan that was frozen, by the ledger; none: none was")
    decision: Decision | None = Field(description="The votes, counted again; none: no decision yet")
    catalogue: Sha256 = Field(description="Digest of the rules of the release as they are now")
    changes: tuple[str, ...] = Field((), description="Rules that changed since the release began, in sentences")
    unjudged: str = Field("", description="Tightened thresholds by which its quality was not judged, in sentences")
    judged_again: tuple[QualityReport, ...] = Field(
        (), description="By tightened thresholds, of test and each environment after it; empty: none were tightened"
    )
    bundle: Sha256 | None = Field(description="Digest of the bundle's bytes, read again; none: they are not there")
    authorities: tuple[str, ...] = Field((), description="Systems that do not approve it, in words")
    unread: tuple[str, ...] = Field((), description="Systems whose approval cannot be read now, in words")
    quality: QualityReport | None = Field(description="The quality report that the ledger has; none: none")
    waivers: tuple[Waiver, ...] = Field((), description="By the ledger; each was given by a person with permission")
    environments: tuple[FoundOnPath, ...] = Field((), description="Between test and production")
    migrations: MigrationRehearsal | None = Field(None, description="The rehearsal that the ledger has; none: none")
    closed: bool = Field(False, description="The release has ended")
    unsigned: str = Field("", description="That what was decided is not vouched for by a signed head, in words")
    stops: tuple[str, ...] = Field((), description="Emergency stops in force, in words")
    freezes: tuple[str, ...] = Field((), description="What the calendars close it by now, in words")
    connections: tuple[str, ...] = Field((), description="Connections that the plan does not have so, in sentences")
    hosts: tuple[str, ...] = Field((), description="Hosts that the plan does not have so, in sentences")
    interventions: tuple[str, ...] = Field((), description="Done by hand since the plan was frozen, in words")
    findings: tuple[str, ...] = Field((), description="Of the bypass detector about this release, in words")
    marked: str = Field("", description="Why this version is kept out of the environment, in words")
    ran_before: bool = Field(False, description="Of a rollback: by the ledger the environment ran exactly this before")
    booked: str = Field("", description="Another release that holds the environment, in words")
    installation: tuple[Fault, ...] = Field((), description="Checks of the installation that do not hold")
    overtaken: str = Field("", description="Another release that changed its hosts since it was frozen, in words")


class Objection(Model):
    """Why no permit is given."""

    what: str
    rule: str
    who: str
    next_step: str


def objections(plan: RolloutPlan, found: Circumstances, now: datetime) -> tuple[Objection, ...]:
    """Return every reason against changing production by this plan now; none: a permit may be given."""
    return tuple(objection for check in _CHECKS for objection in check(plan, found, now))


def foreseen_objections(plan: RolloutPlan, found: Circumstances, now: datetime) -> tuple[Objection, ...]:
    """Return what would refuse a permit; that a vote is still open, or that it is too early, is no objection yet."""
    left = (check for check in _CHECKS if check is not _check_board or found.decision is not None)
    begun = plan.model_copy(update={"not_before": None})  # a copy has the digest of its content, so only for the time
    return tuple(one for check in left for one in check(begun if check is _check_time else plan, found, now))


def of_stops(stops: Sequence[str]) -> Iterator[Objection]:
    """Yield why no permit is given during emergency stops.

    :param stops: in words.
    """
    for stop in stops:
        yield Objection(
            what=f"Emergency stop: {_sentence(stop)}",
            rule="an emergency stop halts all rollouts in its scope",
            who="a person who may lift the stop",
            next_step="trigger the release again when the stop is lifted",
        )


def of_freezes(freezes: Sequence[str]) -> Iterator[Objection]:
    """Yield why no permit is given while calendars close an environment.

    :param freezes: what they say, in words.
    """
    for freeze in freezes:
        yield Objection(
            what=f"Calendar: {_sentence(freeze)}",
            rule="no changes are made while a calendar closes the environment",
            who="the owner of the calendar in include/catalogue/calendars",
            next_step="trigger the release again when the environment is open",
        )


def of_findings(findings: Sequence[str]) -> Iterator[Objection]:
    """Yield why a release with findings gets no permit.

    :param findings: in words.
    """
    for what in findings:
        yield Objection(
            what=f"The release has a finding: {_sentence(what)}",
            rule="a release with a finding gets no permit",
            who="the people under findings.notify of policy.yaml",
            next_step="have the finding investigated, then trigger the release again",
        )


MAX_LISTED = 5


def _listed(changes: Sequence[str]) -> str:
    """Return the first differences, for the end of a sentence."""
    more = f" (and {len(changes) - MAX_LISTED} more)" if len(changes) > MAX_LISTED else ""
    return f": {'; '.join(changes[:MAX_LISTED])}{more}" if changes else ""


def refuse(found: Sequence[Objection]) -> None:
    """Raise HeldBack, which names every objection; nothing if there is none."""
    if found:
        raise HeldBack(
            "No permit: " + " ".join(objection.what for objection in found),
            rule="; ".join(dict.fromkeys(objection.rule for objection in found)),
            who="; ".join(dict.fromkeys(objection.who for objection in found)),
            next_step="; ".join(dict.fromkeys(objection.next_step for objection in found)),
        )


def refuse_for_now(found: Sequence[Objection]) -> None:
    """Raise TransientError, which names every objection: asked again soon, the answer may be another one."""
    raise TransientError(
        "No permit now: " + " ".join(objection.what for objection in found),
        rule=found[0].rule,
        who=found[0].who,
        next_step="Interlock asks again for about a minute; then the release ends, or is backed out",
    )


def _check_plan(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    again = "trigger the release again: the approvals are void"
    if plan.rehearsal != (plan.environment in SANDBOXES):
        says = "a rehearsal" if plan.rehearsal else "not a rehearsal"
        yield Objection(
            what=f"The plan says that it is {says}, but it is for {plan.environment}.",
            rule="only rehearsals change a sandbox, and they change nothing else",
            who=RELEASE_MANAGER,
            next_step=again,
        )
    if found.closed:
        yield Objection(
            what="The release has ended.",
            rule="a closed release cannot change anything",
            who=RELEASE_MANAGER,
            next_step="trigger a new release",
        )
    if found.frozen != plan.digest:
        was = f"the plan {found.frozen[:12]} was frozen" if found.frozen else "no plan was frozen"
        yield Objection(
            what=f"This is the plan {plan.digest[:12]}, but according to the ledger {was}.",
            rule="only the frozen plan is carried out",
            who=RELEASE_MANAGER,
            next_step=again,
        )
    if found.catalogue != plan.policy_digest:
        yield Objection(
            what=f"The rules of this release changed after it started{_listed(found.changes)}.",
            rule="a release keeps the rules with which it started",
            who="the person who changed include/catalogue",
            next_step=again,
        )
    if found.bundle != plan.bundle.sha256:
        what = f"has the digest {found.bundle[:12]}" if found.bundle else "is not in the artifact store"
        yield Objection(
            what=f"The bundle {what}, but {plan.bundle.sha256[:12]} was approved.",
            rule="only the approved artifact is deployed",
            who="the platform engineer",
            next_step="have the platform engineer find out who replaced or removed it, then " + again,
        )


def _check_version(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    if found.marked:
        yield Objection(
            what=found.marked,
            rule="a version that is marked bad is not deployed; a pinned environment only gets the pinned version",
            who="the release manager, with the Dag mark_version",
            next_step="choose another version, or have the mark removed and trigger the release again",
        )
    if plan.rolls_back and not found.ran_before:
        yield Objection(
            what=f"According to the ledger, {plan.environment} never ran {plan.release}, or its record is not intact.",
            rule="a rollback without a vote returns only to a release that the environment ran before",
            who="the board",
            next_step="release that version as a normal or an emergency change",
        )
    if found.overtaken:
        yield Objection(
            what=found.overtaken,
            rule="a plan is valid until another release changes its hosts",
            who=RELEASE_MANAGER,
            next_step="trigger the release again, so that it is planned from the current state of the hosts",
        )


def _check_board(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    decision = found.decision
    if decision is None:
        what = "The board has not decided."
    elif decision.digest != plan.digest:
        what = f"The board decided on the plan {decision.digest[:12]}, but this is {plan.digest[:12]}."
    elif not decision.approved:
        what = f"A recount of the votes does not approve the plan. {decision.reason}"
    else:
        return
    yield Objection(
        what=what, rule=_GATE, who="the board", next_step="trigger the release again and let the board vote"
    )


def _check_authorities(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    for sentence in (*found.authorities, *found.unread):
        yield Objection(
            what=_sentence(sentence),
            rule=f"change_types.{plan.change_type}.records of the policy: the approval in an authority is read again "
            "before each permit",
            who=WHO_ELSE_APPROVES,
            next_step="have the change approved there, then trigger the release again",
        )


def _check_quality(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    who, again = "the service's team", "trigger the release again, so that its quality is reviewed again"
    if found.quality is None or sha256_of(found.quality) != plan.quality_digest:
        yield Objection(
            what="The quality report that the plan names is not the one in the ledger.",
            rule="the approvals are valid only for the quality report that the approvers saw",
            who=who,
            next_step=again,
        )
        return
    for line in (*(found.quality.defects or ()), *(line for one in plan.environments or () for line in one.defects)):
        if line.state == "accepted" and line.stops and line.until is not None and line.until <= now:
            yield Objection(
                what=f"The defect {line.id} was accepted as known until {utc_text(line.until)}: {line.stops}.",
                rule="an accepted defect does not stop a release until its acceptance ends",
                who="the people under waivers.defects of policy.yaml",
                next_step="fix the defect, or have it accepted again in a new release",
            )
    # The board saw only recorded waivers: a waiver after the plan was frozen does not count.
    if names := _failed(found.quality, [one for one in found.waivers if one in plan.waivers], now):
        yield Objection(
            what=f"The quality review failed without a waiver in force: {names}.",
            rule="a failed expectation is fixed, or waived by people whom the policy names",
            who=who,
            next_step="fix it and release a new version, or have it waived before the board votes",
        )


def _check_quality_again(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    """Yield what does not meet thresholds that were tightened after the quality review."""
    rule = "what tightens the rules of a release is asked of it"
    who, again = "the service's team; the person who changed the thresholds", "trigger the release again"
    if found.unjudged:
        yield Objection(
            what=f"Thresholds were tightened, and the quality of the release was not judged by them: {found.unjudged}.",
            rule=rule,
            who=who,
            next_step=again,
        )
        return
    waivers = (*found.waivers, *(waiver for one in found.environments for waiver in one.waivers))
    for report in found.judged_again:
        if names := _failed(report, [one for one in waivers if one.environment == report.environment], now):
            where = f" of {report.environment}" if report.environment else ""
            yield Objection(
                what=f"Judged by thresholds that were tightened since, the quality review{where} fails: {names}.",
                rule=rule,
                who=who,
                next_step=f"fix it and release a new version, or {again} and have it waived",
            )


def _failed(quality: QualityReport, waivers: Sequence[Waiver], now: datetime) -> str:
    """Name the failures of a report that no waiver covers now; empty: there are none."""
    bare = [failure for failure in quality.failures if not any(one.covers(failure, now) for one in waivers)]
    if bare or (not quality.success and not quality.failures):
        return "; ".join(f"{failure.suite}: {failure.expected}" for failure in bare) or "the review as a whole"
    return ""


def _check_environments(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    """Yield what is not proven of the environments that the release had to pass before production."""
    if plan.rehearsal or plan.rolls_back:  # a rehearsal stays on test; a rollback goes to what passed them then
        return
    named = {one.environment: one for one in plan.environments or ()}
    asked = [one.environment for one in found.environments]
    if list(named) != asked:
        says = ", ".join(named) or "no environment"
        yield _of_path(
            f"The plan names {says} between test and production, but the path is {', '.join(asked) or 'none'}."
        )
        return
    for one in found.environments:
        for what in _unproven(plan, named[one.environment], one, now):
            yield _of_path(f"{one.environment}: {what}")


def _of_path(what: str) -> Objection:
    return Objection(
        what=what,
        rule="a release goes to production only after every environment that its service's file and the policy name",
        who="the service's team (environments in the service's file); the owner of policy.yaml",
        next_step="trigger the release again, so that it goes through its environments again",
    )


def _unproven(plan: RolloutPlan, named: EnvironmentPassed, found: FoundOnPath, now: datetime) -> Iterator[str]:
    """Yield what is not proven of one environment that the plan names."""
    if found.passed != named:
        yield "what the plan says of it is not what the ledger has."
    if (named.left_out or "") != found.left_out:
        yield (
            f"the plan leaves it out ({named.left_out}), but the policy does not."
            if named.left_out
            else f"the plan goes there, but the policy leaves it out: {found.left_out}."
        )
    if not named.left_out:
        yield from _unreviewed(named, found, now)
        yield from _untested(plan, named, found)


def _unreviewed(named: EnvironmentPassed, found: FoundOnPath, now: datetime) -> Iterator[str]:
    """Yield why the quality review of an environment does not hold."""
    quality = found.quality
    if quality is None or sha256_of(quality) != named.quality or quality.environment != named.environment:
        yield "the quality report that the plan names is not the one in the ledger."
    elif (quality.cases, quality.defects or ()) != (named.cases, named.defects):
        yield "what the plan says of its test cases and defects is not what the quality report has."
    elif names := _failed(quality, [one for one in found.waivers if one in named.waivers], now):
        yield f"the quality review failed without a waiver in force: {names}."


def _untested(plan: RolloutPlan, named: EnvironmentPassed, found: FoundOnPath) -> Iterator[str]:
    """Yield what else is not proven of an environment: bytes, soak and sign-off."""
    tested, decision = found.tested, found.decision
    if tested is None or tested.digest != named.tested:
        yield "what its tests came to is not in the ledger as the plan names it."
        return
    if (tested.bundle, tested.release, tested.quality) != (plan.bundle.sha256, plan.release, named.quality):
        yield "it was tested with other bytes, or judged by another report, than the plan names."
    if found.soak is not None and (tested.soak is None or tested.soak.until - tested.soak.since < found.soak):
        yield f"the release did not run there for {in_words(found.soak)}, as the service's file asks."
    if not found.must_be_signed:
        return
    if decision is None or decision.digest != tested.digest:
        yield "it was not signed off."
    elif not decision.approved:
        yield f"a recount of the votes does not sign it off. {decision.reason}"


def _check_migrations(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    for what in rehearsal.unproven(plan, found.migrations):
        yield Objection(
            what=what,
            rule=rehearsal.RULE,
            who=rehearsal.WHO,
            next_step="trigger the release again, so that its database changes are rehearsed again",
        )


def _check_time(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    if plan.not_before and now < plan.not_before:
        yield Objection(
            what=f"The rollout must not start before {utc_text(plan.not_before)}.",
            rule="a rollout does not start before the time in its plan",
            who=RELEASE_MANAGER,
            next_step="wait until then",
        )
    if found.booked:
        yield Objection(
            what=found.booked,
            rule="only one release at a time changes an environment of a service",
            who="the requester of the release that holds the booking",
            next_step="trigger the release again when the environment is free",
        )
    yield from of_stops(found.stops)
    yield from of_freezes(found.freezes)


def _check_interventions(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    if found.unsigned:
        yield Objection(
            what=found.unsigned,
            rule="frozen plans and decisions are signed with the key of the installation",
            who="the owner of the ledger's database",
            next_step="have the change investigated, then trigger the release again",
        )
    for what in found.connections:
        yield Objection(
            what=what,
            rule="a release uses the connections with which its plan was frozen",
            who="the platform engineer (connections)",
            next_step="have the change investigated; restore the connection, or trigger the release again",
        )
    for what in found.hosts:
        yield Objection(
            what=what,
            rule="a release goes to the instances that the board decided on",
            who="the operators of the hosts",
            next_step="restore the instances and their tags, or trigger the release again",
        )
    for what in found.interventions:
        yield Objection(
            what=f"The release was changed manually: {_sentence(what)}",
            rule="a release is not marked, cleared, edited or deleted after its plan was frozen",
            who="the auditor, who can see the change in the audit log",
            next_step="trigger the release again",
        )
    yield from of_findings(found.findings)


def _check_installation(plan: RolloutPlan, found: Circumstances, now: datetime) -> Iterator[Objection]:
    return of_installation(found.installation)


def of_installation(faults: Sequence[Fault]) -> Iterator[Objection]:
    """Yield why no permit is given by an installation whose checks do not hold."""
    for fault in faults:
        yield Objection(
            what=f"The check of {fault.check} does not hold: {_sentence(fault.what)}",
            rule="a permit needs every check of interlock doctor that the proof of a release rests on",
            who="the platform engineer",
            next_step=f"{fault.fix}; run interlock doctor; then trigger the release again",
        )


_CHECKS = (
    _check_installation,
    _check_plan,
    _check_version,
    _check_board,
    _check_authorities,
    _check_quality,
    _check_quality_again,
    _check_environments,
    _check_migrations,
    _check_time,
    _check_interventions,
)


def _sentence(words: str) -> str:
    """Return words that others wrote with a full stop: several of them follow each other in a refusal."""
    return words if words.endswith(".") else f"{words}."
