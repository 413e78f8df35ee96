"""Departure: the decision is verified again, and each passenger is released after its dependencies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator, TriggerRule, XComArg, chain, task_group
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException

from interlock.adapters.signing.witness import only_witnessed
from interlock.adapters.trains.boarding import unusable
from interlock.domain.calendars.calendar import Answer
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.train_file import Train
from interlock.domain.catalogue.values import in_words
from interlock.domain.dag_names import dag_of_release
from interlock.domain.errors import GateRejected, PolicyViolation
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.kinds import (
    PASSENGER_ARRIVED,
    PASSENGER_DEPARTED,
    RELEASE_CLOSED,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    RUN_ASKED,
    TRAIN_DEPARTED,
    TRAIN_STOPPED,
)
from interlock.domain.ledger.reading import last_in
from interlock.domain.records import Outcome
from interlock.domain.trains.cadence import planned_departures
from interlock.domain.trains.manifest import CONDUCTOR, Boarded, Manifest
from interlock.domain.trains.passengers import passenger_form, passenger_run
from interlock.stages.runtime import calendars, resources
from interlock.stages.runtime.evidence import chain_entries, record, refuse_void, this_chain
from interlock.stages.runtime.permits import stops_now
from interlock.stages.runtime.taskflow import WaitUntil, reasons_kept, stage_task
from interlock.stages.runtime.triggers import RunTrigger

from .board import count, rule_now
from .common import (
    POLL_INTERVAL,
    PassengerLost,
    catalogue_now,
    look_again,
    of_passenger,
    refuse_changed,
    train_now,
    without_file,
)
from .passengers import refuse_replaced, running

if TYPE_CHECKING:
    from airflow.sdk import Context


@stage_task(task_display_name="Depart", evidence=TRAIN_DEPARTED, seal=True)
def depart(name: str, manifest: Manifest) -> Manifest:
    """Verify the decision again, and check that at least one passenger may depart (freezes and emergency stops).

    If the train's file allows it, the task waits without a worker slot for the end of a freeze. It also checks the
    departure time again, in case that the previous task was edited.
    """
    if datetime.now(UTC) < manifest.departure:
        calendars.wait("the departure time has not come yet", manifest.departure)
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    refuse_changed(train, manifest.file, "the manifest was frozen")
    decision = count(manifest, rule_now(manifest), expired=True)
    if decision is None or not decision.approved:
        raise GateRejected(decision.reason if decision else "The board has not decided.")
    ready = [catalogue.of(one.service) for one in manifest.passengers if one.service in catalogue.services]
    answers = [calendars.answer_now(one, train.environment) for one in ready]
    if answers and not any(answer.open for answer in answers):
        _wait_or_refuse(train, manifest, answers)
    stopped = [_stops(one.service) for one in ready]
    if stopped and all(stopped):
        raise _held_back(train, f"an emergency stop is in force: {stopped[0]}")
    return manifest


def _wait_or_refuse(train: Train, manifest: Manifest, answers: Sequence[Answer]) -> NoReturn:
    """Wait until one of the passengers may depart, if that is soon enough; otherwise the train does not depart.

    The wait ends before the train's next date, which is another departure. Calendars that cannot be read now may be
    readable the next time.
    """
    unread, soon = any(answer.faults for answer in answers), datetime.now(UTC) + POLL_INTERVAL
    opening = soon if unread else min((answer.next for answer in answers if answer.next is not None), default=None)
    following = next(planned_departures(train, manifest.departure), None)
    why = " ".join(dict.fromkeys(map(str, answers)))
    if (
        (train.freeze.then == "move" or unread)
        and opening is not None
        and opening <= manifest.departure + train.freeze.farthest
        and (following is None or opening < following)
    ):
        look_again(why, opening)
    raise _held_back(train, why)


def _held_back(train: Train, why: str) -> PolicyViolation:
    return PolicyViolation(
        f"{train.title} does not depart: {why}",
        rule=f"a train departs only if a passenger may change {train.environment} (freeze in trains/{train.name}.yaml)",
        who="the owner of the calendar, or a person who may lift the emergency stop",
        next_step="take the next train, or trigger this train manually when the environment is open",
    )


def _stops(service: Service) -> str:
    return " ".join(map(str, stops_now(service)))


class SendPassenger(BaseOperator):
    """Trigger the release of one passenger, as the service account conductor, and wait until it has ended.

    Fails if the passenger does not arrive; only the passengers that depend on it then stay behind. Skipped if the
    service is not on board. Uses no worker slot while it waits.

    :param train: the train's name.
    :param service: the service's name.
    :param manifest: the frozen manifest.
    """

    template_fields = ("manifest",)

    def __init__(self, *, train: str, service: str, manifest: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.train, self.service, self.manifest = train, service, manifest

    def execute(self, context: Context) -> dict[str, Any]:
        """Trigger the release unless it was triggered; wait while it is under way; return its outcome."""
        with reasons_kept():
            manifest = Manifest.from_xcom(self.manifest)
            refuse_void([manifest])
            one = manifest.passenger(self.service)
            if one is None:
                raise AirflowSkipException(manifest.why_left(self.service))
            entries = chain_entries()
            departed = of_passenger(entries, PASSENGER_DEPARTED, self.service)
            if departed is not None:
                run_id = str(departed.payload["run"]).partition("/")[2]
            else:
                run_id = passenger_run(self.train, manifest.departure, one.version)
                form = passenger_form(manifest, one, this_chain())
                if not self._is_asked_for(run_id, form):  # otherwise an earlier try died after that
                    self._refuse_or_wait(manifest, one, entries)
                    with resources.airflow_api(resources.CONDUCTOR) as api:
                        note = f"Passenger of {manifest.title}"
                        api.trigger(dag_of_release(self.service), run_id, form, note=note)
                record(PASSENGER_DEPARTED, self._told(one, run_id))
            return self._arrived(one, run_id)

    def execute_again(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Check again. The event of the trigger only wakes the task."""
        self.log.info("Looking again: %s", event.get("why"))
        return self.execute(context)

    def _told(self, one: Boarded, run_id: str, **more: str) -> dict[str, Any]:
        """Return the fields of a passenger for the train's chain."""
        run = f"{dag_of_release(self.service)}/{run_id}"
        return {"service": self.service, "version": one.version, "run": run, **more}

    def _is_asked_for(self, run_id: str, form: dict[str, Any]) -> bool:
        """Tell whether the conductor has triggered the passenger's release already, with this train's form."""
        with resources.ledger() as ledger:
            asked = ledger.entries(release_chain(dag_of_release(self.service), run_id), kind=RUN_ASKED)
        mine = (CONDUCTOR, sha256_of(form))
        asked = only_witnessed(asked, resources.witness_key())
        return any((one.payload["user"], one.payload["conf"]) == mine for one in asked)

    def _refuse_or_wait(self, manifest: Manifest, one: Boarded, entries: Sequence[Entry]) -> None:
        """Refuse the passenger, or wait until the calendars let it depart."""
        catalogue = catalogue_now()
        train = train_now(self.train, catalogue)
        if stopped := next((entry.payload for entry in entries if entry.kind == TRAIN_STOPPED), None):
            raise _held_back(train, f"the train was stopped because {stopped['because']}")
        if why := unusable(catalogue, self.service):
            raise without_file(self.service, why)
        refuse_replaced(one)
        passenger = catalogue.of(self.service)
        if stop := _stops(passenger.service):
            raise _held_back(train, f"an emergency stop is in force: {stop}")
        answer = calendars.answer_now(passenger, train.environment)
        if not answer.open:
            _wait_or_refuse(train, manifest, [answer])
        dag_id = dag_of_release(self.service)
        with resources.airflow_api() as api:
            if api.is_paused(dag_id):
                raise _held_back(train, f"{dag_id} is paused, so its release would not start.")

    def _arrived(self, one: Boarded, run_id: str) -> dict[str, Any]:
        """Return how the release ended; defer while it has not."""
        dag_id = dag_of_release(self.service)
        outcome = _outcome(release_chain(dag_id, run_id))
        if outcome is None:
            with resources.airflow_api() as api:
                state = api.run_state(dag_id, run_id)
            if state == "queued":
                return self._in_line(one, run_id)
            if state == "running":
                self.defer(
                    trigger=RunTrigger(dag_id=dag_id, run_id=run_id, connection=resources.AIRFLOW),
                    method_name="execute_again",
                )
            outcome = _outcome(release_chain(dag_id, run_id))  # it may have ended between the two looks
        self._refuse_other(dag_id, run_id)
        ended, reason = (
            (outcome.outcome, outcome.reason) if outcome else ("failed", "Its run ended without an outcome.")
        )
        told = self._told(one, run_id, outcome=ended, reason="" if ended == "deployed" else reason)
        record(PASSENGER_ARRIVED, told)
        if ended != "deployed":
            return self._lost(one, told)
        return told

    def _in_line(self, one: Boarded, run_id: str) -> dict[str, Any]:
        """Check again while the release is queued, as long as the train waits; then the passenger is lost."""
        left = of_passenger(chain_entries(), PASSENGER_DEPARTED, self.service)
        patience = train_now(self.train, catalogue_now()).patience
        dag_id = dag_of_release(self.service)
        ahead = ", ".join(running(self.service))
        why = f"it waits for {ahead} of {dag_id}" if ahead else f"no other run of {dag_id} is active"
        if left is not None and datetime.now(UTC) < left.at + patience:
            look_again(why, left.at + patience)
        with resources.airflow_api() as api:
            why = f"{dag_id} is paused" if api.is_paused(dag_id) else why
        reason = f"It did not start within {in_words(patience)}: {why}."
        told = self._told(one, run_id, outcome="never begun", reason=reason)
        record(PASSENGER_ARRIVED, told)
        return self._lost(one, told)

    def _refuse_other(self, dag_id: str, run_id: str) -> None:
        """Refuse a run with the passenger's id that another person triggered."""
        with resources.ledger() as ledger:
            asked = ledger.entries(release_chain(dag_id, run_id), kind=RELEASE_REQUESTED)
        if asked and (asked[0].payload.get("train"), asked[0].payload.get("requested_by")) != (this_chain(), CONDUCTOR):
            raise PassengerLost(
                f"{dag_id}, run {run_id}, was triggered by {asked[0].payload.get('requested_by')}, not by this train.",
                rule="the release of a passenger is triggered by the conductor of its train",
                who="the person who triggered it",
                next_step="release the service on its own, or take the next train",
            )

    def _lost(self, one: Boarded, told: dict[str, Any]) -> dict[str, Any]:
        """Apply the rule of the train's file for a failed passenger."""
        train = train_now(self.train, catalogue_now())
        rule = train.when_failed(self.service)
        failed = of_passenger(chain_entries(), PASSENGER_ARRIVED, self.service)
        if rule == "wait" and failed is not None:
            if run := _deployed_since(self.service, one.version, failed.at):
                record(PASSENGER_ARRIVED, {**told, "outcome": "deployed", "reason": "", "run": run})
                return {**told, "outcome": "deployed", "run": run}
            if datetime.now(UTC) < failed.at + train.patience:
                raise AirflowRescheduleException(datetime.now(UTC) + POLL_INTERVAL)
        if rule == "stop":
            record(TRAIN_STOPPED, {"because": f"{self.service} {one.version} ended as {told['outcome']}"})
        raise PassengerLost(
            f"{self.service} {one.version} ended as {told['outcome'].replace('_', ' ')}: {told['reason']}",
            rule=f"failed: {rule} of trains/{train.name}.yaml",
            who="the service's team",
            next_step="let the passengers that depend on it take the next train",
        )


