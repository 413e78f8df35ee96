"""One release Dag per service of the catalogue: ``release_<service>``.

Composition only: which stages, in which order. What a stage does is in ``include/interlock/stages/``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, chain

from interlock.console.auth.roles import RELEASED_BY, dag_access
from interlock.domain.board.voting import longest_deadline
from interlock.domain.catalogue import BoardBook, Policy, Service, ServiceCatalogue
from interlock.domain.change.effective import marks_of
from interlock.domain.change.request import form_fields
from interlock.domain.dag_names import RELEASES, dag_of_release
from interlock.stages.approvals.await_authorities import asks_authorities
from interlock.stages.release.acceptance import acceptance_stage
from interlock.stages.release.build import build_stage
from interlock.stages.release.closure import closure_stage
from interlock.stages.release.communication import communication_stage
from interlock.stages.release.design import design_stage
from interlock.stages.release.implementation import implementation_stage
from interlock.stages.release.planning import planning_stage
from interlock.stages.release.policy import policy_stage
from interlock.stages.release.quality import quality_stage
from interlock.stages.release.rollout import rollout_stage
from interlock.stages.release.verification import verification_stage
from interlock.stages.runtime.requests import form_params
from interlock.stages.runtime.taskflow import DEFAULT_ARGS, service_dags

DOC = """
# Release {title}

{description}

## What it does

Releases one commit of {title} to production, through the ten stages of the release process:

1. **Release policy**: resolves the rules that apply to this release.
2. **Release planning**: lists the changes and assesses the risk. Senior management approves major and risky plans.
3. **Hardware and software design**: checks that the required hosts and tools are available.
4. **Build and configure**: builds, tests and signs one bundle from the pinned commit.
5. **Quality review**: deploys to the test environment and compares the results with the thresholds of the policy.
   Then the release passes each environment that the service has between test and production.
6. **Release accepted**: the functional approver validates the release on the test environment.
7. **Rollout plan and CAB**: freezes hosts, waves and back-out plan. The board votes on this frozen plan.
8. **Communicate and train**: sends release notes and announcements. Support acknowledges the training.
9. **Implement release**: deploys to production in waves.
10. **Verify implementation**: compares production with the state before the release, and backs out on failure.

The closure always records the outcome.

## When it runs

A release manager triggers it. Each service has one active release at a time; further releases wait in the queue, unless
the policy lets their change type overtake others.

## Parameters

- **Ref**: the tag, branch or commit to release.
- **Version**: the version number of the release (semantic versioning).
- **Change type**: standard, normal or emergency. It determines which approvals are required.
- **Summary**, **tickets** and the **risk questions**: information for the approvers.
- **Not before**: the earliest start of the deployment to production.
- **Rehearsal**: runs the whole release on the test environment only. No approvals are requested, no announcements are
  sent, and production does not change.

## What it asks people

Questions appear under *Required Actions*. No answer in time counts as a rejection.

- Senior management: approve the plan of a major or risky release.
- The functional approver: accept the release on the test environment.
- Each member of the board: vote on the frozen rollout plan.
- Each support role: confirm that the training material has been read.

## What it will not do

- Deploy any artifact except the one that the board approved.
- Continue after a rejection.
- Leave a host partly deployed.
- Succeed unless every host answers with the new version.

## If it fails

The tab *Release* of the run and its last task name the stage that failed and the reason. No cleanup is needed: fix the
cause and trigger the release again. A release that fails in production is backed out automatically.

## Owner

{owner}. The service is described in `include/catalogue/services/{name}.yaml`.
"""


def release_dag(service: Service, policy: Policy, board: BoardBook) -> DAG:
    """Compose the release Dag of a service."""
    with DAG(
        dag_id=dag_of_release(service.name),
        dag_display_name=f"Release {service.title}",
        description=f"Release a commit of {service.title} to production, through ten stages and a board",
        doc_md=DOC.format(**service.model_dump(include={"title", "description", "owner", "name"}))
        + marks_of(ServiceCatalogue(policy, board, service)),
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(days=30),
        is_paused_upon_creation=False,
        tags=["release", f"service:{service.name}", f"tier:{service.tier}"],
        default_args={**DEFAULT_ARGS, "owner": service.owner},
        access_control=dag_access(RELEASED_BY),
        fail_fast=False,
        render_template_as_native_obj=True,  # records reach operators as JSON values, not as their text
    ) as dag:
        in_force = policy_stage(service.name)
        plan, planned = planning_stage(service, policy, in_force)
        assets = design_stage(service, plan)
        artifact = build_stage(service, plan)
        deployment, report, waivers, passed = quality_stage(service, policy, in_force, plan, assets, artifact)
        accepted = acceptance_stage(service, policy, in_force, plan, artifact, deployment, report, waivers, passed)
        deadline = longest_deadline(policy, board, service)
        rollout, decision, ballots = rollout_stage(
            service,
            deadline,
            in_force,
            plan,
            assets,
            artifact,
            report,
            waivers,
            accepted,
            passed,
            elsewhere=asks_authorities(policy, service),
        )
        told = communication_stage(service, policy, plan, decision)
        started, baseline, waves = implementation_stage(service, rollout)
        verified = verification_stage(service, in_force, rollout, artifact, baseline, waves)
        closing = closure_stage(service)

        # The records order most tasks; this is the rest.
        chain(planned, assets, artifact)
        chain(told, started)
        chain(verified, closing)
        if ballots:
            chain(ballots, closing)
    # Only now: each operator above would make a deep copy of the form: three quarters of the time to parse this file.
    dag.params = form_params(form_fields(policy, board, service))
    return dag


globals().update(service_dags(RELEASES, release_dag))
