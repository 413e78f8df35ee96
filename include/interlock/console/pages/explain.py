"""Why a release does not move: what Airflow has of its run, what the ledger has of it, and what the catalogue says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, Request, status

from interlock.adapters.airflow.results import parsed_result
from interlock.adapters.calendars.copies import CopiesThere, copies_folder, shared_copies
from interlock.adapters.catalogue.catalogue import calendars_of
from interlock.adapters.catalogue.kept import kept_rules, kept_service
from interlock.console.control.lookups import configured_store
from interlock.console.control.rules import service_of
from interlock.domain.board.accounts import CLERK
from interlock.domain.calendars.bookings import Standing as Bookings
from interlock.domain.calendars.bookings import booking_chain, standing
from interlock.domain.calendars.calendar import Calendars, may_change
from interlock.domain.calendars.overrides import overridden
from interlock.domain.calendars.stops import scopes_about
from interlock.domain.catalogue import PRODUCTION, BoardBook, ServiceCatalogue
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.dag_names import TRAINS
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.events import open_incidents
from interlock.domain.ledger.findings import findings_about
from interlock.domain.ledger.kinds import FINDING, FREEZE_OVERRIDDEN, INCIDENT_SEEN, PLAN_MADE, WAVE_DEPLOYED
from interlock.domain.ledger.reading import all_in, last_in, plan_in
from interlock.domain.outcome.explain import Explanation, explain
from interlock.domain.outcome.progress import Progress, progress_of
from interlock.domain.outcome.standing import (
    Ahead,
    Away,
    Closed,
    Holder,
    PoolSeen,
    ProcessSeen,
    QuestionSeen,
    Refusal,
    Standing,
    TaskSeen,
)
from interlock.domain.permits import objections
from interlock.domain.permits.early import KINDS, Early
from interlock.domain.permits.withdrawal import called_off
from interlock.domain.records import ReleasePlan, WaveReport
from interlock.domain.rollout.pace import failed_hosts
from interlock.locations import catalogue_folder

from .in_force import look
from .progress import names_known

ENDED = ("success", "skipped", "upstream_failed", "removed")
PARKED = ("up_for_reschedule", "deferred")
REASONS = ("waits_for", "reason")
"""The XCom keys in which a task says for what it waits, and why it failed."""


def explained(request: Request, dag_id: str, dag_run_id: str) -> Explanation:
    """Return why a release, a rollback or a train does not move now, and what moves it.

    Doing what `acts` lists moves it; of several acts about one task, one is enough. `refusals` are what would refuse a
    wave now or, with a time, at its start.
    """
    return explanation_of(dag_id, dag_run_id, request.app.state.open_ledger)


def explanation_of(dag_id: str, run_id: str, open_ledger: Callable[[], AbstractContextManager[Any]]) -> Explanation:
    """Explain why a release, a rollback or a train does not move.

    :raises ReleaseError: the ledger cannot be read.
    :raises HTTPException: 404: Airflow has no such run.
    """
    names, chain, now = names_known(), release_chain(dag_id, run_id), datetime.now(UTC)
    with open_ledger() as ledger:
        entries = ledger.entries(chain)
        progress, plan = progress_of(entries, names), last_in(entries, PLAN_MADE, ReleasePlan)
        known = _standing(dag_id, run_id, progress)
        rollout = plan_in(entries)
        due = plan.not_before if plan and plan.not_before and plan.not_before > now else None
        if dag_id.startswith(TRAINS):
            more = _of_train(dag_id, ledger, chain, entries)
        else:
            more = _of_release(dag_id, ledger, chain, entries, now, due)
    return explain(
        known.model_copy(
            update={
                "called_off": ended.sentence if (ended := called_off(entries)) else "",
                "not_before": plan.not_before if plan else None,
                "failed_hosts": failed_hosts(rollout, all_in(entries, WAVE_DEPLOYED, WaveReport)) if rollout else "",
                **_absences(known, now),
                **more,
            }
        ),
        names,
    )


def _of_train(dag_id: str, ledger: Any, chain: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the stops and freezes that hold the passengers of a train, and its findings."""
    about = findings_about(ledger.entries(INSTALLATION, kind=FINDING), chain)
    findings = [str(one.payload.get("what")) for one in (*entries, *about) if one.kind == FINDING]
    try:
        found = look(catalogue_folder(), ledger, dag_id)
    except ReleaseError as error:
        return {"refusals": (_unknown(error), *_refusals(objections.of_findings(findings)))}
    every = (objections.of_stops(found.stops), objections.of_freezes(found.freezes), objections.of_findings(findings))
    return {"refusals": tuple(one for each in every for one in _refusals(each)), "incidents": found.incidents}


