"""The processes of ``make cluster``: what an organisation's Airflow has, on one machine.

Two schedulers, API servers, triggerers and Dag processors each, four Celery workers. Each is a *node*: it has folders
of its own for temporary files, logs and Airflow's home, and the folders of the others do not exist for it. So what
travels between nodes travels through PostgreSQL, the broker or S3, as between machines.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from interlock.adapters.permits.installation import API_SERVERS
from interlock.adapters.private_files import secret
from interlock.estate.airflow import witness
from interlock.estate.settings import ACCESS_KEY, AIRFLOW_BUCKET, LOOPBACK, REGION, SECRET_KEY, Settings
from interlock.installation.project import BUNDLE

from . import cluster_servers as servers
from .postgres import secrets_folder

TWICE, WORKERS, TASKS_OF_WORKER = 2, 4, 2
"""How many there are of each component; how many workers, and how many tasks each runs at a time."""
STORAGE = "interlock_storage"
"""The connection with which a cluster's Airflow reaches its bucket."""
LARGE_RESULT_BYTES = 1024
"""Results of tasks from this size on are in S3."""


class Node(NamedTuple):
    """A component of Airflow with folders of its own."""

    name: str
    title: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = MappingProxyType({})
    seconds_to_stop: int = 5


def nodes(settings: Settings) -> Iterator[Node]:
    """Yield Airflow's components, in the order in which they start."""
    python = (sys.executable, "-m")
    airflow, preloaded = (*python, "airflow"), (*python, "interlock.estate.stack.preloaded")
    # Log servers listen on every address of the machine; logs are in S3 when a task has ended.
    quiet = "--skip-serve-logs"
    told = witness.of_the_api_server(settings) | servers.of_the_api_server(settings)
    for number, port in enumerate((settings.api_1_port, settings.api_2_port), start=1):
        command = (*airflow, "api-server", "--host", LOOPBACK, "--port", str(port))
        yield Node(f"api-server-{number}", f"Airflow API server {number}", command, told)
    for number in range(1, TWICE + 1):
        yield _apart(settings, f"scheduler-{number}", f"Airflow scheduler {number}", *airflow, "scheduler", quiet)
    for number in range(1, WORKERS + 1):
        worker = ("celery", "worker", "--celery-hostname", f"worker-{number}@interlock", quiet, "--without-gossip")
        size = ("--concurrency", str(TASKS_OF_WORKER))
        yield _apart(settings, f"worker-{number}", f"Celery worker {number}", *preloaded, *worker, *size)
    for number in range(1, TWICE + 1):
        title = f"Airflow Dag processor {number}"
        yield _apart(settings, f"dag-processor-{number}", title, *preloaded, "dag-processor")
    for number in range(1, TWICE + 1):
        yield _apart(settings, f"triggerer-{number}", f"Airflow triggerer {number}", *airflow, "triggerer", quiet)


def _apart(settings: Settings, name: str, title: str, *command: str) -> Node:
    """Return a node for which neither the witness's secrets exist nor the folders of other nodes."""
    return Node(name, title, witness.apart(settings, command, also=others_folders(settings, name)))


def folder(settings: Settings, name: str) -> Path:
    """Return the folder of a node."""
    return settings.state / "nodes" / name


def names() -> tuple[str, ...]:
    """Return the names of all nodes."""
    twice = ("api-server", "scheduler", "dag-processor", "triggerer")
    found = [f"{kind}-{number}" for kind in twice for number in range(1, TWICE + 1)]
    return (*found, *(f"worker-{number}" for number in range(1, WORKERS + 1)))


def others_folders(settings: Settings, name: str) -> list[Path]:
    """Return what a node does not have: what is kept in S3 instead, servers' files, and the folders of the others."""
    alone = [folder(settings, other) for other in names() if other != name]
    return [settings.artifacts, settings.state / "calendars", settings.objects, *servers.files(settings), *alone]


def make_folders(settings: Settings) -> None:
    """Make the folders of all nodes, and those that are hidden from them: what is not there cannot be hidden."""
    for name in names():
        for inside in ("airflow", "logs", "tmp"):
            (folder(settings, name) / inside).mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (settings.artifacts, settings.state / "calendars", settings.objects):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)


def variables_of(settings: Settings, node: Node) -> dict[str, str]:
    """Return the variables that a node has beside those of all."""
    own = folder(settings, node.name)
    return {
        **node.variables,
        "INTERLOCK_NODE": node.name,
        "AIRFLOW_HOME": str(own / "airflow"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(own / "logs"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(own / "logs" / "dag_processor"),
        "INTERLOCK_CALENDAR_COPIES": str(own / "calendars"),
        "TMPDIR": str(own / "tmp"),
    }


def of_all(settings: Settings) -> dict[str, str]:
    """Return what Airflow's settings are on a cluster, beside those of one machine."""
    storage = {"endpoint_url": settings.aws_endpoint, "region_name": REGION}
    login = {"conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY, "extra": storage}
    printed = {
        "AIRFLOW__CELERY__BROKER_URL_CMD": servers.broker_url_file(settings),
        "AIRFLOW__CELERY__RESULT_BACKEND_CMD": servers.result_backend_file(settings),
    }
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": "32",
        **{name: shlex.join(["cat", str(path)]) for name, path in printed.items()},
        "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
        # A bundle, as an installation has it: each node makes the Dag files for itself.
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE]),
        "INTERLOCK_DAGS": str(BUNDLE["name"]),
        API_SERVERS: ",".join(f"http://{LOOPBACK}:{port}" for port in (settings.api_1_port, settings.api_2_port)),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_ASYNC_BEHIND_A_POOL": "interlock.airflow_settings.ASYNC_BEHIND_A_POOL",
        f"AIRFLOW_CONN_{STORAGE.upper()}": json.dumps(login),
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{AIRFLOW_BUCKET}/logs",
        "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": STORAGE,
        "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"s3://{STORAGE}@{AIRFLOW_BUCKET}/results",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": str(LARGE_RESULT_BYTES),
    }


def prepare(settings: Settings) -> None:
    """Write what the cluster's servers read, and make the folders of its nodes."""
    secret(secrets_folder(settings) / "broker")
    make_folders(settings)
    servers.write_files(settings)
