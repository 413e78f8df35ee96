"""The Dag ``emergency_stop``: stop all rollouts in a scope, or lift a stop; and notify people."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.ledger.stops import declare, request_in, scopes
from interlock.adapters.templates import render
from interlock.domain.calendars import stops
from interlock.domain.calendars.stops import STOPS, EmergencyStop, StopRequest
from interlock.domain.dag_names import EMERGENCY_STOP
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.kinds import EMERGENCY_STOP_LIFTED
from interlock.domain.paths import dag_page
from interlock.domain.trigger_form import fields_of
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import this_task
from interlock.stages.runtime.history import append_once, sign_if_possible
from interlock.stages.runtime.notices import notify, page_link
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_task, this_run

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger


def stop_params(folder: Path) -> dict[str, Param]:
    """Return the form of an emergency stop."""
    return form_params(fields_of(StopRequest, scope={"enum": list(scopes(folder))}))


@stage_task(task_display_name="Declare or lift the stop")
def record_stop() -> dict[str, Any]:
    """Record in the ledger that an emergency stop is declared or lifted.

    While a stop is in force, no release in its scope gets a permit, and a wave in progress halts before its next host.
    """
    request = request_in(entered(), catalogue_folder())
    by = requester()
    with resources.ledger() as ledger:
        if request.lift:
            entry = _lift(ledger, request, by)
        else:
            entry = declare(ledger, request, by, this_run(), actor=by or this_task())
        sign_if_possible(ledger, entry)  # if not: after the notification it is signed, or the run fails
    return {"kind": entry.kind, **entry.payload}


def _lift(ledger: Ledger, request: StopRequest, by: str) -> Entry:
    if known := ledger.find(INSTALLATION, f"{EMERGENCY_STOP_LIFTED}/{request.lift}/{'/'.join(this_run())}"):
        return known  # recorded by an earlier try of this task
    stop = stops.stop_to_lift(ledger.entries(INSTALLATION, kind=STOPS), request.lift, datetime.now(UTC))
    payload = {"id": stop.id, "scope": stop.scope, "by": by, "reason": request.reason}
    key = f"{EMERGENCY_STOP_LIFTED}/{stop.id}/{'/'.join(this_run())}"
    return append_once(ledger, EMERGENCY_STOP_LIFTED, payload, actor=by or this_task(), key=key)


@stage_task(task_display_name="Send notifications")
def tell_of_stop(recorded: dict[str, Any]) -> list[str]:
    """E-mail the people under findings.notify of the policy that a stop was declared or lifted."""
    kind = recorded["kind"]
    told = {name: value for name, value in recorded.items() if name != "kind"}
    lifted = kind == EMERGENCY_STOP_LIFTED
    with resources.ledger() as ledger:
        in_force = stops.all_in_force(ledger.entries(INSTALLATION, kind=STOPS), datetime.now(UTC))
        others = [other for other in in_force if other.id != told["id"]]
    text = render(
        "stop.md.j2",
        stop=told if lifted else EmergencyStop.model_validate(told),
        lifted=lifted,
        others=others,
        names=load_rules(catalogue_folder())[1].names,
        page=page_link(dag_page(EMERGENCY_STOP)),
    )
    subject = f"Emergency stop of {told['scope']}{' lifted' if lifted else ''}"
    same = sha256("/".join((*this_run(), kind)).encode()).hexdigest()[:32]
    told_to = list(notify(subject, text, same=same))
    with resources.ledger() as ledger:
        ledger.sign_head(INSTALLATION, resources.signer())
    return told_to


def stop_tasks() -> None:
    """Record the stop, then notify people."""
    tell_of_stop(record_stop())
