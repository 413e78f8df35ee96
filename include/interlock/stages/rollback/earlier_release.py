"""Stages 3 to 6 of a rollback: they take over what the earlier release left in the ledger.

Nothing is built or reviewed again. If a record of the earlier release is missing or does not hold, the rollback is
refused.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import XComArg

from interlock.domain.catalogue import Service
from interlock.domain.errors import DigestMismatch, GateRejected, PolicyViolation
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    ARTIFACT_BUILT,
    ASSETS_CHECKED,
    QUALITY_JUDGED,
    QUALITY_WAIVED,
    ROLLBACK_PROVEN,
)
from interlock.domain.outcome.deployments import DeployedRelease
from interlock.domain.records import Artifact, AssetReport, Decision, QualityReport, ReleasePlan, Waiver
from interlock.stages.release.acceptance import acceptance_digest
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.taskflow import stage_group, stage_task
from interlock.stages.runtime.versions import deployed_release
from interlock.stages.strategies import fleets


def read_earlier_release() -> DeployedRelease:
    """Return the release to roll back to. It is read from its own chain and verified each time."""
    proofs = [entry for entry in chain_entries() if entry.kind == ROLLBACK_PROVEN]
    release = deployed_release(proofs[-1].payload["chain"]) if proofs else None
    if release is not None and release.closed in {entry["hash"] for entry in proofs[-1].payload["entries"]}:
        return release
    raise PolicyViolation(
        "The ledger does not show the release to roll back to as deployed, or its record is not intact.",
        rule="a rollback returns to a release that the environment ran before, according to the ledger",
        who="the release manager",
        next_step="release that version as a normal or an emergency change",
    )


@stage_task(task_display_name="Check hosts and load balancer", evidence=ASSETS_CHECKED)
def check_targets(service: str, plan: ReleasePlan) -> AssetReport:
    """Check that the hosts and the load balancer of the catalogue exist, and start stopped hosts.

    A rollback needs neither a build tool nor the test environment.
    """
    _, _, described = resources.catalogue_of(service)
    return fleets.ready(service, plan.target, described.environments[plan.target])


@stage_group("design", "check the hosts to roll back")
def design_stage(service: Service, plan: XComArg) -> XComArg:
    """Check the assets."""
    return check_targets(service.name, plan)


@stage_task(task_display_name="Reuse the released artifact", evidence=ARTIFACT_BUILT)
def take_artifact(service: str, plan: ReleasePlan) -> Artifact:
    """Reuse the artifact of the earlier release. Its content in the artifact store is checked against its digest."""
    release = read_earlier_release()
    if (release.service, release.version) != (service, plan.version):
        raise PolicyViolation(
            f"The record in the ledger is for {release.service} {release.version}, not for {service} {plan.version}."
        )
    resources.store().get_bytes(release.artifact.bundle)  # the bytes are there, and are those that were recorded
    return release.artifact


@stage_group("build", "reuse the released artifact; nothing is built")
def build_stage(service: Service, plan: XComArg) -> XComArg:
    """Reuse the artifact."""
    return take_artifact(service.name, plan)


@stage_task(task_display_name="Reuse the quality report", evidence=QUALITY_JUDGED)
def take_report(artifact: Artifact) -> QualityReport:
    """Reuse the quality report of the earlier release."""
    release = read_earlier_release()
    if release.artifact != artifact:
        raise DigestMismatch(
            "The quality report in the ledger belongs to another artifact than the one to roll back to."
        )
    return release.quality


@stage_task(task_display_name="Reuse the waivers")
def take_waivers(report: QualityReport) -> list[Waiver]:
    """Reuse the waivers of the earlier release that have not expired.

    :raises PolicyViolation: a waiver has expired, so its failed expectation counts again.
    """
    now = datetime.now(UTC)
    release = read_earlier_release()
    holding = [one for one in release.waivers if one.at <= now < one.until]
    bare = [failure for failure in report.failures if not any(one.covers(failure, now) for one in holding)]
    if bare:
        names = "; ".join(f"{failure.suite}: {failure.expected}" for failure in bare)
        raise PolicyViolation(
            f"{release.version} was deployed with waivers that have expired: {names}.",
            rule="a failed expectation needs a waiver in force, also in a rollback",
            who="the people whom policy.yaml names for waivers",
            next_step=f"release {release.version} as an emergency change, and request new waivers",
        )
    for waiver in holding:
        record(QUALITY_WAIVED, waiver, actor=waiver.by, seal=True)
    return holding


@stage_group("quality", "reuse the quality report and the waivers in force")
def quality_stage(artifact: XComArg) -> tuple[XComArg, XComArg]:
    """Reuse the quality report and the waivers."""
    report = take_report(artifact)
    return report, take_waivers(report)


@stage_task(task_display_name="Reuse the acceptance", evidence=ACCEPTANCE_DECIDED, seal=True)
def take_acceptance(artifact: Artifact, report: QualityReport) -> Decision:
    """Reuse the acceptance of the earlier release, for the same artifact and the same quality report."""
    release = read_earlier_release()
    digest = acceptance_digest(artifact, report, release.rollout.environments or ())
    if release.acceptance.digest != digest:
        raise GateRejected("The acceptance in the ledger is for another artifact or another quality report.")
    said = release.acceptance.reason.rstrip(".")
    why = f"Reused from the earlier release {release.chain}: {said}. A rollback needs no new acceptance."
    return Decision(subject="acceptance", digest=digest, approved=True, required=False, reason=why)


@stage_group("acceptance", "reuse the acceptance of the earlier release")
def acceptance_stage(artifact: XComArg, report: XComArg) -> XComArg:
    """Reuse the acceptance."""
    return take_acceptance(artifact, report)
