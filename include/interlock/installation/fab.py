"""FAB's security manager, outside of Airflow's API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from interlock.domain.errors import AssetMissing


@contextmanager
def security_manager() -> Iterator[Any]:
    """Yield FAB's security manager with Airflow's own roles in place; None if another auth manager is in force.

    :raises AssetMissing: Airflow's database does not answer, or has no tables yet.
    """
    from airflow.api_fastapi.app import get_auth_manager_cls
    from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
    from airflow.utils.db import check_migrations
    from sqlalchemy.exc import SQLAlchemyError

    try:
        check_migrations(0)
    except (SQLAlchemyError, TimeoutError) as error:
        raise AssetMissing(
            "Airflow's database does not answer, or its tables are not those of this version of Airflow.",
            who="the platform engineer",
            next_step="set [database] sql_alchemy_conn as for the scheduler, run airflow db migrate, then try again",
        ) from error
    if not issubclass(get_auth_manager_cls(), FabAuthManager):
        yield None
        return
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as appbuilder:
        yield appbuilder.sm
