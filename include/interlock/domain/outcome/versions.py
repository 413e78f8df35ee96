"""What the ledger knows of versions: which releases an environment ran, which versions are marked bad or pinned.

An environment goes back without a board only to bytes that it ran before: to a release whose chain says that it was
deployed there, and ended well. Who marks a version bad keeps it out of an environment; who pins one keeps out all
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError, field_validator
from semver import Version

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue import Service
from interlock.domain.change.semver import is_version
from interlock.domain.errors import PolicyViolation, RequestRefused
from interlock.domain.ledger.chain import ENDED, Entry
from interlock.domain.permits.permit import Permit
from interlock.domain.records import (
    Artifact,
    Commit,
    Decision,
    LoadReport,
    Outcome,
    QualityReport,
    Record,
    ReleasePlan,
    RolloutPlan,
    RunningRelease,
    SmokeReport,
    Waiver,
)

from .notes import escaped

BAD, GOOD, PINNED, UNPINNED = "version.marked_bad", "version.marked_good", "version.pinned", "version.unpinned"
MARKS = "version.*"
"""The kinds of entries about versions in the installation's chain."""
_KINDS = {"bad": BAD, "good": GOOD, "pin": PINNED, "unpin": UNPINNED}
_RULE = "a version that is marked bad is not rolled out, and where one is pinned no other is"
_WHO = "the release manager, with the Dag mark_version"

R = TypeVar("R", bound=Record)


# --- marks -----------------------------------------------------------------------------------------------------------


class Mark(Model):
    """What somebody says of a version in an environment."""

    service: str
    environment: str
    version: str
    verdict: Literal["bad", "good", "pin", "unpin"]
    reason: str = Field(min_length=5, max_length=1000)
    by: str

    @field_validator("reason", mode="before")
    @classmethod
    def _stripped(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    @field_validator("version")
    @classmethod
    def _is_a_version(cls, value: str) -> str:
        if not is_version(value):
            raise ValueError("not a semantic version, such as 1.4.0")
        return value

    @property
    def kind(self) -> str:
        """The kind of the entry that it becomes."""
        return _KINDS[self.verdict]


def parse_mark(form: Mapping[str, Any], by: str, places: Mapping[str, Sequence[str]]) -> Mark:
    """Read the form of ``mark_version``; RequestRefused with every field that is wrong.

    :param by: user name of who marks.
    :param places: each service, and its environments.
    """
    fields = ("service", "environment", "version", "verdict", "reason")
    try:
        mark = Mark.model_validate({**{name: form[name] for name in fields if name in form}, "by": by})
    except ValidationError as error:
        wrong = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_input=False))
        raise RequestRefused(f"This says nothing of a version: {wrong}.", next_step="correct the form") from error
    if mark.environment not in places.get(mark.service, ()):
        known = ", ".join(f"{name} ({', '.join(places[name])})" for name in sorted(places)) or "no service"
        raise RequestRefused(
            f"There is no {mark.environment} of {mark.service}; there is {known}.", next_step="correct the form"
        )
    return mark


def why_not(entries: Iterable[Entry], service: str, environment: str, version: str) -> str:
    """Return, in words, why a version must not be rolled out to an environment; empty: it may.

    :param entries: of the installation's chain; what was said last holds.
    """
    said: dict[str, Entry] = {}
    for entry in entries:
        about = entry.payload
        if (about.get("service"), about.get("environment")) != (service, environment):
            continue
        if entry.kind in (PINNED, UNPINNED):
            said["pin"] = entry
        elif entry.kind in (BAD, GOOD) and _same(str(about.get("version")), version):
            said["mark"] = entry
    reasons = []
    if (mark := said.get("mark")) and mark.kind == BAD:
        reasons.append(f"{version} of {service} is marked bad in {environment} {_by(mark)}")
    if (pin := said.get("pin")) and pin.kind == PINNED and not _same(str(pin.payload["version"]), version):
        reasons.append(f"{environment} of {service} is pinned to {pin.payload['version']} {_by(pin)}")
    return " ".join(reasons)