def _of_release(
    dag_id: str, ledger: Any, chain: str, entries: Sequence[Entry], now: datetime, due: datetime | None
) -> dict[str, Any]:
    """Return what of its environments holds a release, and what would refuse a wave of it.

    :param due: before that, it does not begin; none: it may begin now.
    """
    try:
        about = _About.read(dag_id, ledger, now)
    except (ReleaseError, KeyError) as error:  # the rest is worth an answer
        return {"refusals": (_unknown(error),)}
    places = dict.fromkeys((FIRST, *about.catalogue.service.path, PRODUCTION))
    bookings = {place: standing(ledger.entries(booking_chain(place, about.catalogue.service.name))) for place in places}
    early = Early(
        chain=chain,
        entries=entries,
        installation=about.installation,
        catalogue=about.catalogue,
        calendars=about.calendars,
        environment=PRODUCTION,
        bookings=bookings[PRODUCTION],
    )
    soon = early.refusals(now)
    later = [one for one in early.refusals(due) if one not in soon] if due else []
    return {
        "holders": tuple(one for each in bookings.values() for one in _holders(each, chain)),
        "closed": tuple(about.closed(tuple(places), now)),
        "refusals": (*_refusals(soon), *_refusals(later, due)),
        "incidents": open_incidents(
            ledger.entries(INSTALLATION, kind=INCIDENT_SEEN), scopes_about(about.catalogue.service), now
        ),
    }


@dataclass(frozen=True, slots=True)
class _About:
    """What catalogue and installation say of a service."""

    catalogue: ServiceCatalogue
    calendars: Calendars
    installation: dict[str, tuple[Entry, ...]]

    @classmethod
    def read(cls, dag_id: str, ledger: Any, now: datetime) -> _About:
        """Read it; ReleaseError if it cannot be read, KeyError if there is no such service."""
        folder, name = catalogue_folder(), service_of(dag_id)
        policy, board = kept_rules(folder)
        service = kept_service(folder, name).services[name]
        copies = CopiesThere(copies_folder(), now=now, shared=shared_copies(configured_store))
        _, found = ledger.look(*((INSTALLATION, kind, 0) for kind in KINDS))
        return cls(
            catalogue=ServiceCatalogue(policy, board, service),
            calendars=calendars_of(folder, policy, copies),
            installation=dict(zip(KINDS, found, strict=True)),
        )

    def closed(self, environments: Sequence[str], now: datetime) -> Iterator[Closed]:
        """Yield what closes environments now."""
        service, overrides = self.catalogue.service, self.installation[FREEZE_OVERRIDDEN]
        for name in environments:
            lifted = overridden(overrides, service.name, name, now)
            answer = may_change(self.calendars, service, name, now, overridden=lifted)
            if answer.by is not None:
                yield Closed(
                    service=service.name,
                    environment=name,
                    title=answer.title,
                    place=answer.place,
                    until=answer.next,
                    override_by=answer.by.override_by,
                )


def _holders(found: Bookings, chain: str) -> Iterator[Holder]:
    """Yield the release that holds an environment, and those that are ahead in the queue for it."""
    if found.booking is not None and found.booking.holder != chain:
        one = found.booking
        yield Holder(run=one.holder.removeprefix("release/"), version=one.version, requested_by=one.by)
    for ahead in found.line:
        if ahead == chain:
            return
        yield Holder(run=ahead.removeprefix("release/"))


def _refusals(found: Iterator[objections.Objection] | Sequence[Any], at: datetime | None = None) -> tuple[Refusal, ...]:
    return tuple(Refusal(**one.model_dump(), at=at) for one in found)


def _unknown(error: Exception) -> Refusal:
    why = str(error) if isinstance(error, ReleaseError) else "the catalogue does not have this service."
    return Refusal(
        what=f"What would refuse a wave is not known: {why}",
        rule="what cannot be read holds a release",
        who="the owner of the catalogue",
        next_step="correct what is named; interlock validate shows it",
    )


def _absences(known: Standing, now: datetime) -> dict[str, Any]:
    """Return who of the people asked is away, and who of them the board book does not have any more."""
    book = _book()
    if book is None:
        return {}
    # Who is asked by FAB's number of them, and not by name, is not looked for.
    asked = {user for one in known.questions if not one.answered for user in one.people if not user.isdigit()}
    away = tuple(Away(user=one.for_, until=one.until, delegate=one.to) for one in book.delegates if one.holds(now))
    return {"away": away, "gone": tuple(sorted(asked - {*book.names}))}


def _book() -> BoardBook | None:
    with suppress(ReleaseError):
        return kept_rules(catalogue_folder())[1]
    return None