def _outcome(chain_name: str) -> Outcome | None:
    with resources.ledger() as ledger:
        return last_in(ledger.entries(chain_name, kind=RELEASE_CLOSED), RELEASE_CLOSED, Outcome)


def _deployed_since(service: str, version: str, since: datetime) -> str:
    """Return a later run that deployed the version; empty if there is none."""
    with resources.ledger() as ledger:
        ended = ledger.entries(INSTALLATION, kind=RELEASE_ENDED)
    same = (service, version, "deployed")
    found = (
        one.payload
        for one in ended
        if one.at > since and (one.payload["service"], one.payload["version"], one.payload["outcome"]) == same
    )
    return next((str(one["run"]) for one in found), "")


@task_group(
    group_id="departure",
    group_display_name="3 Departure",
    tooltip="Departure: release each passenger after the ones that it depends on",
)
def departure_group(train: Train, manifest: XComArg, decision: XComArg) -> list[BaseOperator]:
    """Wait for the time, depart, and send the passengers; return the tasks that send them."""
    wait = WaitUntil(
        task_id="await_departure",
        task_display_name="Wait for the departure time",
        target_time="{{ ti.xcom_pull(task_ids='boarding.open_train')['departure'] }}",
        execution_timeout=None,
        doc_md="Wait for the departure time without a worker slot.",
    )
    departed = depart(train.name, manifest)
    chain(decision, wait, departed)
    sent: dict[str, BaseOperator] = {
        one.service: SendPassenger(
            task_id=f"send_{one.service.replace('-', '_')}",
            task_display_name=f"Release {one.service}",
            train=train.name,
            service=one.service,
            manifest=manifest,
            trigger_rule=TriggerRule.NONE_FAILED,
            execution_timeout=None,
            retries=5,
            doc_md=SendPassenger.__doc__,
        )
        for one in train.passengers
    }
    for one in train.passengers:
        chain([departed, *(sent[name] for name in one.after)], sent[one.service])
    return list(sent.values())
