"""Wait until a component of the stack is ready, or say why it does not become ready."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial

import httpx

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.dag_names import dag_of_release
from interlock.estate.airflow.accounts import passwords
from interlock.estate.commands.client import Person
from interlock.estate.settings import Settings
from interlock.estate.steps import StackError

from . import components, process_supervisor
from .watch import health


def wait(
    settings: Settings,
    supervisor: subprocess.Popen[bytes] | None,
    name: str,
    ready: Callable[[], bool],
    *,
    seconds: float,
) -> None:
    """Wait for a component; fail at once if the supervisor has ended or has given the component up."""
    deadline = time.monotonic() + seconds
    while not ready():
        if supervisor and supervisor.poll() is not None:
            raise StackError("The supervisor ended.", log=components.log_of(settings, "supervisor"))
        if process_supervisor.states(settings).get(name, {}).get("statename") == "FATAL":
            raise StackError(f"{name} does not start.", log=components.log_of(settings, name))
        if time.monotonic() > deadline:
            raise StackError(f"{name} is not ready after {seconds:.0f} s.", log=components.log_of(settings, name))
        time.sleep(0.1)


def wait_for_api_servers(settings: Settings, supervisor: subprocess.Popen[bytes]) -> None:
    """Wait until each API server takes requests of tasks.

    Before the first of them, an API server builds the models of all versions of the execution API, and answers nothing
    else meanwhile: some seconds, on a busy machine two minutes. Nothing must depend on it then.
    """
    for name, url in components.api_servers(settings).items():
        wait(settings, supervisor, name, partial(takes_tasks, url), seconds=300)


def takes_tasks(url: str) -> bool:
    """Say whether an API server answers at the execution API."""
    try:
        return httpx.get(f"{url}/execution/health", timeout=120, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def wait_for_airflow(settings: Settings, supervisor: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    """Wait until every component is healthy and every service has its Dag or an import error."""
    names = {components.kind_of(name): name for name in components.airflow_of(settings)}  # of several, the last
    say("waiting for the API server")
    wait_for_api_servers(settings, supervisor)
    for kind in ("scheduler", "triggerer", "dag-processor"):
        say(f"waiting for the {kind}")
        healthy = partial(is_healthy, settings, kind.replace("-", "_"))
        wait(settings, supervisor, names[kind], healthy, seconds=240)
    say("waiting for the Dags")
    services = load_catalogue(settings.catalogue).services
    wanted = {dag_of_release(name) for name in services}
    with Person(settings.airflow_url, "admin", passwords(settings)["admin"]) as admin:
        wait(settings, supervisor, names["dag-processor"], lambda: dags_are_there(admin, wanted), seconds=240)


def is_healthy(settings: Settings, component: str) -> bool:
    """Say whether a component is healthy by Airflow's health page."""
    return bool((health(settings.airflow_url) or {}).get(component, {}).get("status") == "healthy")


def dags_are_there(admin: Person, wanted: set[str]) -> bool:
    """Say whether each service has its Dag, or an import error says why a service has none."""
    there = {dag_id for dag_id, dag in admin.dags().items() if not dag.is_stale}
    return wanted <= there or bool(admin.get("importErrors")["total_entries"])
