"""Start, stop and look at the embedded stack: ``make up``, ``down``, ``status``, ``logs`` and ``reset``.

Everything that the stack writes is in one folder, and every process that it starts is marked with that folder's name.
So starting begins with stopping what an earlier try left, however that ended, and two stacks never meet.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from include.interlock.adapters.catalogue import load_catalogue
from include.interlock.domain.errors import ReleaseError

from . import components, leftovers, postgres, provision
from .accounts import Account, accounts, passwords
from .airflow_home import airflow_environment, temporary_folder
from .ports import check_ports
from .private_files import write_private
from .settings import PROJECT, Settings

AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
CLAIM = "This folder is the state of an Interlock stack: make down stops it, make reset throws it away.\n"
PROVISIONING = ("accounts", "astro_settings", "connections", "provision", "settings")
"""The modules that decide what is in the database."""
TAIL = 20
"""Lines of a log that are shown when its component fails."""


class StackError(ReleaseError):
    """The stack could not be started; ``log`` is the file that says more."""

    def __init__(self, what: str, *, log: Path | None = None, next_step: str = "") -> None:
        super().__init__(what, next_step=next_step)
        self.log = log


class Steps:
    """Says what is being done: a spinner while it lasts, a line with its seconds when it is over."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show a step while the block runs; what the block calls with a text is shown beside the title."""
        began = time.monotonic()
        with self.console.status(title) as status:
            yield lambda detail: status.update(f"{title} [dim]{escape(detail)}[/]")
        seconds = time.monotonic() - began
        self.console.print(f"[green]✓[/] {title} [dim]{seconds:.1f} s[/]", highlight=False)


# --- up --------------------------------------------------------------------------------------------------------------


def up(settings: Settings, steps: Steps) -> None:
    """Start the stack, or leave it alone when it runs and is what it should be."""
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
    """Start everything from nothing; when that fails or is interrupted, nothing is left running."""
    (settings.run / "fingerprint").unlink(missing_ok=True)
    with steps.step("Ports and leftovers"):
        leftovers.stop(settings.state)
        check_ports(settings)
    try:
        start_all(settings, environment, steps)
    except BaseException:
        leftovers.stop(settings.state, patience=3)
        raise


def start_all(settings: Settings, environment: Mapping[str, str], steps: Steps) -> None:
    """Start the database and the estate, provision, then start Airflow."""
    settings.estate_ready.unlink(missing_ok=True)
    shutil.rmtree(temporary_folder(settings), ignore_errors=True)
    temporary_folder(settings).mkdir(mode=0o700)
    with steps.step("PostgreSQL"):
        if postgres.prepare(settings):
            (settings.run / "provisioned").unlink(missing_ok=True)
        supervisor = components.start_supervisor(settings, environment)
        wait(settings, supervisor, "postgres", lambda: postgres.is_ready(settings), seconds=60)
        postgres.make_database(settings)
    if provision_needed(settings):
        run_provision(settings, environment, steps)
    with steps.step("Embedded estate: AWS, hosts, mail, source"):
        wait(settings, supervisor, "estate", settings.estate_ready.exists, seconds=90)
    with steps.step("Airflow") as say:
        for name in AIRFLOW:
            components.start(settings, name)
        wait_for_airflow(settings, supervisor, say)


def wait(
    settings: Settings,
    supervisor: subprocess.Popen[bytes] | None,
    name: str,
    ready: Callable[[], bool],
    *,
    seconds: float,
) -> None:
    """Wait for a component; give up at once when it or the supervisor has ended for good."""
    deadline = time.monotonic() + seconds
    while not ready():
        if supervisor and supervisor.poll() is not None:
            raise StackError("The supervisor ended.", log=components.log_of(settings, "supervisor"))
        if components.states(settings).get(name, {}).get("statename") == "FATAL":
            raise StackError(f"{name} does not start.", log=components.log_of(settings, name))
        if time.monotonic() > deadline:
            raise StackError(f"{name} is not ready after {seconds:.0f} s.", log=components.log_of(settings, name))
        time.sleep(0.1)


