"""The processes of the stack."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from interlock.estate.airflow import witness
from interlock.estate.settings import LOOPBACK, Settings

from . import cluster, cluster_servers, postgres


class Component(NamedTuple):
    """A process of the stack.

    :param at_once: started with the supervisor; the others wait until the database is provisioned.
    :param seconds_to_stop: how long it may take to end by itself.
    :param variables: that it has beside those of all, without secrets.
    """

    name: str
    title: str
    command: tuple[str, ...]
    at_once: bool = False
    seconds_to_stop: int = 5
    stop_signal: str = "TERM"
    variables: Mapping[str, str] = MappingProxyType({})


def components(settings: Settings) -> tuple[Component, ...]:
    """Return the processes of the stack, in the order in which they start."""
    servers = (
        Component("postgres", "PostgreSQL", tuple(postgres.server_command(settings)), True, 10, "INT"),
        Component("estate", "Embedded estate", (sys.executable, "-m", "interlock.estate.world.servers"), True),
    )
    return (*servers, *(_of_a_cluster(settings) if settings.engine == "cluster" else _of_one_machine(settings)))


def airflow_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of Airflow's components: what waits until the database is provisioned."""
    return tuple(component.name for component in components(settings) if not component.at_once)


def api_servers(settings: Settings) -> dict[str, str]:
    """Return the URL of each API server by its name: on a cluster each behind the proxy, else the only one."""
    if settings.engine != "cluster":
        return {"api-server": settings.airflow_url}
    ports = (settings.api_1_port, settings.api_2_port)
    return {f"api-server-{number}": f"http://{LOOPBACK}:{port}" for number, port in enumerate(ports, start=1)}


def kind_of(name: str) -> str:
    """Return what a component is, of which a cluster has several: ``scheduler`` of ``scheduler-2``."""
    beginning, _, number = name.rpartition("-")
    return beginning if number.isdigit() else name


def _of_a_cluster(settings: Settings) -> Iterator[Component]:
    for name, (title, command) in cluster_servers.commands(settings).items():
        yield Component(name, title, command, True)
    for node in cluster.nodes(settings):
        variables = cluster.variables_of(settings, node)
        yield Component(node.name, node.title, node.command, variables=variables, seconds_to_stop=node.seconds_to_stop)


def _of_one_machine(settings: Settings) -> tuple[Component, ...]:
    python, apart = (sys.executable, "-m"), partial(witness.apart, settings)
    airflow, preloaded = (*python, "airflow"), (*python, "interlock.estate.stack.preloaded")
    return (
        Component(
            "api-server",
            "Airflow API server and UI",
            (*airflow, "api-server"),
            variables=witness.of_the_api_server(settings),
        ),
        # Their log servers listen on every address of the machine; the API server reads the same files itself.
        Component("scheduler", "Airflow scheduler", apart((*preloaded, "scheduler", "--skip-serve-logs"))),
        Component("dag-processor", "Airflow Dag processor", apart((*preloaded, "dag-processor"))),
        Component("triggerer", "Airflow triggerer", apart((*airflow, "triggerer", "--skip-serve-logs"))),
    )


def log_of(settings: Settings, name: str) -> Path:
    """Return the log of a component."""
    return settings.logs / f"{name}.log"
