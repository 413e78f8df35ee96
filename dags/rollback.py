"""One rollback Dag per service of the catalogue: ``rollback_<service>``.

Composition only: which stages, in which order. What a stage does is in ``include/interlock/stages/``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, chain

from interlock.console.auth.roles import dag_access
from interlock.domain.board.voting import longest_deadline
from interlock.domain.catalogue import BoardBook, Policy, Service, ServiceCatalogue
from interlock.domain.change.effective import marks_of
from interlock.domain.dag_names import ROLLBACKS, dag_of_rollback
from interlock.stages.approvals.await_authorities import asks_authorities
from interlock.stages.release.closure import closure_stage
from interlock.stages.release.implementation import implementation_stage
from interlock.stages.release.rollout import rollout_stage
from interlock.stages.release.verification import verification_stage
from interlock.stages.rollback.communication import communication_stage
from interlock.stages.rollback.earlier_release import acceptance_stage, build_stage, design_stage, quality_stage
from interlock.stages.rollback.planning import planning_stage
from interlock.stages.rollback.policy import policy_stage, rollback_params
from interlock.stages.runtime.taskflow import DEFAULT_ARGS, service_dags

DOC = """
# Roll {title} back

## What it does

Returns {title} in production to a release that production ran before. Nothing is built: the artifact, the quality
report, the waivers and the acceptance of that release are reused, and each is verified against the ledger. Waves,
permits, verification and closure work as in a release. If the rollback fails, every host returns to the release that
it ran before the rollback.

## When it runs

A release manager triggers it. It is a standard change: no board votes unless the policy requires a vote.

## Parameters

- **Back to version**: a version that production ran before. If empty, you choose from a list under
  *Required Actions*.
- **Reason** and **incident**: are sent to everybody who is notified, and are recorded in the ledger.

## What it asks people

- The person who triggered it: which release to return to, if the form does not name a version.
- Each member of the board, if the policy requires a vote for standard changes of this service.

## What it will not do

- Return to a version that production never ran according to the ledger, that is marked bad (`mark_version`), or that
  is later than the current version. To deploy a later version, make a release, so that a board can decide.
- Run during an emergency stop or a freeze.
- Wait for e-mail: notifications are sent while the hosts change.

## If it fails

The last task names the stage that failed and the reason. A rollback that fails on the hosts is backed out
automatically.

## Owner

{owner}. The template that authorises the rollback is in `standard_changes` of `include/catalogue/policy.yaml`.
"""


def rollback_dag(service: Service, policy: Policy, board: BoardBook) -> DAG:
    """Compose the rollback Dag of a service."""
    with DAG(
        dag_id=dag_of_rollback(service.name),
        dag_display_name=f"Roll {service.title} back",
        description=f"Return {service.title} in production to a release that it ran before",
        doc_md=DOC.format(**service.model_dump(include={"title", "owner"}))
        + marks_of(ServiceCatalogue(policy, board, service)),
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(days=7),
        is_paused_upon_creation=False,
        tags=["rollback", f"service:{service.name}", f"tier:{service.tier}"],
        default_args={**DEFAULT_ARGS, "owner": service.owner},
        access_control=dag_access(),
        fail_fast=False,
        render_template_as_native_obj=True,  # records reach operators as JSON values, not as their text
    ) as dag:
        in_force = policy_stage(service.name)
        plan, planned = planning_stage(service, in_force)
        assets = design_stage(service, plan)
        artifact = build_stage(service, plan)
        report, waivers = quality_stage(artifact)
        accepted = acceptance_stage(artifact, report)
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
            elsewhere=asks_authorities(policy, service),
        )
        told = communication_stage(service, plan, decision)
        started, baseline, waves = implementation_stage(service, rollout, runbook=False)
        verified = verification_stage(service, in_force, rollout, artifact, baseline, waves, runbook=False)
        closing = closure_stage(service)

        # The records order most tasks; this is the rest.
        chain(planned, assets, artifact)
        chain(decision, started)
        chain([*verified, told], closing)
        if ballots:
            chain(ballots, closing)
    # Only now: see release.py.
    dag.params = rollback_params()
    return dag


globals().update(service_dags(ROLLBACKS, rollback_dag))