def _standing(dag_id: str, run_id: str, progress: Progress) -> Standing:
    """Return what Airflow has of a run; HTTPException if it has no such run."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    this = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, f"Airflow has no run {run_id} of {dag_id}.")
        said = select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).where(
            XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key.in_(REASONS)
        )
        words = {(task, number, key): str(parsed_result(value)) for task, number, key, value in session.execute(said)}
        tasks = session.scalars(select(TaskInstance).where(*this)).all()
        woken = select(TaskInstance.id, Trigger).join(Trigger, Trigger.id == TaskInstance.trigger_id).where(*this)
        until = {id: _until(trigger) for id, trigger in session.execute(woken)}
        asked = select(HITLDetail, TaskInstance).join(TaskInstance, TaskInstance.id == HITLDetail.ti_id).where(*this)
        questions = [_question(detail, task, progress) for detail, task in session.execute(asked)]
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id))
        first = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.state == "running").order_by(DagRun.run_after)
        ahead = session.scalar(first.limit(1)) if str(run.state) == "queued" else None
        seen = [one for one in tasks if one.state is not None and str(one.state) not in ENDED]
        failed = [one for one in seen if str(one.state) == "up_for_retry" and one.end_date is not None]
        again = {one.id: _again_at(one, run, session) for one in failed}
        return Standing(
            now=datetime.now(UTC),
            state=str(run.state),
            paused=bool(paused),
            ahead=_ahead(ahead) if ahead is not None else None,
            tasks=tuple(_task(one, words, until.get(one.id), again.get(one.id)) for one in seen),
            questions=tuple(questions),
            progress=progress,
            quiet_since=max((one.end_date for one in tasks if one.end_date), default=run.start_date),
            silent=tuple(_silent_processes(session)),
            full=tuple(_full_pools(session, {str(one.pool) for one in seen})),
        )


def _silent_processes(session: Any) -> Iterator[ProcessSeen]:
    """Yield the processes of Airflow that give no sign of life, as Airflow's own page of health judges it."""
    from airflow.jobs.job import most_recent_job

    for name, kind in (("scheduler", "SchedulerJob"), ("triggerer", "TriggererJob")):
        job = most_recent_job(kind, session=session)
        if job is None or not job.is_alive():
            yield ProcessSeen.model_validate({"name": name, "heard": job and job.latest_heartbeat})


def _full_pools(session: Any, names: set[str]) -> Iterator[PoolSeen]:
    from airflow.models.pool import Pool
    from sqlalchemy import select

    for pool in session.scalars(select(Pool).where(Pool.pool.in_(names))):
        if pool.slots >= 0 and pool.open_slots(session=session) <= 0:  # -1: without limit
            yield PoolSeen(name=pool.pool, slots=pool.slots)


def _until(trigger: Any) -> datetime | None:
    """Return when a waiting task is woken at the latest, by what it gave to Airflow's triggerer; none: not known."""
    with suppress(Exception):  # written with another key, or by another version: it is a help only
        found = [trigger.kwargs.get(name) for name in ("moment", "until")]
        return next((one for one in found if isinstance(one, datetime)), None)
    return None


def _ahead(run: Any) -> Ahead:
    version = (run.conf or {}).get("version") or ""
    return Ahead(run_id=run.run_id, version=str(version), requested_by=run.triggering_user_name or "")


def _task(
    one: Any, words: Mapping[tuple[str, int, str], str], until: datetime | None, again_at: datetime | None
) -> TaskSeen:
    state = str(one.state)
    return TaskSeen(
        task_id=one.task_id,
        title=one.task_display_name or one.task_id,
        state=state,
        since=one.queued_dttm or one.scheduled_dttm,
        tries=one.try_number,
        max_tries=one.max_tries + 1,
        pool=one.pool or "",
        again_at=again_at,
        reason=words.get((one.task_id, one.map_index, "reason"), "") if state in ("failed", "up_for_retry") else "",
        waits=words.get((one.task_id, one.map_index, "waits_for"), "") if state in PARKED else "",
        until=until if state == "deferred" else None,
    )


def _again_at(task: Any, run: Any, session: Any) -> datetime | None:
    """Return when Airflow tries a task again; none: it does not know the task any more."""
    from airflow.models.dagbag import DBDagBag

    dag: Any = DBDagBag().get_dag_for_run(run, session=session)
    if dag is None or not dag.has_task(task.task_id):
        return None
    task.task = dag.get_task(task.task_id)
    found: datetime = task.next_retry_datetime()
    return found


def _question(detail: Any, task: Any, progress: Progress) -> QuestionSeen:
    """Return a question; the clerk closes ballots earlier than Airflow does, at the deadline of their decision."""
    stage, _, name = task.task_id.rpartition(".")
    decided_by = {
        "rollout" if one is progress.environments[-1] else f"quality.{one.environment}": one.approval.until
        for one in progress.environments
        if one.approval is not None
    }
    ballot = name in ("cast_ballot", "sign_off")
    return QuestionSeen(
        task_id=task.task_id,
        title=task.task_display_name or task.task_id,
        people=tuple(user["id"] for user in detail.assigned_users if user["id"] != CLERK),
        until=(decided_by.get(stage) if ballot else None) or task.trigger_timeout,
        answered=detail.responded_at is not None or str(task.state) in (*ENDED, "failed"),
    )
