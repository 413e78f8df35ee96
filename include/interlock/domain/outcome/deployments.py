"""Which releases an environment ran, by the ledger.

A release counts only if its chain says that it was approved, deployed there and closed as a success.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    ARTIFACT_BUILT,
    BOARD_DECIDED,
    HOSTS_SMOKED,
    LOAD_MEASURED,
    PATH_PASSED,
    PLAN_MADE,
    QUALITY_JUDGED,
    QUALITY_WAIVED,
    RELEASE_CLOSED,
    RELEASE_ENDED,
)
from interlock.domain.ledger.reading import all_in, last_in, last_of_each, plan_in
from interlock.domain.permits.permit import Permit
from interlock.domain.records import (
    Artifact,
    Commit,
    Decision,
    EnvironmentPassed,
    LoadReport,
    Outcome,
    QualityReport,
    ReleasePlan,
    RolloutPlan,
    SmokeReport,
    Waiver,
)


def deployments(entries: Iterable[Entry], service: str) -> list[dict[str, Any]]:
    """Return the deployed releases of a service by the installation's chain; the oldest first."""
    return [
        one.payload
        for one in entries
        if one.kind == RELEASE_ENDED and (one.payload["service"], one.payload["outcome"]) == (service, "deployed")
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

    Each record must be the one that the frozen plan names, the board must have approved it, and each wave needs a
    permit, which only the installation's key can sign. Write access to the ledger is not enough to fake a deployment.

    :param entries: the whole chain, proven.
    :param permits: those in it that the installation signed.
    """
    outcome, rollout = (
        last_in(entries, RELEASE_CLOSED, Outcome),
        plan_in(entries),
    )
    if outcome is None or rollout is None or outcome.outcome != "deployed" or rollout.rehearsal:
        return None
    if not _is_approved_and_complete(entries, rollout, permits):
        return None
    plan, artifact = last_in(entries, PLAN_MADE, ReleasePlan), last_in(entries, ARTIFACT_BUILT, Artifact)
    quality = last_in(entries, QUALITY_JUDGED, QualityReport)
    acceptance = last_in(entries, ACCEPTANCE_DECIDED, Decision)
    passed = last_of_each(entries, PATH_PASSED, EnvironmentPassed)
    if plan is None or artifact is None or quality is None or acceptance is None:
        return None
    same = (
        (outcome.service, outcome.version) == (rollout.service, rollout.version) == (artifact.service, artifact.version)
        and artifact.bundle.sha256 == rollout.bundle.sha256
        and sha256_of(quality) == rollout.quality_digest
        and acceptance.digest == rollout.acceptance_digest
        and acceptance.approved
        and all(passed.get(one.environment) == one for one in rollout.environments or ())
    )
    if not same:
        return None
    smoke, load = last_in(entries, HOSTS_SMOKED, SmokeReport), last_in(entries, LOAD_MEASURED, LoadReport)
    closed = next(entry for entry in reversed(entries) if entry.kind == RELEASE_CLOSED)
    failed = {(one.path, one.expected) for one in smoke.results if not one.passed} if smoke else set()
    return DeployedRelease(
        chain=closed.chain,
        closed=closed.hash,
        at=closed.at,
        plan=plan,
        rollout=rollout,
        artifact=artifact,
        quality=quality,
        waivers=tuple(all_in(entries, QUALITY_WAIVED, Waiver)),
        acceptance=acceptance,
        smoked=tuple(sorted({(one.path, one.expected) for one in smoke.results} - failed)) if smoke else (),
        loaded=tuple(dict.fromkeys(one.path for one in load.results)) if load else (),
    )


def _is_approved_and_complete(entries: Sequence[Entry], rollout: RolloutPlan, permits: Iterable[Permit]) -> bool:
    closed = [entry for entry in entries if entry.kind == RELEASE_CLOSED]
    board = last_in(entries, BOARD_DECIDED, Decision)
    waves = {one.wave for one in permits if (one.purpose, one.plan) == ("deploy", rollout.digest)}
    return (
        len(closed) == 1
        and board is not None
        and (board.approved, board.digest) == (True, rollout.digest)
        and waves >= set(range(1, len(rollout.waves) + 1))
    )


def describe_overtaking(used: Iterable[Entry], plan: RolloutPlan, since: datetime) -> str:
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