def refuse_marked(entries: Iterable[Entry], service: str, environment: str, version: str) -> None:
    """Raise a PolicyViolation if a version must not be rolled out to an environment."""
    if reason := why_not(entries, service, environment, version):
        raise PolicyViolation(reason, rule=_RULE, who=_WHO, next_step="take another version, or have the mark lifted")


def _by(entry: Entry) -> str:
    return f"by {entry.payload['by']} on {entry.at:%Y-%m-%d}: {str(entry.payload['reason']).rstrip('.')}."


def _same(one: str, other: str) -> bool:
    """Say whether two versions are one; build metadata does not count, as semver.org has it."""
    if not (is_version(one) and is_version(other)):
        return one == other
    return Version.parse(one).compare(Version.parse(other)) == 0


# --- what was deployed -----------------------------------------------------------------------------------------------


def deployments(entries: Iterable[Entry], service: str) -> list[dict[str, Any]]:
    """Return what the installation's chain says of each release of a service that was deployed; the oldest first."""
    return [
        one.payload
        for one in entries
        if one.kind == ENDED and (one.payload["service"], one.payload["outcome"]) == (service, "deployed")
    ]


class DeployedRelease(Model):
    """A release that an environment ran, as its chain in the ledger has it; all that rolling back to it needs."""

    chain: str
    closed: Sha256 = Field(description="Hash of the entry that closed it: it holds the whole chain before it")
    at: AwareDatetime = Field(description="When it was closed")
    plan: ReleasePlan
    rollout: RolloutPlan
    artifact: Artifact
    quality: QualityReport
    waivers: tuple[Waiver, ...]
    acceptance: Decision
    smoked: tuple[tuple[str, str], ...] = Field(description="Path and expectation of what every host answered")
    loaded: tuple[str, ...] = Field(description="The paths that were measured")

    @property
    def service(self) -> str:
        """The service."""
        return self.rollout.service

    @property
    def environment(self) -> str:
        """The environment that ran it."""
        return self.rollout.environment

    @property
    def version(self) -> str:
        """The version."""
        return self.rollout.version

    @property
    def release(self) -> str:
        """Its name on a host."""
        return self.rollout.release

    @property
    def commit(self) -> Commit:
        """What it was built from."""
        return self.plan.commit


def deployed_release(entries: Sequence[Entry], permits: Iterable[Permit]) -> DeployedRelease | None:
    """Read from the chain of a release what was deployed; None if it was not, or if a record of it is missing.

    Every record has to be the one that the frozen plan names; the board approved it; and each wave had a permit, which
    only the installation's key can sign: whoever may write to the ledger makes no release deployed.

    :param entries: the whole chain, proven.
    :param permits: those in it that the installation signed.
    """
    outcome, rollout = _last(entries, "release.closed", Outcome), _last(entries, "rollout.frozen", RolloutPlan)
    if outcome is None or rollout is None or outcome.outcome != "deployed" or rollout.rehearsal:
        return None
    if not _went_by_the_book(entries, rollout, permits):
        return None
    plan, artifact = _last(entries, "plan.made", ReleasePlan), _last(entries, "artifact.built", Artifact)
    quality, acceptance = (
        _last(entries, "quality.judged", QualityReport),
        _last(entries, "acceptance.decided", Decision),
    )
    if plan is None or artifact is None or quality is None or acceptance is None:
        return None
    same = (
        (outcome.service, outcome.version) == (rollout.service, rollout.version) == (artifact.service, artifact.version)
        and artifact.bundle.sha256 == rollout.bundle.sha256
        and sha256_of(quality) == rollout.quality_digest
        and acceptance.digest == rollout.acceptance_digest
        and acceptance.approved
    )
    if not same:
        return None
    smoke, load = _last(entries, "hosts.smoked", SmokeReport), _last(entries, "load.measured", LoadReport)
    closed = next(entry for entry in reversed(entries) if entry.kind == "release.closed")
    failed = {(one.path, one.expected) for one in smoke.results if not one.passed} if smoke else set()
    return DeployedRelease(
        chain=closed.chain,
        closed=closed.hash,
        at=closed.at,
        plan=plan,
        rollout=rollout,
        artifact=artifact,
        quality=quality,
        waivers=tuple(_read(Waiver, entry) for entry in entries if entry.kind == "quality.waived"),
        acceptance=acceptance,
        smoked=tuple(sorted({(one.path, one.expected) for one in smoke.results} - failed)) if smoke else (),
        loaded=tuple(dict.fromkeys(one.path for one in load.results)) if load else (),
    )


