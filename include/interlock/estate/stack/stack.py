"""Start and stop the embedded stack.

Everything that the stack writes is in one folder, and every process that it starts is marked with that folder's name.
So a start first stops what an earlier start left, and two stacks do not touch each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape

from interlock.adapters.build import isolation, makers
from interlock.adapters.private_files import write_private
from interlock.estate.airflow import witness
from interlock.estate.airflow.home import airflow_environment, for_migrations, temporary_folder
from interlock.estate.settings import SERVICE, SETTINGS_FILE, TARGET_GROUP, Settings
from interlock.estate.steps import StackError, Steps
from interlock.estate.world import memory, roots
from interlock.locations import PACKAGE, PROJECT

from . import cluster, cluster_servers, components, leftovers, postgres, process_supervisor
from .ports import check_ports
from .readiness import wait, wait_for_airflow, wait_for_api_servers
from .shop_databases import make_shop_databases
from .watch import health

CLAIM = "This folder is the state of an Interlock stack: make down stops it, make reset deletes it.\n"
PROVISIONING = ("console/auth", "estate/airflow")
"""The rooms whose code decides what is in the database."""


def up(settings: Settings, steps: Steps) -> None:
    """Start the stack, unless it runs with the current settings and code."""
    claim(settings)
    with only_one(settings):
        environment = airflow_environment(settings)
        wanted = fingerprint(settings, environment)
        if not runs_as(settings, wanted):
            begin(settings, environment, steps)
            write_private(settings.run / "fingerprint", wanted)
        elif provision_needed(settings):
            run_provision(settings, environment, steps)


def begin(settings: Settings, environment: Mapping[str, str], steps: Steps) -> None:
    """Start everything; stop it again if that fails or is interrupted."""
    (settings.run / "fingerprint").unlink(missing_ok=True)
    with steps.step("Ports and leftovers"):
        leftovers.stop(settings.state)
        if settings.engine == "cluster":
            cluster_servers.check_programs()
        check_ports(settings)
    tell_of_builds(environment, steps)
    try:
        start_all(settings, environment, steps)
    except BaseException:
        leftovers.stop(settings.state, patience=3)
        raise


def tell_of_builds(environment: Mapping[str, str], steps: Steps) -> None:
    """Warn if no build can be isolated on this machine."""
    maker, why_not = makers.find_maker(environment)
    if maker is None:
        told = f"No build is isolated: {why_not}. {isolation.cannot_isolate(why_not).next_step}."
        steps.console.print(f"[yellow]![/] {escape(told)}", highlight=False, soft_wrap=True)


def start_all(settings: Settings, environment: Mapping[str, str], steps: Steps) -> None:
    """Start the database and the estate, provision, then start Airflow."""
    settings.estate_ready.unlink(missing_ok=True)
    shutil.rmtree(temporary_folder(settings), ignore_errors=True)
    temporary_folder(settings).mkdir(mode=0o700)
    with steps.step("PostgreSQL"):
        if postgres.prepare(settings):
            (settings.run / "provisioned").unlink(missing_ok=True)
        witness.prepare(settings)
        if settings.engine == "cluster":
            cluster.prepare(settings)
        supervisor = process_supervisor.start_supervisor(settings, environment)
        wait(settings, supervisor, "postgres", lambda: postgres.is_ready(settings), seconds=120)
        postgres.make_databases(settings)
        make_shop_databases(settings)
        postgres.migrate_ledger(settings)
    if provision_needed(settings):
        run_provision(settings, environment, steps)
    if not witness.can_be_apart():
        steps.console.print(f"[yellow]![/] {witness.TOGETHER}", highlight=False)
    with steps.step("Embedded estate: AWS, hosts, mail, source"):
        wait(settings, supervisor, "estate", settings.estate_ready.exists, seconds=180)
    if why := roots.why_not():
        steps.console.print(
            f"[yellow]![/] hosts share this machine's file system: an absolute destination in an appspec.yml is really "
            f"written here, because {escape(why)}",
            highlight=False,
            soft_wrap=True,
        )
    with steps.step("Airflow") as say:
        for name in components.airflow_of(settings):
            if settings.engine == "cluster" and components.kind_of(name) != "api-server":
                # The proxy refuses at once what has no server behind it, and a task fails by that.
                wait_for_api_servers(settings, supervisor)
                wait(settings, supervisor, "proxy", lambda: health(settings.airflow_url) is not None, seconds=300)
            process_supervisor.start(settings, name)
        wait_for_airflow(settings, supervisor, say)


def run_provision(settings: Settings, environment: Mapping[str, str], steps: Steps) -> None:
    """Provision the database in a process of its own, so that this process need not load Airflow."""
    log = components.log_of(settings, "provision")
    digest = provision_digest(settings)
    with steps.step("Database, roles, accounts, connections"), log.open("w") as output:
        command = [sys.executable, "-m", "interlock.estate.airflow.provision"]
        ended = subprocess.run(
            command, env=for_migrations(settings, environment), cwd=PROJECT, stdout=output, stderr=subprocess.STDOUT
        )
    if ended.returncode:
        raise StackError("Airflow's database could not be provisioned.", log=log)
    for line in log.read_text().splitlines():
        if line.startswith(SETTINGS_FILE.name):
            steps.console.print(f"[yellow]![/] {escape(line)}", highlight=False)
    write_private(settings.run / "provisioned", digest)


def provision_needed(settings: Settings) -> bool:
    """Say whether anything that provisioning reads has changed."""
    stamp = settings.run / "provisioned"
    return not stamp.exists() or stamp.read_text() != provision_digest(settings)


def provision_digest(settings: Settings) -> str:
    """Return the digest of all that provisioning reads."""
    files = [
        SETTINGS_FILE,
        PROJECT / "requirements.lock",
        *sorted(settings.catalogue.rglob("*.yaml")),
        *sorted(path for room in PROVISIONING for path in (PACKAGE / room).rglob("*.py")),
        PACKAGE / "estate/settings.py",
    ]
    return digest_of(files, json.dumps(settings.to_environment(), sort_keys=True))


def digest_of(files: Iterable[Path], *texts: str) -> str:
    """Return a digest of files, with their names, and texts."""
    digest = hashlib.sha256()
    for file in files:
        if file.exists():
            digest.update(f"{file}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def fingerprint(settings: Settings, environment: Mapping[str, str]) -> str:
    """Return a digest of all that a running stack was started with: settings, packages, code."""
    code = sorted([*(PROJECT / "include/interlock").rglob("*.py"), *(PROJECT / "plugins").rglob("*.py")])
    own = {name: value for name, value in environment.items() if name.startswith(("AIRFLOW", "INTERLOCK_"))}
    config = process_supervisor.supervisor_config(settings)
    return digest_of([PROJECT / "requirements.lock", *code], config, json.dumps(own, sort_keys=True))


def runs_as(settings: Settings, wanted: str) -> bool:
    """Say whether all components run and are healthy, and were started with the current settings and code."""
    stamp = settings.run / "fingerprint"
    if not stamp.exists() or stamp.read_text() != wanted:
        return False
    known = process_supervisor.states(settings)
    names = [component.name for component in components.components(settings)]
    if not all(known.get(name, {}).get("statename") == "RUNNING" for name in names):
        return False
    page = health(settings.airflow_url) or {}
    return all(page.get(key, {}).get("status") == "healthy" for key in ("metadatabase", "scheduler", "dag_processor"))


def claim(settings: Settings) -> None:
    """Make the folder of the state; refuse a folder with other content, because ``reset`` deletes it."""
    state, elsewhere = settings.state, "name another folder with INTERLOCK_STATE"
    marker = state / "README"
    try:
        if state.exists() and not marker.exists() and any(state.iterdir()):
            raise StackError(
                f"{state} is not empty and not the state of an Interlock stack.",
                next_step=f"{elsewhere}, or empty this one",
            )
        for folder in (state, settings.run, settings.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not marker.exists():
            marker.write_text(CLAIM)
    except OSError as error:
        raise StackError(
            f"{state} cannot be the folder of the state: {error.strerror}.", next_step=elsewhere
        ) from error


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the lock of the stack, so that no other process starts or stops it; it ends with the process."""
    path = settings.run / "lock"
    with path.open("a+") as lock:
        for attempt in range(50):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 49:
                    lock.seek(0)
                    raise StackError(
                        f"Another make works on the stack in {settings.state} (pid {lock.read().strip()}).",
                        next_step="wait for it, or stop it with Ctrl-C where it runs",
                    ) from None
                time.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def renew_hosts(settings: Settings) -> None:
    """Replace the sample's hosts by new ones; other services' hosts, Airflow and its history stay."""
    with only_one(settings):
        with process_supervisor.supervisor(settings) as rpc:
            rpc.stopProcess("estate")
        settings.estate_ready.unlink(missing_ok=True)
        kept = memory.read_memory(settings)
        memory.write(settings, kept.without(SERVICE, TARGET_GROUP))
        names = {*(host.name for host in settings.hosts()), *(one.tags.get("Name") for one in kept.hosts_of(SERVICE))}
        for folder in settings.host_folders.iterdir():
            if folder.name in names:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(settings.host_root(folder.name), ignore_errors=True)
        process_supervisor.start(settings, "estate")
        wait(settings, None, "estate", settings.estate_ready.exists, seconds=90)


def down(settings: Settings) -> int:
    """Stop everything that the stack started, and return how many processes that were."""
    if not settings.run.exists():
        return leftovers.stop(settings.state)
    with only_one(settings):
        (settings.run / "fingerprint").unlink(missing_ok=True)
        stopped = leftovers.stop(settings.state)
        process_supervisor.socket_of(settings).unlink(missing_ok=True)
        settings.estate_ready.unlink(missing_ok=True)
    return stopped


def reset(settings: Settings) -> None:
    """Stop the stack and delete its state."""
    if not settings.state.exists():
        return
    claim(settings)
    down(settings)
    shutil.rmtree(settings.state)
