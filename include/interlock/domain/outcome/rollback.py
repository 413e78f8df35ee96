"""Rollbacks: which releases an environment can go back to.

Without a board, an environment goes back only to bytes that it ran before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

from pydantic import Field, field_validator
from semver import Version

from interlock.domain.catalogue import Service
from interlock.domain.change.semver import OptionalVersion, is_version
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import BASELINE_SEEN
from interlock.domain.records import ReleasePlan, RolloutPlan, RunningRelease
from interlock.domain.trigger_form import Form, Incident, read_form

from .deployments import DeployedRelease, deployments
from .marks import describe_block
from .notes import escaped


class RollbackRequest(Form):
    """The form of a rollback."""

    version: OptionalVersion = Field(
        "",
        title="Back to version",
        description="A version that production ran before, such as 1.4.0. Leave empty to choose from a list under "
        "Required Actions.",
    )
    reason: str = Field(
        min_length=5,
        max_length=200,
        description="Why production is rolled back. It is sent to all audiences and recorded in the ledger.",
    )
    incident: Incident = ""

    @field_validator("reason", "incident")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be one line of text")
        return value


def parse_rollback(form: Mapping[str, Any]) -> RollbackRequest:
    """Read the form of a rollback; RequestRefused with every field that is wrong."""
    return read_form(RollbackRequest, form, "the rollback")


def refuse_unknown(version: str, entries: Sequence[Entry], service: str, environment: str) -> None:
    """Refuse at the API what cannot be rolled back to, by the installation's chain; the full proof comes later.

    :param entries: of the installation's chain: how releases ended, the marks, and what hosts ran before any release.
    :raises PolicyViolation: no release of the version was deployed, or it must not be rolled out.
    """
    deployed = _deployed(entries, service)
    why = describe_block(entries, service, environment, version)
    if not why and version not in deployed:
        why = _describe_baseline(version, environment, entries, service) or _describe_unknown(version, environment)
    if why:
        raise _refusal(service, version, why, earlier_versions(entries, service, environment))


def earlier_versions(entries: Sequence[Entry], service: str, environment: str) -> list[str]:
    """Return the versions that a service can roll back to as far as the installation's chain tells, newest first."""
    before = _deployed(entries, service)[1:]  # the last one is what runs
    return [one for one in before if not describe_block(entries, service, environment, one)]


def _deployed(entries: Sequence[Entry], service: str) -> list[str]:
    """Return each version that was deployed, the last one first."""
    return [*dict.fromkeys(str(told["version"]) for told in reversed(deployments(entries, service)))]


def find_candidates(
    deployed: Iterable[DeployedRelease], running: Sequence[RunningRelease], marks: Sequence[Entry], environment: str
) -> tuple[DeployedRelease, ...]:
    """Return the releases that an environment can roll back to, the most recent first, and one for each version.

    :param running: what its hosts run now.
    :param marks: of the installation's chain.
    """
    found: dict[str, DeployedRelease] = {}
    for one in sorted(deployed, key=lambda one: one.at, reverse=True):
        if one.environment == environment and one.version not in found and not _describe_no_way_back(one, running):
            found[one.version] = one
    return tuple(one for one in found.values() if not describe_block(marks, one.service, environment, one.version))


def choose_release(
    version: str,
    deployed: Sequence[DeployedRelease],
    running: Sequence[RunningRelease],
    marks: Sequence[Entry],
    environment: str,
    service: str,
) -> DeployedRelease:
    """Return the release of a version.

    :raises PolicyViolation: the environment never ran it, it is marked bad, or it is not an earlier version.
    """
    may = find_candidates(deployed, running, marks, environment)
    chosen = next((one for one in may if one.version == version), None)
    if chosen is not None:
        return chosen
    known = [one for one in deployed if one.version == version and one.environment == environment]
    why = _describe_no_way_back(known[-1], running) if known else _describe_unknown(version, environment)
    why = describe_block(marks, service, environment, version) or why
    raise _refusal(service, version, why, [one.version for one in may])


