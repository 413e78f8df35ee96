"""The processes of the stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from interlock.estate.airflow import witness
from interlock.estate.settings import Settings

from . import postgres


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
    python, apart = (sys.executable, "-m"), partial(witness.apart, settings)
    airflow, preloaded = (*python, "airflow"), (*python, "interlock.estate.stack.preloaded")
    return (
        Component("postgres", "PostgreSQL", tuple(postgres.server_command(settings)), True, 10, "INT"),
        Component("estate", "Embedded estate", (*python, "interlock.estate.world.servers"), True),
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
