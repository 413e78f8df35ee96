"""Arrival: what became of each passenger, on record whatever happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import TriggerRule, XComArg, chain, get_current_context, task_group

from interlock.domain.ledger.chain import Entry
from interlock.domain.trains.arrivals import Arrival, arrival
from interlock.domain.trains.manifest import ARRIVED, LEFT, Boarded, manifest_in
from interlock.stages.runtime.evidence import chain_entries
from interlock.stages.runtime.taskflow import REASON, keep_result, stage_task

from .common import PassengerLost, of_passenger, task_of


@stage_task(
    task_display_name="Record the arrival",
    trigger_rule=TriggerRule.ALL_DONE,
    evidence=ARRIVED,
    seal=True,
    after_end="go_on",
)
def record_arrival(name: str) -> Arrival:
    """Record what became of each passenger, by the train's chain in the ledger; whatever happened."""
    ti: Any = get_current_context()["ti"]
    entries = chain_entries()
    if known := next((one.payload for one in entries if one.kind == ARRIVED), None):
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
    if of_passenger(entries, LEFT, one.service):
        return "Its release was asked for, and the train did not see it end."
    return f"It is after {', '.join(one.after)}, which did not arrive." if one.after else "It did not depart."


@stage_task(task_display_name="End the journey", trigger_rule=TriggerRule.ALL_DONE, after_end="go_on")
def close_train() -> Arrival:
    """End the run as the train arrived: it fails if it did not depart, or if somebody on board did not arrive.

    :raises PassengerLost: who did not arrive, and why.
    """
    found = next((one.payload for one in reversed(chain_entries()) if one.kind == ARRIVED), None)
    if found is None:
        raise PassengerLost("It is not on record how the train arrived.")
    came = Arrival.from_xcom(found)
    keep_result(came)
    if not came.departed:
        raise PassengerLost(f"The train {came.train} did not depart. {came.reason}")
    if came.missing:
        lost = "; ".join(f"{one.service} {one.version}: {one.outcome}. {one.reason}" for one in came.missing)
        raise PassengerLost(f"Not everybody on the train {came.train} arrived. {lost}")
    return came


@task_group(group_id="arrival", group_display_name="4 Arrival", tooltip="Arrival: what became of each passenger")
def arrival_group(name: str) -> XComArg:
    """Record the arrival and end the journey; return the first task."""
    recorded: XComArg = record_arrival(name)
    chain(recorded, close_train())
    return recorded
