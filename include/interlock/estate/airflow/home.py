"""Airflow's own settings for the embedded stack: everything by environment variables, secrets by file."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet

from interlock.adapters.build.sandbox_view import TOOLS
from interlock.adapters.private_files import secret
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import cluster
from interlock.estate.stack.leftovers import MARK
from interlock.estate.stack.postgres import connection_file, direct_connection_file, secrets_folder
from interlock.locations import PROJECT

from . import witness

NOT_INHERITED = ("AIRFLOW", "_AIRFLOW", "GIT_", "INTERLOCK_", "MAKE", "MFLAGS", "PYTHON")
"""Beginnings of the variables that would make the stack depend on who starts it."""


def airflow_environment(settings: Settings, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of every process of the stack.

    :param base: the caller's environment, of which what does no harm is kept; by default this process's own.
    """
    base = os.environ if base is None else base
    kept = {name: value for name, value in base.items() if not name.startswith(NOT_INHERITED)}
    return {
        **kept,
        **settings.to_environment(),
        MARK: str(settings.state),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)]),
        "PYTHONPATH": str(PROJECT / "include"),
        "TMPDIR": str(temporary_folder(settings)),
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # or Airflow's process titles overwrite the environment, and with it the mark
        "LANG": base.get("LANG", "C.UTF-8"),
        **build_tools(base),
        **without_proxy(settings, base),
        **places(settings),
        **speed(settings),
        **secrets_of(settings),
        **witness.of_all(settings),
        **(cluster.of_all(settings) if settings.engine == "cluster" else {}),
    }


def for_migrations(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of what migrates Airflow's database: it asks PostgreSQL itself, not a pool."""
    direct = shlex.join(["cat", str(direct_connection_file(settings))])
    return {**environment, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": direct}


def build_tools(base: Mapping[str, str]) -> dict[str, str]:
    """Return where builds find tools that are not the machine's: the caller's, and a Python of their own."""
    given = base.get(TOOLS)
    own = Path(sys.prefix, "builds")  # bootstrap.py makes it
    return {TOOLS: os.pathsep.join([*([given] if given else []), *([str(own)] if own.is_dir() else [])])}


def temporary_folder(settings: Settings) -> Path:
    """Return the folder of temporary files: inside the state, where what a crash leaves is found."""
    return settings.state / "tmp"


def without_proxy(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep a proxy of the machine out of what stays on the machine."""
    given = base.get("no_proxy") or base.get("NO_PROXY")
    local = [LOOPBACK, "localhost", *(host.address for host in settings.hosts())]
    exempt = ",".join([given, *local] if given else local)
    return {"no_proxy": exempt, "NO_PROXY": exempt}


def places(settings: Settings) -> dict[str, str]:
    """Return where Airflow finds things and where it listens."""
    logs = settings.logs / "airflow"
    return {
        "AIRFLOW_HOME": str(settings.state / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__AUTH_MANAGER": "interlock.console.auth.manager.InterlockFabAuthManager",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{__name__}.hostname",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__BASE_URL": settings.airflow_url,
        "AIRFLOW__API__INSTANCE_NAME": "Interlock",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(logs),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(logs / "dag_processor"),
        # There are no log servers (components.py); a connection to a port without a listener is refused at once.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": "1",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": "1",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def speed(settings: Settings) -> dict[str, str]:
    """Return settings for one small machine: each saves measured time, or a wait after a crash."""
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": str(settings.idle_seconds),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(settings.parse_seconds),
        # Airflow's default delays the second of two edits of the catalogue by 30 seconds.
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "180",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
        # After a crash, what was under way is taken up within a minute instead of five.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "30",
    }


def secrets_of(settings: Settings) -> dict[str, str]:
    """Return commands that print the secrets, so that they are in no environment; what is missing is made up."""
    folder = secrets_folder(settings)
    secret(folder / "fernet_key", Fernet.generate_key().decode())
    secret(folder / "jwt_secret")
    secret(folder / "api_secret_key")
    files = {
        "AIRFLOW__CORE__FERNET_KEY_CMD": folder / "fernet_key",
        "AIRFLOW__API_AUTH__JWT_SECRET_CMD": folder / "jwt_secret",
        "AIRFLOW__API__SECRET_KEY_CMD": folder / "api_secret_key",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": connection_file(settings),
    }
    return {name: shlex.join(["cat", str(path)]) for name, path in files.items()}


def hostname() -> str:
    """Return the name of a cluster's node; else that under which components find each other's logs: one machine's."""
    return os.environ.get("INTERLOCK_NODE") or LOOPBACK