def _went_by_the_book(entries: Sequence[Entry], rollout: RolloutPlan, permits: Iterable[Permit]) -> bool:
    closed = [entry for entry in entries if entry.kind == "release.closed"]
    board = _last(entries, "board.decided", Decision)
    waves = {one.wave for one in permits if (one.purpose, one.plan) == ("deploy", rollout.digest)}
    return (
        len(closed) == 1
        and board is not None
        and (board.approved, board.digest) == (True, rollout.digest)
        and waves >= set(range(1, len(rollout.waves) + 1))
    )


def _last(entries: Sequence[Entry], kind: str, model: type[R]) -> R | None:
    found = next((entry for entry in reversed(entries) if entry.kind == kind), None)
    return None if found is None else _read(model, found)


def _read(model: type[R], entry: Entry) -> R:
    """Read a record of a payload that may say more than the record."""
    return model.model_validate(entry.payload, extra="ignore")


# --- going back ------------------------------------------------------------------------------------------------------


class RollbackRequest(Model):
    """What somebody asks for at the form of a rollback."""

    version: str = Field("", description="Empty: whoever asked is shown what there is")
    reason: str = Field(min_length=5, max_length=200)
    incident: str = Field("", max_length=100)

    @field_validator("version", "reason", "incident", mode="before")
    @classmethod
    def _stripped(cls, value: Any) -> Any:
        return "" if value is None else value.strip() if isinstance(value, str) else value

    @field_validator("version")
    @classmethod
    def _is_a_version_or_nothing(cls, value: str) -> str:
        if value and not is_version(value):
            raise ValueError("not a semantic version, such as 1.4.0")
        return value

    @field_validator("reason", "incident")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("not one line of text")
        return value


def parse_rollback(form: Mapping[str, Any]) -> RollbackRequest:
    """Read the form of a rollback; RequestRefused with every field that is wrong."""
    try:
        return RollbackRequest.model_validate(dict(form))
    except ValidationError as error:
        wrong = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_input=False))
        raise RequestRefused(
            f"This rollback cannot be asked for: {wrong}.",
            rule="the fields of the form",
            who="the release manager",
            next_step="correct these fields and trigger it again",
        ) from None


def refuse_unknown(version: str, entries: Sequence[Entry], service: str, environment: str) -> None:
    """Refuse at the door what no rollback goes to, as far as the installation's chain tells: the proof comes later.

    :param entries: of the installation's chain: how releases ended, and the marks.
    :raises PolicyViolation: no release of the version was deployed, or it must not be rolled out.
    """
    deployed = dict.fromkeys(str(told["version"]) for told in reversed(deployments(entries, service)))
    why = why_not(entries, service, environment, version)
    if not why and version not in deployed:
        why = _never_ran(version, environment)
    if why:
        before = [*deployed][1:]  # the last one is what runs
        may = [one for one in before if not why_not(entries, service, environment, one)]
        raise _no_way_back(service, version, why, may)


def offers(
    deployed: Iterable[DeployedRelease], running: Sequence[RunningRelease], marks: Sequence[Entry], environment: str
) -> tuple[DeployedRelease, ...]:
    """Return the releases that an environment may go back to, the one that it ran last first; of each version one.

    :param running: what its hosts run now.
    :param marks: of the installation's chain.
    """
    found: dict[str, DeployedRelease] = {}
    for one in sorted(deployed, key=lambda one: one.at, reverse=True):
        if one.environment == environment and one.version not in found and not _not_back(one, running):
            found[one.version] = one
    return tuple(one for one in found.values() if not why_not(marks, one.service, environment, one.version))


