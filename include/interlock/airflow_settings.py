"""Put the door in front of Airflow's execution API where it is served alone: `airflow api-server --apps execution`.

Airflow loads no plugin there, but it imports ``airflow_local_settings`` in each of its processes. The project has one
in ``plugins/``, which is on Airflow's path behind all else. An installation with an ``airflow_local_settings.py`` of
its own imports this module there; without it, releases find that their execution API is not guarded and do not start
(docs/platform-engineer.md).
"""

from __future__ import annotations

from functools import wraps
from typing import Any
from uuid import uuid4

import wrapt

__all__: list[str] = []

ASYNC_BEHIND_A_POOL: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
}
"""For ``[database] sql_alchemy_connect_args_async`` behind PgBouncer, which gives one session of PostgreSQL's to many
clients, transaction by transaction: asyncpg would give their statements the same names."""


@wrapt.when_imported("airflow.api_fastapi.app")
def guard_execution_api(module: Any) -> None:
    """Have Airflow's app made with the door around it, also without plugins."""
    create = module.create_app

    @wraps(create)
    def create_guarded(apps: str = "all") -> Any:
        from interlock.console.control.middleware import ReleaseControl

        app = create(apps)
        if not any(one.cls is ReleaseControl for one in app.user_middleware):
            app.add_middleware(ReleaseControl)
        return app

    module.create_app = create_guarded
