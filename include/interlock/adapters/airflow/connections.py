"""Connections as an Airflow has them, for commands that run in its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from interlock.domain.errors import AssetMissing

ARTIFACTS = "interlock_artifacts"
AIRFLOW = "interlock_airflow"
BOARD_CLERK = "interlock_board_clerk"
CONDUCTOR = "interlock_conductor"
LEDGER = "interlock_ledger"
SIGNING_KEY = "interlock_signing_key"
SMTP = "interlock_smtp"
CONNECTIONS = (ARTIFACTS, AIRFLOW, BOARD_CLERK, CONDUCTOR, LEDGER, SIGNING_KEY, SMTP)
"""The connections of the installation; services and environments name theirs in the catalogue."""


def stored_connection(conn_id: str) -> Any:
    """Return a connection as Airflow has it now, whichever of its places it comes from.

    The connection is Airflow's own object, with the secrets in it.

    :raises AssetMissing: Airflow has no such connection.
    """
    from airflow.exceptions import AirflowNotFoundException
    from airflow.models.connection import Connection

    try:
        return Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException as error:
        raise AssetMissing(
            f"Airflow here has no connection {conn_id}.",
            who="the platform engineer",
            next_step="run this where Airflow runs, with its configuration (docs/platform-engineer.md lists them)",
        ) from error


def has_connection(conn_id: str) -> bool:
    """Tell whether Airflow has a connection."""
    try:
        stored_connection(conn_id)
    except AssetMissing:
        return False
    return True


@contextmanager
def shown_to_hooks(conn_id: str) -> Iterator[None]:
    """Let hooks of providers find a connection in a process that Airflow did not start: they ask its environment.

    :raises AssetMissing: Airflow has no such connection.
    """
    name = f"AIRFLOW_CONN_{conn_id.upper()}"
    before = os.environ.get(name)
    os.environ[name] = stored_connection(conn_id).as_json()
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
