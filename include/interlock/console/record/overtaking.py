"""A release that may overtake others: with its request, the Dag that overtakes them is started.

The release itself is in the queue behind them, so none of its own tasks can do it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from interlock.adapters.catalogue.catalogue import load_service
from interlock.console.control.lookups import runs_under_way
from interlock.console.control.rules import service_of
from interlock.domain.change.policy import flows_of
from interlock.domain.change.request import parse_request
from interlock.domain.dag_names import OVERTAKE_RELEASES, RELEASES, run_name
from interlock.domain.ledger.witness import AskedRun
from interlock.locations import catalogue_folder

log = logging.getLogger(__name__)


def start_run(run_id: str, service: str, user: str) -> None:
    """Start the Dag that overtakes releases of a service."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.utils.types import DagRunTriggeredByType

    trigger_dag(
        OVERTAKE_RELEASES,
        triggered_by=DagRunTriggeredByType.REST_API,
        triggering_user_name=user,
        run_id=run_id,
        conf={"service": service},
    )


def overtake_others(
    asked: AskedRun,
    form: Mapping[str, Any],
    at: datetime,
    *,
    folder: Path | None = None,
    under_way: Callable[[], frozenset[str]] = runs_under_way,
    start: Callable[[str, str, str], None] = start_run,
) -> None:
    """Start the Dag that overtakes releases, if the policy lets this one overtake any and others are under way.

    :param asked: the release that was requested.
    :param at: when.
    """
    if not asked.dag_id.startswith(RELEASES):
        return
    service = service_of(asked.dag_id)
    try:
        catalogue = load_service(folder or catalogue_folder(), service)
        request = parse_request(form, policy=catalogue.policy)
        flow = flows_of(catalogue.policy, catalogue.services[service])[request.change_type]
        if request.rehearsal or not flow.overtakes:
            return
        others = [run for run in under_way() if run.startswith(f"{asked.dag_id}/")]
        if set(others) - {f"{asked.dag_id}/{asked.run_id}"}:
            start(run_name(f"{service}-{request.version}", at), service, asked.user)
    except Exception:  # whatever it is: the release was requested, and a release manager can start the Dag by hand
        log.exception("Whether %s overtakes other releases of %s could not be decided", asked.run_id, service)