def choose(
    version: str,
    deployed: Sequence[DeployedRelease],
    running: Sequence[RunningRelease],
    marks: Sequence[Entry],
    environment: str,
    service: str,
) -> DeployedRelease:
    """Return the release that a version stands for.

    :raises PolicyViolation: the environment never ran it by the ledger, it is marked bad, or it is no way back.
    """
    may = offers(deployed, running, marks, environment)
    chosen = next((one for one in may if one.version == version), None)
    if chosen is not None:
        return chosen
    known = [one for one in deployed if one.version == version and one.environment == environment]
    why = _not_back(known[-1], running) if known else _never_ran(version, environment)
    why = why_not(marks, service, environment, version) or why
    raise _no_way_back(service, version, why, [one.version for one in may])


def _never_ran(version: str, environment: str) -> str:
    return f"{environment} never ran {version} by the ledger"


def _no_way_back(service: str, version: str, why: str, may: Sequence[str]) -> PolicyViolation:
    return PolicyViolation(
        f"{service} does not go back to {version}: {why.rstrip('.')}.",
        rule="an environment goes back only to what it ran before, by the ledger, and what is not marked bad",
        who="the release manager",
        next_step=f"take one of {', '.join(may)}"
        if may
        else "there is no version to go back to; release one as a normal or an emergency change",
    )


def _not_back(release: DeployedRelease, running: Sequence[RunningRelease]) -> str:
    """Say why going to a release would be no way back; empty: it would."""
    if running and all(host.release == release.release for host in running):
        return f"every host runs {release.version} already"
    versions = [Version.parse(host.version) for host in running if host.version and is_version(host.version)]
    if versions and Version.parse(release.version) > max(versions):
        return f"{release.version} is later than {max(versions)}, which runs"
    return ""


def is_proven(plan: RolloutPlan, found: DeployedRelease | None) -> bool:
    """Say whether a plan goes back to exactly what was deployed there before.

    :param found: what the chain that the plan names says was deployed; none: it proves nothing.
    """
    back = plan.rolls_back
    if found is None or back is None:
        return False
    return (found.chain, found.closed) == (back.chain, back.closed) and (
        (found.service, found.environment, found.version, found.rollout.bundle.sha256)
        == (plan.service, plan.environment, plan.version, plan.bundle.sha256)
    )


def as_it_was(service: Service, release: DeployedRelease, expected: Mapping[tuple[str, str], Any]) -> Service:
    """Return a service that is asked only what a release answered when it was deployed: later pages it does not have.

    :param expected: path and expectation: the smoke request.
    """
    smoke = tuple(check for key, check in expected.items() if key in release.smoked)
    paths = tuple(path for path in service.load.paths if path in release.loaded)
    load = service.load.model_copy(update={"paths": paths}) if paths else service.load
    return service.model_copy(update={"smoke": smoke or service.smoke, "load": load})


def rollback_notes(service: Service, plan: ReleasePlan, release: DeployedRelease) -> str:
    """Return what people are told of a rollback, as Markdown."""
    return "\n\n".join(
        [
            f"# {escaped(service.title)} goes back to {escaped(plan.version)}",
            escaped(plan.summary),
            f"What {escaped(plan.previous_version or 'runs now')} brought is gone until it is released anew. "
            f"{escaped(plan.version)} was in {plan.target} before: it was deployed on "
            f"{release.at.astimezone(UTC):%Y-%m-%d}.",
            f"## Whom to ask\n\n{escaped(service.owner)}; the rollback was asked for by {escaped(plan.requested_by)}.",
            "",
        ]
    )


def offer_line(release: DeployedRelease) -> str:
    """Return how a release is offered to people: its version, and when it was deployed."""
    return f"{release.version} · deployed {release.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def touched_since(used: Iterable[Entry], plan: RolloutPlan, since: datetime) -> str:
    """Say which other release changed hosts of a plan since then; empty: none did.

    :param used: the permits that other releases used.
    """
    hosts = {host.address for host in plan.hosts}
    for entry in used:
        permit = entry.payload.get("permit", {})
        changes = (
            permit.get("purpose") in ("deploy", "back_out", "return") and permit.get("environment") == plan.environment
        )
        if changes and entry.at > since and hosts & set(permit.get("hosts", ())):
            return f"{entry.chain} changed hosts of {plan.environment} at {entry.at:%Y-%m-%d %H:%M:%S} UTC."
    return ""
