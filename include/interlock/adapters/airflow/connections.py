"""Connections as an Airflow has them, for commands that run in its environment."""

from __future__ import annotations

from typing import Any

from interlock.domain.errors import AssetMissing


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