def wait_for_airflow(settings: Settings, supervisor: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    """Wait until every component gives a sign of life and every service's Dag is there or says why not."""
    say("waiting for the API server")
    wait(settings, supervisor, "api-server", lambda: health(settings) is not None, seconds=180)
    for name in ("scheduler", "triggerer", "dag-processor"):
        say(f"waiting for the {name}")
        key = name.replace("-", "_")
        wait(settings, supervisor, name, lambda key=key: is_healthy(settings, key), seconds=120)  # type: ignore[misc]
    say("waiting for the Dags")
    services = load_catalogue(settings.catalogue).services
    wanted = {f"release_{name.replace('-', '_')}" for name in services}
    with api(settings, "admin") as client:
        wait(settings, supervisor, "dag-processor", lambda: dags_are_there(client, wanted), seconds=120)


def health(settings: Settings) -> Mapping[str, Any] | None:
    """Return Airflow's health page; None while there is none."""
    try:
        answer = httpx.get(f"{settings.airflow_url}/api/v2/monitor/health", timeout=10, trust_env=False)
        page: Mapping[str, Any] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None
    return page


def is_healthy(settings: Settings, component: str) -> bool:
    """Say whether Airflow's health page finds a component well."""
    return bool((health(settings) or {}).get(component, {}).get("status") == "healthy")


@contextmanager
def api(settings: Settings, user: str) -> Iterator[httpx.Client]:
    """Log in to Airflow's API as somebody."""
    with httpx.Client(base_url=settings.airflow_url, timeout=60, trust_env=False) as client:
        account = {"username": user, "password": passwords(settings)[user]}
        token = client.post("/auth/token", json=account).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def dags_are_there(client: httpx.Client, wanted: set[str]) -> bool:
    """Say whether each service has its Dag, or an import error says why one has none."""
    page = client.get("/api/v2/dags", params={"limit": 1, "dag_id_pattern": "release_%"}).raise_for_status().json()
    if page["total_entries"] >= len(wanted):
        return True
    return bool(client.get("/api/v2/importErrors").raise_for_status().json()["total_entries"])


# --- provisioning ----------------------------------------------------------------------------------------------------


def run_provision(settings: Settings, environment: Mapping[str, str], steps: Steps) -> None:
    """Provision the database in a process of its own, which is the only one here that has to load Airflow."""
    log = components.log_of(settings, "provision")
    digest = provision_digest(settings)
    with steps.step("Database, roles, accounts, connections"), log.open("w") as output:
        command = [sys.executable, "-m", "include.interlock.estate.provision"]
        ended = subprocess.run(command, env=dict(environment), cwd=PROJECT, stdout=output, stderr=subprocess.STDOUT)
    if ended.returncode:
        raise StackError("Airflow's database could not be provisioned.", log=log)
    for line in log.read_text().splitlines():
        if line.startswith(provision.SETTINGS_FILE.name):
            steps.console.print(f"[yellow]![/] {escape(line)}", highlight=False)
    write_private(settings.run / "provisioned", digest)


def provision_needed(settings: Settings) -> bool:
    """Say whether anything that provisioning reads is not what it was."""
    stamp = settings.run / "provisioned"
    return not stamp.exists() or stamp.read_text() != provision_digest(settings)


def provision_digest(settings: Settings) -> str:
    """Return the digest of all that provisioning reads."""
    files = [
        provision.SETTINGS_FILE,
        PROJECT / "requirements.lock",
        *sorted(settings.catalogue.rglob("*.yaml")),
        *sorted((PROJECT / "include/interlock/console").glob("*.py")),
        *(PROJECT / f"include/interlock/estate/{name}.py" for name in PROVISIONING),
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


# --- what runs -------------------------------------------------------------------------------------------------------


def fingerprint(settings: Settings, environment: Mapping[str, str]) -> str:
    """Return a digest of all that a running stack was started with: settings, packages, code."""
    code = sorted([*(PROJECT / "include/interlock").rglob("*.py"), *(PROJECT / "plugins").rglob("*.py")])
    own = {name: value for name, value in environment.items() if name.startswith(("AIRFLOW", "INTERLOCK_"))}
    config = components.supervisor_config(settings)
    return digest_of([PROJECT / "requirements.lock", *code], config, json.dumps(own, sort_keys=True))


def runs_as(settings: Settings, wanted: str) -> bool:
    """Say whether the stack runs, whole and well, as it would be started now."""
    stamp = settings.run / "fingerprint"
    if not stamp.exists() or stamp.read_text() != wanted:
        return False
    known = components.states(settings)
    names = [component.name for component in components.components(settings)]
    if not all(known.get(name, {}).get("statename") == "RUNNING" for name in names):
        return False
    page = health(settings) or {}
    return all(page.get(key, {}).get("status") == "healthy" for key in ("metadatabase", "scheduler", "dag_processor"))


def claim(settings: Settings) -> None:
    """Make the folder of the state, or make sure that it is one: it will be thrown away some day."""
    state = settings.state
    marker = state / "README"
    if state.exists() and not marker.exists() and any(state.iterdir()):
        raise StackError(
            f"{state} is not empty and not the state of an Interlock stack.",
            next_step="name another folder with INTERLOCK_STATE, or empty this one",
        )
    for folder in (state, settings.run, settings.logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not marker.exists():
        marker.write_text(CLAIM)


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Let nobody else start or stop this stack meanwhile; the lock ends with the process, however that ends."""
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
    """Throw the hosts of the embedded estate away and make new ones; Airflow and its history stay."""
    with only_one(settings):
        with components.supervisor(settings) as rpc:
            rpc.stopProcess("estate")
        settings.estate_ready.unlink(missing_ok=True)
        shutil.rmtree(settings.host_folders, ignore_errors=True)
        components.start(settings, "estate")
        wait(settings, None, "estate", settings.estate_ready.exists, seconds=90)


# --- the other commands ----------------------------------------------------------------------------------------------


def down(settings: Settings) -> int:
    """Stop everything that the stack started, and return how many processes that were."""
    if not settings.run.exists():
        return leftovers.stop(settings.state)
    with only_one(settings):
        (settings.run / "fingerprint").unlink(missing_ok=True)
        stopped = leftovers.stop(settings.state)
        components.socket_of(settings).unlink(missing_ok=True)
        settings.estate_ready.unlink(missing_ok=True)
    return stopped


def reset(settings: Settings) -> None:
    """Stop the stack and throw its state away."""
    if not settings.state.exists():
        return
    claim(settings)
    down(settings)
    shutil.rmtree(settings.state)


def status_table(settings: Settings) -> Table:
    """Describe each component: its state, since when, and the memory of it and what it started."""
    known = components.states(settings)
    table = Table(title=f"Stack in {settings.state}", title_justify="left")
    for column in ("component", "state", "up", "pid", "memory"):
        table.add_column(column, justify="right" if column in ("up", "pid", "memory") else "left")
    total = 0.0
    for component in components.components(settings):
        info = known.get(component.name, {})
        memory = memory_of(info.get("pid", 0))
        total += memory
        since = f"{info['now'] - info['start']} s" if info.get("statename") == "RUNNING" else ""
        shown = (component.title, info.get("statename", "not started").lower(), since, str(info.get("pid") or ""))
        table.add_row(*shown, f"{memory:.0f} MB" if memory else "")
    table.add_section()
    table.add_row("together", "", "", "", f"{total:.0f} MB")
    return table


def memory_of(pid: int) -> float:
    """Return the memory of a process and its children in megabytes, shared pages counted once (PSS)."""
    total = 0.0
    if pid:
        for process in leftovers.family(psutil.Process(pid)):
            try:
                total += process.memory_full_info().pss / 1e6
            except psutil.Error:
                continue
    return total


def logins_table(settings: Settings, everybody: Iterable[Account]) -> Table:
    """List who can log in, with which password."""
    known = passwords(settings)
    table = Table(title=f"Log in at {settings.airflow_url}", title_justify="left")
    for column in ("user", "password", "name", "who it is"):
        table.add_column(column)
    for account in everybody:
        if not account.is_service:
            table.add_row(account.user, known.get(account.user, ""), account.name, account.title)
    return table


def logs(settings: Settings) -> None:
    """Follow all logs until interrupted."""
    files = sorted(str(file) for file in settings.logs.glob("*.log"))
    if not files:
        raise StackError(f"There are no logs in {settings.logs}.", next_step="make up")
    os.execvp("tail", ["tail", "-n", "5", "-F", *files])


def show_failure(console: Console, error: ReleaseError) -> None:
    """Say what went wrong, with the end of the log that says more."""
    console.print(f"[red]✗[/] {escape(str(error))}", highlight=False)
    log = getattr(error, "log", None)
    if log and log.exists():
        lines = log.read_text(errors="replace").splitlines()[-TAIL:]
        console.print(f"[dim]The end of {log}:[/]", highlight=False)
        console.print("\n".join(f"  {escape(line)}" for line in lines), highlight=False)


def run_up(settings: Settings, console: Console) -> None:
    """Start the stack and say how to use it."""
    up(settings, Steps(console))
    console.print(logins_table(settings, accounts(load_catalogue(settings.catalogue))))
    console.print("Stop it with [bold]make down[/]; what it costs: [bold]make status[/].", highlight=False)


def run_down(settings: Settings, console: Console) -> None:
    """Stop the stack and say what was stopped."""
    stopped = down(settings)
    console.print(f"[green]✓[/] {stopped} processes stopped" if stopped else "Nothing was running.", highlight=False)


def run_reset(settings: Settings, console: Console) -> None:
    """Throw the stack's state away and say so."""
    reset(settings)
    console.print(f"[green]✓[/] {settings.state} is gone", highlight=False)


COMMANDS: dict[str, Callable[[Settings, Console], None]] = {
    "up": run_up,
    "down": run_down,
    "reset": run_reset,
    "status": lambda settings, console: console.print(status_table(settings)),
    "logs": lambda settings, console: logs(settings),
}


def main(arguments: list[str]) -> int:
    """Run one of the commands."""
    console = Console()
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        console.print(f"usage: python -m include.interlock.estate.stack {{{'|'.join(COMMANDS)}}}", markup=False)
        return 2
    try:
        COMMANDS[arguments[0]](Settings.from_environment(os.environ), console)
    except ReleaseError as error:
        show_failure(console, error)
        return 1
    except KeyboardInterrupt:
        console.print("[red]✗[/] interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
