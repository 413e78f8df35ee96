"""Closure: record the outcome and notify people, whatever happened. A failed release stays failed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import TriggerRule, XComArg, chain, get_current_context

from interlock.adapters.airflow.rest_api import TaskState
from interlock.adapters.evidence.sources import Sources, pack_release
from interlock.adapters.quality.expectations import suite_digests
from interlock.domain.board.questions import asks_people
from interlock.domain.catalogue import ChangeType, Service
from interlock.domain.dag_names import is_rollback
from interlock.domain.errors import CatalogueError, ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    ARTIFACT_BUILT,
    BACK_OUT_DONE,
    BOARD_DECIDED,
    COMMUNICATION_RECORDED,
    PATH_JUDGED,
    PATH_PASSED,
    PLAN_DECIDED,
    PLAN_MADE,
    QUALITY_JUDGED,
    RECORD_DECIDED,
    RELEASE_CLOSED,
    RELEASE_REQUESTED,
    SIGN_OFF_DECIDED,
    STEP_ENDED,
    VERIFICATION_JUDGED,
    WAVE_DEPLOYED,
)
from interlock.domain.ledger.reading import all_in, last_in, last_of_each, plan_in
from interlock.domain.outcome.outcome import AS_REQUESTED, STAGE_TITLES, FailedTask, decide_outcome
from interlock.domain.permits.withdrawal import called_off
from interlock.domain.records import (
    Artifact,
    BackOutReport,
    Blob,
    Communication,
    Decision,
    EnvironmentPassed,
    Outcome,
    QualityReport,
    ReleasePlan,
    RolloutPlan,
    StepReport,
    VerificationReport,
    WaveReport,
)
from interlock.stages.runtime import bookings, resources
from interlock.stages.runtime.evidence import chain_entries, record, this_task
from interlock.stages.runtime.history import remember
from interlock.stages.runtime.permits import came_to_its_target
from interlock.stages.runtime.taskflow import (
    CALLED_OFF,
    REASON,
    WHILE_SERVERS_ARE_AWAY,
    keep_result,
    stage_group,
    stage_task,
    this_run,
)
from interlock.stages.strategies.rolling import answered_versions, close_off
from interlock.stages.testing.defects import close_fixed

from .outcome_mails import send_outcome

log = logging.getLogger(__name__)
OWN_TASKS = frozenset(
    {"closure.record_outcome", "closure.send_outcome", "closure.pack_evidence", "closure.close_release"}
)


class ReleaseFailed(ReleaseError):
    """The release did not end as deployed or rehearsed."""


@stage_task(
    task_display_name="Record the outcome",
    trigger_rule=TriggerRule.ALL_DONE,
    retries=WHILE_SERVERS_ARE_AWAY,
    after_end="go_on",
)
def record_outcome(service: str) -> Outcome:
    """Record the outcome of the release, and the stage that determined it.

    The outcome is derived from the chain of the release, the task states in Airflow, and the versions that the hosts
    report now. A recorded outcome does not change, except that a failed release can still be backed out.
    """
    entries = chain_entries()
    known = last_in(entries, RELEASE_CLOSED, Outcome)
    rollout = plan_in(entries)
    if known is not None and known.outcome != "failed":
        if rollout is not None:
            close_off(rollout)
        _close_defects(service, known, entries)
        return known
    waves = tuple({wave.number: wave for wave in all_in(entries, WAVE_DEPLOYED, WaveReport)}.values())
    back_out = last_in(entries, BACK_OUT_DONE, BackOutReport)
    touched = rollout is not None and came_to_its_target(rollout)
    outcome = decide_outcome(
        service=service,
        version=_version(entries),
        failed=_failed_tasks(),
        decisions=[
            decided[-1]
            for kind in (PLAN_DECIDED, ACCEPTANCE_DECIDED, BOARD_DECIDED, RECORD_DECIDED)
            if (decided := all_in(entries, kind, Decision))
        ]
        + [*last_of_each(entries, SIGN_OFF_DECIDED, Decision).values()],
        environments=[*last_of_each(entries, PATH_PASSED, EnvironmentPassed).values()],
        quality=last_in(entries, QUALITY_JUDGED, QualityReport),
        rollout=rollout,
        communication=last_in(entries, COMMUNICATION_RECORDED, Communication),
        waves=waves,
        verification=last_in(entries, VERIFICATION_JUDGED, VerificationReport),
        back_out=back_out,
        running=_running(service, rollout) if waves or back_out else {},
        called_off=None if touched else called_off(entries),
        steps=all_in(entries, STEP_ENDED, StepReport),
    )
    log.info("%s %s: %s, decided by %s. %s", service, outcome.version, outcome.outcome, outcome.stage, outcome.reason)
    record(RELEASE_CLOSED, outcome, seal=True)
    began = (entries or chain_entries())[0].at
    planned = any(entry.kind == PLAN_MADE for entry in entries)
    remember("/".join(this_run()), outcome, _change_type(entries), planned=planned, began=began)
    for environment in _booked(service, rollout):
        bookings.free(service, environment)
    if rollout is not None:
        close_off(rollout)
    _close_defects(service, outcome, entries)
    return outcome


def _close_defects(service: str, outcome: Outcome, entries: Sequence[Entry]) -> None:
    """Close the defects that a deployed release proved to be fixed. A rollback proves nothing new."""
    artifact, report = last_in(entries, ARTIFACT_BUILT, Artifact), last_in(entries, QUALITY_JUDGED, QualityReport)
    if artifact is not None and report is not None and not is_rollback(this_run()[0]):
        for one in (report, *last_of_each(entries, PATH_JUDGED, QualityReport).values()):
            close_fixed(service, one, outcome, artifact.bundle.sha256)


def _booked(service: str, rollout: RolloutPlan | None) -> list[str]:
    """Return the environments that the release may hold."""
    path: tuple[str, ...] = ()
    with suppress(CatalogueError):
        path = resources.catalogue_of(service).service.path
    return [*path, *([rollout.environment] if rollout else [])]


def _change_type(entries: Sequence[Entry]) -> str:
    asked = next((entry.payload for entry in reversed(entries) if entry.kind == RELEASE_REQUESTED), {})
    return str(asked.get("change_type") or ChangeType.NORMAL.value)


@stage_task(
    task_display_name="Create the evidence pack",
    trigger_rule=TriggerRule.ALL_DONE,
    retries=WHILE_SERVERS_ARE_AWAY,
    after_end="go_on",
)
def pack_evidence() -> Blob:
    """Upload the evidence of this release as one signed archive to the artifact store. See docs/evidence.md."""
    with resources.workspace() as folder, resources.ledger() as ledger, resources.airflow_api() as api:
        store, signer, witness = resources.store(), resources.signer(), resources.witness_key()
        sources = Sources(ledger, store, api, signer, suite_digests(), witness)
        packed = pack_release(*this_run(), sources, folder / "pack.zip", actor=this_task())
    log.info("The evidence pack is %s (%d files).", packed.blob.uri, packed.sealed.files)
    return packed.blob


@stage_task(
    task_display_name="Close the release",
    trigger_rule=TriggerRule.ALL_DONE,
    retries=WHILE_SERVERS_ARE_AWAY,
    after_end="go_on",
)
def close_release(service: str) -> Outcome:
    """Fail the run unless the ledger recorded the outcome of the release as deployed or rehearsed.

    :raises ReleaseFailed: the release has another outcome, or no outcome is recorded.
    """
    outcome = last_in(chain_entries(), RELEASE_CLOSED, Outcome)
    if outcome is None:
        raise ReleaseFailed(f"The ledger has no outcome of this release of {service}.")
    keep_result(outcome)
    if outcome.outcome not in AS_REQUESTED:
        raise ReleaseFailed(
            f"{service} {outcome.version} ended as {outcome.outcome.replace('_', ' ')}, decided in "
            f"{STAGE_TITLES.get(outcome.stage, outcome.stage)}: {outcome.reason}"
        )
    return outcome


def _version(entries: Sequence[Entry]) -> str:
    """Return the requested version, or the one in the plan if a rollback was requested without a version."""
    planned = last_in(entries, PLAN_MADE, ReleasePlan)
    return str(get_current_context()["params"].get("version") or (planned.version if planned else "?"))


def _failed_tasks() -> list[FailedTask]:
    ti: Any = get_current_context()["ti"]
    with resources.airflow_api() as api:
        states = api.task_states(*this_run())
    failed = [
        state
        for state in states
        if state.state == "failed" and state.task_id not in OWN_TASKS and not asks_people(state.task_id)
    ]
    first = {state.task_id: state.end for state in sorted(failed, key=_ended, reverse=True)}
    return [
        FailedTask(
            stage=task.partition(".")[0],
            task=task,
            reason=ti.xcom_pull(task_ids=task, key=REASON) or "",
            held=bool(ti.xcom_pull(task_ids=task, key=CALLED_OFF)),
            ended=first[task],
        )
        for task in dict.fromkeys(state.task_id for state in sorted(failed, key=_ended))
    ]


def _ended(state: TaskState) -> tuple[bool, datetime, str]:
    """Sort by the time of failure. A task that never ran has no time, and comes last."""
    at = state.end or state.start
    return at is None, at or datetime.min.replace(tzinfo=UTC), state.task_id


def _running(service: str, rollout: RolloutPlan | None) -> dict[str, str | None]:
    """Ask the hosts of a plan which version they run; nothing if the catalogue cannot be read."""
    if rollout is None:
        return {}
    try:
        _, _, described = resources.catalogue_of(service)
    except CatalogueError as error:
        log.error("The hosts cannot be asked which version they run: %s", error)
        return {}
    return answered_versions(rollout.hosts, described.health)


@stage_group("closure", "always records the outcome; a failed release stays failed")
def closure_stage(service: Service) -> XComArg:
    """Record the outcome, tell people, pack the evidence and close the release; return the first task."""
    recorded: XComArg = record_outcome(service.name)
    chain(recorded, [send_outcome(service.name), pack_evidence()], close_release(service.name))
    return recorded