def _describe_unknown(version: str, environment: str) -> str:
    return f"according to the ledger, {environment} never ran {version}"


def _describe_baseline(version: str, environment: str, entries: Iterable[Entry], service: str) -> str:
    """Say that hosts ran a version before any release of it; empty: by the ledger none did."""
    seen = [
        one
        for one in entries
        if one.kind == BASELINE_SEEN
        and (one.payload["service"], one.payload["environment"]) == (service, environment)
        and str(one.payload["release"] or "").rpartition("-")[0] == version
    ]
    if not seen:
        return ""
    hosts = f"{len(seen)} {'host' if len(seen) == 1 else 'hosts'}"
    return (
        f"{hosts} of {environment} ran {version} when Interlock first looked ({seen[0].at:%Y-%m-%d}), but no release "
        "brought it there: its artifact, quality report and acceptance are not on record"
    )


def _refusal(service: str, version: str, why: str, may: Sequence[str]) -> PolicyViolation:
    return PolicyViolation(
        f"{service} cannot roll back to {version}: {why.rstrip('.')}.",
        rule="a rollback returns to a release that the ledger has as deployed there and not as marked bad",
        who="the release manager",
        next_step=f"choose one of {', '.join(may)}"
        if may
        else "no earlier version is available; release a version as a normal or an emergency change",
    )


def _describe_no_way_back(release: DeployedRelease, running: Sequence[RunningRelease]) -> str:
    """Say why going to a release would be no way back; empty: it would."""
    if running and all(host.release == release.release for host in running):
        return f"every host already runs {release.version}"
    versions = [Version.parse(host.version) for host in running if host.version and is_version(host.version)]
    if versions and Version.parse(release.version) > max(versions):
        return f"{release.version} is later than the running version {max(versions)}"
    return ""


def is_proven(plan: RolloutPlan, found: DeployedRelease | None) -> bool:
    """Tell whether a plan rolls back to exactly what was deployed there before.

    :param found: what the chain that the plan names says was deployed; none: it proves nothing.
    """
    back = plan.rolls_back
    if found is None or back is None:
        return False
    return (found.chain, found.closed) == (back.chain, back.closed) and (
        (found.service, found.environment, found.version, found.rollout.bundle.sha256)
        == (plan.service, plan.environment, plan.version, plan.bundle.sha256)
    )


def limit_checks(service: Service, release: DeployedRelease, expected: Mapping[tuple[str, str], Any]) -> Service:
    """Return a service that is asked only what a release answered when it was deployed: later pages it does not have.

    :param expected: path and expectation: the smoke request.
    """
    smoke = tuple(check for key, check in expected.items() if key in release.smoked)
    paths = tuple(path for path in service.load.paths if path in release.loaded)
    load = service.load.model_copy(update={"paths": paths}) if paths else service.load
    return service.model_copy(update={"smoke": smoke or service.smoke, "load": load})


def rollback_notes(service: Service, plan: ReleasePlan, release: DeployedRelease) -> str:
    """Return the notes of a rollback, as Markdown."""
    return "\n\n".join(
        [
            f"# {escaped(service.title)} is rolled back to {escaped(plan.version)}",
            escaped(plan.summary),
            f"The changes of {escaped(plan.previous_version or 'the current version')} are removed for now. "
            f"{escaped(plan.version)} was in {plan.target} before: it was deployed on "
            f"{release.at.astimezone(UTC):%Y-%m-%d}.",
            f"## Contact\n\n{escaped(service.owner)}; the rollback was requested by {escaped(plan.requested_by)}.",
            "",
        ]
    )


def describe_candidate(release: DeployedRelease) -> str:
    """Return how a release is offered to people: its version, and when it was deployed."""
    return f"{release.version} · deployed {release.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
