"""The servers of ``make cluster`` that are not Airflow's: PgBouncer, the broker, and the proxy of the API servers.

They are programs of Debian. What they read is generated; passwords are in files that only their owner may read, and
that do not exist for the nodes that run tasks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from interlock.adapters.private_files import secret, write_private
from interlock.domain.errors import AssetMissing
from interlock.estate.settings import LOOPBACK, Settings

from . import postgres

PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian has servers, and a user's PATH often has not."""
STORAGE_FILE = "INTERLOCK_LOGIN_LIMITS_URL_FILE"
"""As console/auth/guesses.py has it, which brings Airflow."""
CONNECTIONS_OF_A_POOL = 20
"""To PostgreSQL, by database and role; there are three roles, and PostgreSQL takes 100 connections."""


class Program(NamedTuple):
    """A program that the cluster needs: its names, the first found is taken, and Debian's package."""

    names: tuple[str, ...]
    package: str


POOL = Program(("pgbouncer",), "pgbouncer")
BROKER = Program(("valkey-server", "redis-server"), "redis-server")
PROXY = Program(("haproxy",), "haproxy")


def find(program: Program) -> str | None:
    """Return the path of a program; None: it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    return next((found for name in program.names if (found := shutil.which(name, path=path))), None)


def check_programs(programs: Iterable[Program] = (POOL, BROKER, PROXY)) -> None:
    """Raise AssetMissing with what is not installed, before anything is started."""
    missing = [program for program in programs if not find(program)]
    if missing:
        packages = " ".join(program.package for program in missing)
        raise AssetMissing(
            f"make cluster needs programs that are not installed: "
            f"{', '.join(' or '.join(program.names) for program in missing)}.",
            who="whoever may install programs here",
            next_step=f"as root of a Debian: apt-get install {packages}; or use one machine's stack: make up",
        )


def commands(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return title and command line of each server, by its name."""
    return {
        # PgBouncer does not run as root either.
        "pgbouncer": ("PgBouncer", (*postgres.as_server_user(), find(POOL) or "pgbouncer", str(pool_file(settings)))),
        "broker": ("Broker", (find(BROKER) or "redis-server", str(broker_file(settings)))),
        "proxy": ("Proxy of the API servers", (find(PROXY) or "haproxy", "-db", "-f", str(proxy_file(settings)))),
    }


def pool_file(settings: Settings) -> Path:
    """Return PgBouncer's configuration."""
    return settings.run / "pgbouncer.ini"


def users_file(settings: Settings) -> Path:
    """Return the file of the roles that PgBouncer lets in, and logs in with."""
    return postgres.secrets_folder(settings) / "pgbouncer_users"


def broker_file(settings: Settings) -> Path:
    """Return the broker's configuration; its password is in it."""
    return postgres.secrets_folder(settings) / "broker.conf"


def proxy_file(settings: Settings) -> Path:
    """Return the proxy's configuration."""
    return settings.run / "haproxy.cfg"


def broker_url_file(settings: Settings) -> Path:
    """Return the file with the URL of the broker, password included."""
    return postgres.secrets_folder(settings) / "broker_url"


def limits_url_file(settings: Settings) -> Path:
    """Return the file with the URL under which API servers count failed log-ins, password included."""
    return postgres.secrets_folder(settings) / "limits_url"


def result_backend_file(settings: Settings) -> Path:
    """Return the file with the URL of the database in which Celery keeps the states of tasks, password included."""
    return postgres.secrets_folder(settings) / "celery_result_backend"


def files(settings: Settings) -> list[Path]:
    """Return the files of the servers that no node may read."""
    return [users_file(settings), broker_file(settings)]


def of_the_api_server(settings: Settings) -> dict[str, str]:
    """Return the variables that only API servers have."""
    return {STORAGE_FILE: str(limits_url_file(settings))}


def write_files(settings: Settings) -> None:
    """Write what the servers and their clients read."""
    password = secret(postgres.secrets_folder(settings) / "broker")
    broker = f"redis://:{password}@{LOOPBACK}:{settings.broker_port}"
    write_private(broker_url_file(settings), f"{broker}/0")
    write_private(limits_url_file(settings), f"{broker}/1")
    write_private(result_backend_file(settings), f"db+{postgres.connection_file(settings).read_text()}")
    write_private(users_file(settings), _users(settings))
    write_private(pool_file(settings), _pool(settings))
    write_private(broker_file(settings), _broker(settings, password))
    write_private(proxy_file(settings), _proxy(settings))


def _users(settings: Settings) -> str:
    passwords = {postgres.USER: secret(postgres.secrets_folder(settings) / "postgres_airflow")}
    for role in (postgres.LEDGER_WRITER, postgres.LEDGER_WITNESS):
        passwords[role] = postgres.ledger_password(settings, role)
    return "".join(f'"{role}" "{password}"\n' for role, password in passwords.items())


def _pool(settings: Settings) -> str:
    """A transaction at a time, as Airflow's Helm chart has it: nothing may rest on a session of PostgreSQL's."""
    where = f"host={LOOPBACK} port={settings.postgres_port}"
    return f"""[databases]
{postgres.DATABASE} = {where}
{postgres.LEDGER} = {where}

[pgbouncer]
listen_addr = {LOOPBACK}
listen_port = {settings.pool_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users_file(settings)}
pool_mode = transaction
default_pool_size = {CONNECTIONS_OF_A_POOL}
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
stats_period = 3600
"""


def _broker(settings: Settings, password: str) -> str:
    """Messages survive a restart: a task that was sent and not begun is not lost."""
    folder = settings.state / "broker"
    folder.mkdir(mode=0o700, exist_ok=True)
    return f"""bind {LOOPBACK}
port {settings.broker_port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


def _proxy(settings: Settings) -> str:
    """A request goes to another server only if it did not reach the first: it may be a trigger or an answer.

    A server that is only busy gets no more requests than another, but it stays: without any, all tasks fail.
    """
    return f"""global
    maxconn 2000
    log stdout format raw local0 notice

defaults
    mode http
    log global
    option dontlognull
    option redispatch
    retries 3
    retry-on conn-failure
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout queue 30s
    timeout check 20s

frontend airflow
    bind {LOOPBACK}:{settings.airflow_port}
    default_backend api-servers

backend api-servers
    balance leastconn
    option httpchk GET /api/v2/version
    default-server check inter 2s fall 3 rise 1
    server api-server-1 {LOOPBACK}:{settings.api_1_port}
    server api-server-2 {LOOPBACK}:{settings.api_2_port}
"""
