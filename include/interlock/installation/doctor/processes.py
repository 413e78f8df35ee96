"""Checks of Airflow's processes: API servers, execution API, scheduler, triggerer, Dag processor, and its Dags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx

import interlock
from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.airflow.execution_api import Served, refuse_unguarded, served_by
from interlock.adapters.airflow.rest_api import AirflowApi, url_of
from interlock.adapters.catalogue.catalogue import dags_of_catalogue, version_of
from interlock.adapters.permits.installation import api_servers, seen
from interlock.adapters.signing.signing import key_id
from interlock.adapters.signing.witness import witness_key
from interlock.console.control.own_dags import home
from interlock.domain.dag_names import WATCHMEN, stranger
from interlock.domain.permits.installation import LOAD_PLUGIN, MAX_CLOCK_SKEW, faults_of_server
from interlock.locations import catalogue_folder

from .inspection import Finding, well, wrong

HELD_UP = timedelta(minutes=2)
"""After this time, a question that was answered must have gone on, and a triggerer that is gone been replaced."""
GOES_ON = {
    "awaiting_input": "airflow scheduler",
    "deferred": "airflow triggerer",
    "scheduled": "airflow scheduler; see that pools and parallelism have room",
    "queued": "start the workers of the executor, such as airflow celery worker",
}
"""State of a task that has its answer: what has it go on."""
COMPONENTS = {
    "scheduler": "airflow scheduler",
    "triggerer": "airflow triggerer",
    "dag_processor": "airflow dag-processor",
}


def api_server(url: str) -> Iterator[Finding]:
    """Look at one API server: is it guarded, can it sign, are version, catalogue and clock those of this machine?"""
    name = f"API server {url}"
    said = served_by(f"{url.rstrip('/')}/execution")
    if said is None:
        yield wrong(name, "It is not guarded: Interlock's plugin is not loaded.", LOAD_PLUGIN)
        return
    faults = [*_differences(name, said), *_clock(name, said)]
    yield from faults
    if not faults:
        yield well(name, "It is guarded, signs answers, and has the same catalogue and clock as this machine.")


def _differences(name: str, said: Served) -> Iterator[Finding]:
    for fault in faults_of_server(seen("", said), key_id(witness_key())):
        yield wrong(name, fault.what, fault.fix)
    here = version_of(catalogue_folder())
    if said.version != interlock.__version__:
        yield wrong(
            name,
            f"It runs Interlock {said.version}, and this machine has {interlock.__version__}.",
            "install the same version everywhere and restart",
        )
    if said.catalogue != here:
        yield wrong(
            name,
            f"Its catalogue has the version {said.catalogue or 'unknown'}, and the one here {here}.",
            "deploy the same catalogue to all components (INTERLOCK_CATALOGUE)",
        )


def _clock(name: str, said: Served) -> Iterator[Finding]:
    if said.date is None:
        return
    skew = max(said.asked - said.date, said.date - said.answered)
    if skew > MAX_CLOCK_SKEW + timedelta(seconds=1):  # the header has whole seconds
        yield wrong(
            name, f"Its clock differs by {skew.total_seconds():.0f} s from this machine's.", "synchronise (NTP)"
        )


def execution_api() -> Iterator[Finding]:
    """Look whether tasks of other Dags are kept out of releases at the execution API that tasks use."""
    from airflow.configuration import conf

    url = conf.get("core", "execution_api_server_url", fallback="") or f"{public_url()}/execution/"
    refuse_unguarded(url)
    yield well("execution API", f"{url} is guarded.")


def public_url() -> str:
    """Return where releases read Airflow's API: the address of the connection ``interlock_airflow``."""
    return url_of(stored_connection("interlock_airflow"))


def components() -> Iterator[Finding]:
    """Ask Airflow which of its components are alive."""
    health = httpx.get(f"{public_url()}/api/v2/monitor/health", timeout=20).raise_for_status().json()
    for name, command in COMPONENTS.items():
        about = health.get(name) or {}
        key = next((key for key in about if key.startswith("latest_")), "")
        if about.get("status") == "healthy":
            yield well(name.replace("_", " "), "It is alive.")
        else:
            last = about.get(key) or "never"
            yield wrong(name.replace("_", " "), f"It is not alive; last heard of: {last}.", command)


