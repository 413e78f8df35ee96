"""Measure what Airflow's Dag processor costs with many services, and how soon an edit of one shows.

  python -m benchmarks.dags [--services 1000] [--seconds 120] [--edits 5] [--write PAGE]

It runs Airflow's own Dag processor, with its default time-outs, on a PostgreSQL of its own, on Interlock's Dag bundle
and a catalogue of so many services. A part of the processor's time is that of the processes that it forks for files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from benchmarks.schedule import make_catalogue, service
from benchmarks.table import machine, medians, publish
from interlock.adapters.private_files import secret
from interlock.domain.dag_names import dag_of_release
from interlock.estate.airflow.home import airflow_environment
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from interlock.installation.project import BUNDLE
from interlock.locations import PROJECT
from tests.ports import free_port

PARSE_AGAIN_SECONDS = 6 * 3600
"""How often files are parsed that have not changed, as kubernetes/values.yaml says, and docs/platform-engineer.md."""


@contextmanager
def database(settings: Settings, environment: dict[str, str]) -> Iterator[None]:
    """Run PostgreSQL with Airflow's tables."""
    settings.run.mkdir(parents=True)
    postgres.prepare(settings)
    with subprocess.Popen(
        postgres.server_command(settings), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as server:
        try:
            while not postgres.is_ready(settings):
                time.sleep(0.1)
            postgres.make_databases(settings)
            # The tables, and the roles that Dags give rights to.
            provision = [sys.executable, "-m", "interlock.estate.airflow.provision"]
            subprocess.run(provision, env=environment, check=True, stdout=subprocess.DEVNULL)
            yield
        finally:
            server.terminate()


class Processor:
    """A Dag processor that runs, and what it left in the database."""

    def __init__(self, process: subprocess.Popen[bytes], settings: Settings) -> None:
        self._process, self._settings = psutil.Process(process.pid), settings

    def seconds_of_a_processor(self) -> float:
        """Return what it has used, with the processes that it forked: those that have ended, and those that run."""
        total = 0.0
        times = self._process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
        for child in self._process.children(recursive=True):
            try:
                times = child.cpu_times()
                total += times.user + times.system
            except psutil.Error:
                continue
        return total

    def ask(self, query: str, *values: object) -> object:
        """Return the first value of a query's first row; None: there is none."""
        with closing(postgres.connect(self._settings, postgres.DATABASE)) as connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            row = cursor.fetchone()
        return row and row[0]

    def wait(self, query: str, *values: object, reached: Callable[[object], bool]) -> float:
        """Ask until an answer is reached; return how many seconds that took."""
        began = time.monotonic()
        while not reached(self.ask(query, *values)):
            if not self._process.is_running():
                raise RuntimeError("the Dag processor ended")
            time.sleep(0.2)
        return time.monotonic() - began


@contextmanager
def processor(settings: Settings, environment: dict[str, str]) -> Iterator[Processor]:
    """Run Airflow's Dag processor."""
    log = settings.run / "dag-processor.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "airflow", "dag-processor"]
        with subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                yield Processor(process, settings)
            finally:
                process.terminate()


def environment_of(settings: Settings, catalogue: Path) -> dict[str, str]:
    """Return the environment of an installation: of Airflow's settings, those that docs/platform-engineer.md names."""
    of_stack = airflow_environment(settings)
    kept = {name: value for name, value in of_stack.items() if not name.startswith("AIRFLOW__DAG_PROCESSOR__")}
    for name in ("DAGBAG_IMPORT_TIMEOUT", "MIN_SERIALIZED_DAG_UPDATE_INTERVAL"):
        kept.pop(f"AIRFLOW__CORE__{name}")
    bundle = str(BUNDLE).replace("'", '"')
    return kept | {
        "INTERLOCK_CATALOGUE": str(catalogue),
        "INTERLOCK_DAGS": str(BUNDLE["name"]),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(settings.state / "none"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": f"[{bundle}]",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(settings.state / "bundles"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(PARSE_AGAIN_SECONDS),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(settings.state / "parsing"),
    }


def measured(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return what was measured."""
    catalogue = folder / "catalogue"
    catalogue.mkdir()
    make_catalogue(catalogue, options.services, 0, 0)
    settings = Settings(state=folder / "state", postgres_port=free_port(), catalogue=catalogue)
    secret(postgres.secrets_folder(settings) / "postgres_owner")
    (settings.state / "tmp").mkdir(parents=True)
    environment = environment_of(settings, catalogue)
    found: dict[str, list[float]] = {}
    with database(settings, environment), processor(settings, environment) as running:
        dags = "SELECT count(*) FROM dag WHERE NOT is_stale AND dag_id LIKE 'release\\_%%' ESCAPE '\\'"
        found["All Dags, from an empty database (s)"] = [running.wait(dags, reached=lambda it: it == options.services)]
        time.sleep(15)  # what is still being parsed
        once = running.seconds_of_a_processor()
        found["All Dags (s of a processor)"] = [once]
        time.sleep(options.seconds)
        idle = (running.seconds_of_a_processor() - once) / options.seconds
        found["While nothing changes (% of a processor)"] = [100 * idle]
        steady = idle + once / PARSE_AGAIN_SECONDS
        found["Steady, with all files every six hours (% of a processor)"] = [100 * steady]
        shown = "SELECT dag_display_name FROM dag WHERE dag_id = %s"
        for number in range(options.edits):
            name = service((number * 101) % options.services)
            file, title = catalogue / "services" / f"{name}.yaml", f"Edited {number}"
            text = file.read_text()
            before = running.seconds_of_a_processor()
            file.write_text(
                "\n".join(f"title: {title}" if row.startswith("title:") else row for row in text.split("\n"))
            )
            waited = running.wait(shown, dag_of_release(name), reached=lambda it, title=title: title in str(it))
            found.setdefault("An edit of one service, until it shows (s)", []).append(waited)
            used = running.seconds_of_a_processor() - before
            found.setdefault("An edit of one service (s of a processor)", []).append(used)
    return found


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dags", description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=120, help="how long the processor is watched while it is idle")
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="interlock-bench-"))
    os.chdir(PROJECT)
    try:
        table = medians(measured(options, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = f"{options.services:,} services, two Dags each; {options.edits} edits. {machine()}"
    publish(f"{about}\n\n{table}", options.write, "dags")
    return 0


if __name__ == "__main__":
    sys.exit(main())
