"""Arrival: the outcome of each passenger, recorded whatever happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import TriggerRule, XComArg, chain, get_current_context, task_group
from airflow.sdk.exceptions import AirflowSkipException

from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import PASSENGER_DEPARTED, TRAIN_ARRIVED
from interlock.domain.trains.arrivals import Arrival, arrival
from interlock.domain.trains.manifest import Boarded, manifest_in
from interlock.stages.runtime.evidence import chain_entries
from interlock.stages.runtime.taskflow import REASON, keep_result, stage_task

from .common import PassengerLost, of_passenger, task_of


@stage_task(
    task_display_name="Record the arrival",
    trigger_rule=TriggerRule.ALL_DONE,
    evidence=TRAIN_ARRIVED,
    seal=True,
    after_end="go_on",
)
def record_arrival(name: str) -> Arrival:
    """Record the outcome of each passenger from the chain of the train in the ledger. Always runs."""
    ti: Any = get_current_context()["ti"]
    entries = chain_entries()
    if known := next((one.payload for one in entries if one.kind == TRAIN_ARRIVED), None):
        return Arrival.from_xcom(known)  # by an earlier try of this task
    manifest = manifest_in(entries)
    before = ("boarding.open_train", "boarding.freeze_manifest", "board.prepare_ballots", "board.await_board")
    kept = (ti.xcom_pull(task_ids=task, key=REASON) for task in (*before, "departure.depart"))
    why_not = next((str(reason) for reason in kept if reason), "A task of the train failed.")
    reasons = {
        one.service: str(ti.xcom_pull(task_ids=task_of(one.service), key=REASON) or _behind(one, entries))
        for one in (manifest.passengers if manifest else ())
    }
    return arrival(name, entries, reasons, why_not)


def _behind(one: Boarded, entries: Sequence[Entry]) -> str:
    if of_passenger(entries, PASSENGER_DEPARTED, one.service):
        return "Its release was triggered, but had not ended when the train arrived."
    return f"It depends on {', '.join(one.after)}, which did not arrive." if one.after else "It did not depart."


@stage_task(task_display_name="Close the train", trigger_rule=TriggerRule.ALL_DONE, after_end="go_on")
def close_train() -> Arrival:
    """Fail the run if the train did not depart, or if a passenger did not arrive.

    Skipped if the train departed without passengers: nothing was released.

    :raises PassengerLost: names the passengers that did not arrive, and why.
    """
    found = next((one.payload for one in reversed(chain_entries()) if one.kind == TRAIN_ARRIVED), None)
    if found is None:
        raise PassengerLost("The ledger has no record of the arrival of this train.")
    came = Arrival.from_xcom(found)
    keep_result(came)
    if not came.departed:
        raise PassengerLost(f"The train {came.train} did not depart. {came.reason}")
    if came.missing:
        lost = "; ".join(f"{one.service} {one.version}: {one.outcome}. {one.reason}" for one in came.missing)
        raise PassengerLost(f"Some passengers of the train {came.train} did not arrive. {lost}")
    if came.without_passengers:
        raise AirflowSkipException(came.without_passengers)
    return came


@task_group(group_id="arrival", group_display_name="4 Arrival", tooltip="Arrival: the outcome of each passenger")
def arrival_group(name: str) -> XComArg:
    """Record the arrival and end the train run; return the first task."""
    recorded: XComArg = record_arrival(name)
    chain(recorded, close_train())
    return recorded