def accounts() -> Iterator[Finding]:
    """Log in as each service account."""
    for conn_id in ("interlock_airflow", "interlock_board_clerk", "interlock_conductor"):
        with AirflowApi.of(stored_connection(conn_id)) as api:
            yield well("service accounts", f"{api.user} can log in ({conn_id}).")


def dags() -> Iterator[Finding]:
    """Compare Airflow's Dags with those of the catalogue: there, from Interlock's files, not paused."""
    where, faults = home(), 0
    with AirflowApi.of(stored_connection("interlock_airflow")) as api:
        seen = {name.lower(): one for name, one in api.dags().items()}
    for name in sorted(dags_of_catalogue(catalogue_folder())):
        found = seen.get(name)
        if found is None or found.is_stale:
            what, fix = f"Airflow does not have the Dag {name}.", "airflow dags list-import-errors"
        elif why := stranger(name, found.place, where):
            what, fix = why, "set INTERLOCK_DAGS to the bundle of Interlock's Dags, or remove the other file"
        elif found.is_paused and (name in WATCHMEN or not name.startswith("train_")):
            what, fix = f"The Dag {name} is paused.", f"airflow dags unpause {name}"
        else:
            continue
        faults += 1
        yield wrong("Dags", what, fix)
    if not faults:
        yield well("Dags", "All Dags of the catalogue are there, from Interlock's files, and not paused.")


def questions() -> Iterator[Finding]:
    """Look for questions that were answered, and whose tasks did not go on."""
    late = datetime.now(UTC) - HELD_UP
    wanted = {"response_received": True, "state": list(GOES_ON), "limit": 100}
    with AirflowApi.of(stored_connection("interlock_airflow")) as api:
        rows: Sequence[dict[str, Any]] = api.get("dags/~/dagRuns/~/hitlDetails", **wanted)["hitl_details"]
    stuck = [row for row in rows if _at(row.get("responded_at")) < late]
    for row in stuck[:10]:
        task = row.get("task_instance") or {}
        state = str(task.get("state"))
        yield wrong(
            "questions",
            f"{_named(task)} was answered at {row.get('responded_at')}, and is {state} since.",
            GOES_ON.get(state, GOES_ON["scheduled"]),
        )
    if not stuck:
        yield well("questions", "No answered question is held up.")


def waits() -> Iterator[Finding]:
    """Look for tasks of Interlock's that wait in a triggerer that is gone, or in none."""
    late, ours = datetime.now(UTC) - HELD_UP, dags_of_catalogue(catalogue_folder())
    with AirflowApi.of(stored_connection("interlock_airflow")) as api:
        rows = api.get("dags/~/dagRuns/~/taskInstances", state="deferred", limit=100)["task_instances"]
    stuck = [(row, why) for row in rows if str(row.get("dag_id")).lower() in ours and (why := _why_stuck(row, late))]
    for row, why in stuck[:10]:
        yield wrong("waits", f"{_named(row)} waits, {why}.", "airflow triggerer; another one takes over what waits")
    if not stuck:
        yield well("waits", "Every task that waits has a triggerer that is alive.")


def _why_stuck(row: dict[str, Any], late: datetime) -> str:
    """Say why nothing wakes a task that waits; empty: a triggerer that is alive does."""
    trigger, job = row.get("trigger") or {}, row.get("triggerer_job") or {}
    if not job:
        return "and no triggerer has taken it over" if _at(trigger.get("created_date")) < late else ""
    heard = job.get("latest_heartbeat")
    where = job.get("hostname") or "unknown"
    return f"and its triggerer on {where} was last heard of at {heard}" if _at(heard) < late else ""


def _named(task: dict[str, Any]) -> str:
    return f"{task.get('dag_id')}, {task.get('dag_run_id')}: {task.get('task_id')}"


def _at(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.now(UTC)


def servers(urls: Sequence[str]) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """Yield the check of each API server; without addresses, of those that permits ask."""
    urls = urls or api_servers()
    if not urls:
        yield "API server", lambda: api_server(public_url())
    for url in urls:
        yield f"API server {url}", partial(api_server, url)
