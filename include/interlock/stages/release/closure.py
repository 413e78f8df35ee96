"""Closure: whatever happened, the release is recorded and people are told; a failed release never turns green."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from airflow.sdk import TriggerRule, XComArg, chain, get_current_context, task_group

from interlock.adapters.airflow.rest_api import TaskState
from interlock.adapters.evidence.sources import Sources, pack_release
from interlock.adapters.quality.expectations import suite_digests
from interlock.domain.board.waivers import ASK as ASK_WAIVERS
from interlock.domain.catalogue import MAX_WAVES, ChangeType, Service
from interlock.domain.errors import CatalogueError, ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.domain.outcome.outcome import STAGE_TITLES, FailedTask, decide_outcome
from interlock.domain.records import (
    BackOutReport,
    Blob,
    Communication,
    Decision,
    Outcome,
    QualityReport,
    Record,
    ReleasePlan,
    RolloutPlan,
    VerificationReport,
    WaveReport,
)
from interlock.stages.rollback.planning import ASK as ASK_ROLLBACK
from interlock.stages.runtime import bookings, resources
from interlock.stages.runtime.evidence import chain_entries, plan_in, record, this_task
from interlock.stages.runtime.history import remember
from interlock.stages.runtime.taskflow import REASON, keep_result, stage_task, this_run
from interlock.stages.strategies.canary import ASK as ASK_CANARY
from interlock.stages.strategies.rolling import answered_versions
from interlock.stages.strategies.waves import ASK as ASK_WAVE

from .acceptance import ASK as ASK_APPROVERS
from .communication import ASK as ASK_SUPPORT
from .planning import ASK as ASK_MANAGEMENT
from .rollout import ASK as ASK_BOARD

log = logging.getLogger(__name__)
OWN_TASKS = frozenset({"closure.record_outcome", "closure.pack_evidence", "closure.close_release"})
QUESTIONS = frozenset(
    {ASK_MANAGEMENT, ASK_WAIVERS, ASK_APPROVERS, ASK_BOARD, ASK_SUPPORT, ASK_ROLLBACK, ASK_CANARY}
) | {ASK_WAVE.format(number=number) for number in range(1, MAX_WAVES + 1)}
"""The tasks that ask people; how they ended means nothing (see people.ask)."""
R = TypeVar("R", bound=Record)


class ReleaseFailed(ReleaseError):
    """The release did not end as a deployment, nor as the rehearsal that it was to be."""


@stage_task(task_display_name="Record the outcome", trigger_rule=TriggerRule.ALL_DONE, after_end="go_on")
def record_outcome(service: str) -> Outcome:
    """Record how the release ended and which stage decided it.

    Derived from the release's chain in the ledger, from what Airflow's API says of the tasks, and from what the hosts
    answer now. A release that has ended stays as it ended; one that failed may be backed out afterwards.
    """
    entries = chain_entries()
    known = _last_in(entries, "release.closed", Outcome)
    if known is not None and known.outcome != "failed":
        return known
    rollout = plan_in(entries)
    waves = tuple({wave.number: wave for wave in _all_in(entries, "wave.deployed", WaveReport)}.values())
    back_out = _last_in(entries, "back_out.done", BackOutReport)
    outcome = decide_outcome(
        service=service,
        version=_version(entries),
        failed=_failed_tasks(),
        decisions=[
            decided[-1]
            for kind in ("plan.decided", "acceptance.decided", "board.decided")
            if (decided := _all_in(entries, kind, Decision))
        ],
        quality=_last_in(entries, "quality.judged", QualityReport),
        rollout=rollout,
        communication=_last_in(entries, "communication.recorded", Communication),
        waves=waves,
        verification=_last_in(entries, "verification.judged", VerificationReport),
        back_out=back_out,
        running=_running(service, rollout) if waves or back_out else {},
    )
    log.info("%s %s: %s, decided by %s. %s", service, outcome.version, outcome.outcome, outcome.stage, outcome.reason)
    record("release.closed", outcome, seal=True)
    remember("/".join(this_run()), outcome, _change_type(entries), planned=_is_planned(entries))
    if rollout is not None:
        bookings.free(service, rollout.environment)
    return outcome


def _is_planned(entries: Sequence[Entry]) -> bool:
    return any(entry.kind == "plan.made" for entry in entries)


def _change_type(entries: Sequence[Entry]) -> str:
    asked = next((entry.payload for entry in reversed(entries) if entry.kind == "release.requested"), {})
    return str(asked.get("change_type") or ChangeType.NORMAL.value)


@stage_task(task_display_name="Pack the evidence", trigger_rule=TriggerRule.ALL_DONE, after_end="go_on")
def pack_evidence() -> Blob:
    """Put everything that proves this release into one signed archive in the artifact store: docs/evidence.md."""
    with resources.workspace() as folder, resources.ledger() as ledger, resources.airflow_api() as api:
        store, signer, witness = resources.store(), resources.signer(), resources.witness_key()
        sources = Sources(ledger, store, api, signer, suite_digests(), witness)
        packed = pack_release(*this_run(), sources, folder / "pack.zip", actor=this_task())
    log.info("The evidence is in %s (%d files).", packed.blob.uri, packed.sealed.files)
    return packed.blob


@stage_task(task_display_name="Close the release", trigger_rule=TriggerRule.ALL_DONE, after_end="go_on")
def close_release(service: str) -> Outcome:
    """End the run as the release ended: it fails for every outcome but deployed and rehearsed, by the ledger's record.

    :raises ReleaseFailed: the release did not end well, or no outcome is on record.
    """
    outcome = _last_in(chain_entries(), "release.closed", Outcome)
    if outcome is None:
        raise ReleaseFailed(f"It is not on record how the release of {service} ended.")
    keep_result(outcome)
    if outcome.outcome not in ("deployed", "rehearsed"):
        raise ReleaseFailed(
            f"{service} {outcome.version} ended as {outcome.outcome.replace('_', ' ')}, decided in "
            f"{STAGE_TITLES.get(outcome.stage, outcome.stage)}: {outcome.reason}"
        )
    return outcome


def _version(entries: Sequence[Entry]) -> str:
    """Return the version that was asked for, whatever the stages made of it; of a rollback it may be chosen later."""
    planned = _last_in(entries, "plan.made", ReleasePlan)
    return str(get_current_context()["params"].get("version") or (planned.version if planned else "?"))


def _all_in(entries: Sequence[Entry], kind: str, model: type[R]) -> list[R]:
    return [model.model_validate(entry.payload, extra="ignore") for entry in entries if entry.kind == kind]


def _last_in(entries: Sequence[Entry], kind: str, model: type[R]) -> R | None:
    return next(iter(_all_in(entries, kind, model)[::-1]), None)


def _ti() -> Any:
    return get_current_context()["ti"]


def _failed_tasks() -> list[FailedTask]:
    dag_id, run_id = this_run()
    with resources.airflow_api() as api:
        states = api.task_states(dag_id, run_id)
    failed = [state for state in states if state.state == "failed" and state.task_id not in QUESTIONS | OWN_TASKS]
    return [
        FailedTask(stage=task.partition(".")[0], task=task, reason=_ti().xcom_pull(task_ids=task, key=REASON) or "")
        for task in dict.fromkeys(state.task_id for state in sorted(failed, key=_ended))
    ]


def _ended(state: TaskState) -> tuple[bool, datetime, str]:
    """Put what failed first first; a task that never ran has no time, and comes last."""
    at = state.end or state.start
    return at is None, at or datetime.min.replace(tzinfo=UTC), state.task_id


def _running(service: str, rollout: RolloutPlan | None) -> dict[str, str | None]:
    """Ask the hosts of a plan which version they run; nothing if the catalogue no longer says how."""
    if rollout is None:
        return {}
    try:
        _, _, described = resources.catalogue_of(service)
    except CatalogueError as error:
        log.error("Nobody can be asked what it runs: %s", error)
        return {}
    return answered_versions(rollout.hosts, described.health)


@task_group(
    group_id="closure",
    group_display_name="Closure",
    tooltip="Closure: recorded whatever happened; never turns a failed release green",
)
def closure_stage(service: Service) -> XComArg:
    """Record the outcome, pack the evidence and close the release; return the first task."""
    recorded: XComArg = record_outcome(service.name)
    chain(recorded, pack_evidence(), close_release(service.name))
    return recorded
