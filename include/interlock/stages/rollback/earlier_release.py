"""Stages 3 to 6 of a rollback: they take over what the earlier release left in the ledger.

Nothing is built or reviewed again. If a record of the earlier release is missing or does not hold, the rollback is
refused.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import XComArg, task_group

from interlock.domain.catalogue import Service
from interlock.domain.errors import DigestMismatch, GateRejected, PolicyViolation
from interlock.domain.outcome.deployments import DeployedRelease
from interlock.domain.records import Artifact, AssetReport, Decision, QualityReport, ReleasePlan, Waiver
from interlock.stages.release.acceptance import acceptance_digest
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.taskflow import stage_task
from interlock.stages.runtime.versions import deployed_release
from interlock.stages.strategies import fleets

PROVEN = "rollback.proven"
"""The entry with what proves that the release was there before, in the entries of its own chain."""


def read_earlier_release() -> DeployedRelease:
    """Return the release that this rollback goes back to: read from its own chain again, and proven again."""
    proofs = [entry for entry in chain_entries() if entry.kind == PROVEN]
    release = deployed_release(proofs[-1].payload["chain"]) if proofs else None
    if release is not None and release.closed in {entry["hash"] for entry in proofs[-1].payload["entries"]}:
        return release
    raise PolicyViolation(
        "The release to go back to is not on record as deployed, or its record does not hold.",
        rule="an environment goes back only to what it ran before, by the ledger",
        who="the release manager",
        next_step="release that version as a normal or an emergency change",
    )


@stage_task(task_display_name="Check hosts and load balancer", evidence="assets.checked")
def check_targets(service: str, plan: ReleasePlan) -> AssetReport:
    """Compare the hosts and the load balancer with what there is; start hosts that are stopped.

    A rollback needs neither a build tool nor the test environment.
    """
    _, _, described = resources.catalogue_of(service)
    return fleets.ready(service, plan.target, described.environments[plan.target])


@task_group(
    group_id="design",
    group_display_name="3 Hardware and software design",
    tooltip="Hardware and software design: the hosts that go back",
)
def design_stage(service: Service, plan: XComArg) -> XComArg:
    """Check the assets."""
    return check_targets(service.name, plan)


@stage_task(task_display_name="Take the bytes of then", evidence="artifact.built")
def take_artifact(service: str, plan: ReleasePlan) -> Artifact:
    """Take the artifact that the earlier release built, by its record; the bytes in the store are read and checked."""
    release = read_earlier_release()
    if (release.service, release.version) != (service, plan.version):
        raise PolicyViolation(f"The record is of {release.service} {release.version}, not of {service} {plan.version}.")
    resources.store().get_bytes(release.artifact.bundle)  # the bytes are there, and are those that were recorded
    return release.artifact


@task_group(
    group_id="build",
    group_display_name="4 Build and configure",
    tooltip="Build and configure: nothing is built, the bytes of then are taken",
)
def build_stage(service: Service, plan: XComArg) -> XComArg:
    """Take the artifact."""
    return take_artifact(service.name, plan)


@stage_task(task_display_name="Take the quality report of then", evidence="quality.judged")
def take_report(artifact: Artifact) -> QualityReport:
    """Take the quality report by which the earlier release was judged."""
    release = read_earlier_release()
    if release.artifact != artifact:
        raise DigestMismatch("The quality report on record is of other bytes than those to go back to.")
    return release.quality


@stage_task(task_display_name="Take the waivers of then")
def take_waivers(report: QualityReport) -> list[Waiver]:
    """Take the waivers that the earlier release had and that still hold.

    :raises PolicyViolation: one is over: what failed then fails again, and somebody has to answer for it.
    """
    now = datetime.now(UTC)
    release = read_earlier_release()
    holding = [one for one in release.waivers if one.at <= now < one.until]
    bare = [failure for failure in report.failures if not any(one.covers(failure, now) for one in holding)]
    if bare:
        names = "; ".join(f"{failure.suite}: {failure.expected}" for failure in bare)
        raise PolicyViolation(
            f"{release.version} was deployed with waivers, and these are over: {names}.",
            rule="a failed expectation counts unless a waiver holds, after a rollback, too",
            who="those whom the policy names for waivers",
            next_step=f"release {release.version} as an emergency change, and have it waived anew",
        )
    for waiver in holding:
        record("quality.waived", waiver, actor=waiver.by, seal=True)
    return holding


@task_group(
    group_id="quality",
    group_display_name="5 Quality review",
    tooltip="Quality review: the report of then, and the waivers that still hold",
)
def quality_stage(artifact: XComArg) -> tuple[XComArg, XComArg]:
    """Take report and waivers."""
    report = take_report(artifact)
    return report, take_waivers(report)


@stage_task(task_display_name="Take the acceptance of then", evidence="acceptance.decided", seal=True)
def take_acceptance(artifact: Artifact, report: QualityReport) -> Decision:
    """Take over that the earlier release was accepted: exactly these bytes, with exactly this report."""
    release = read_earlier_release()
    digest = acceptance_digest(artifact, report)
    if release.acceptance.digest != digest:
        raise GateRejected("What was accepted then is not this artifact with this quality report.")
    said = release.acceptance.reason.rstrip(".")
    why = f"It was decided when this was released, in {release.chain}: {said}. A rollback asks nobody again."
    return Decision(subject="acceptance", digest=digest, approved=True, required=False, reason=why)


@task_group(
    group_id="acceptance",
    group_display_name="6 Release accepted",
    tooltip="Release accepted: as it was when it was released",
)
def acceptance_stage(artifact: XComArg, report: XComArg) -> XComArg:
    """Take the acceptance."""
    return take_acceptance(artifact, report)
