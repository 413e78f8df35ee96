"""Check that each connection that a service names exists and has the right type.

``make up`` brings the connections of ``airflow_settings.yaml`` and of the environment to Airflow, which may have others
from its UI or a secrets backend. If the stack runs, Airflow is asked: ``python -m
interlock.estate.airflow.named_connections NAME …`` prints those that it lacks. If not, a connection that the file lacks
is doubtful, not wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from interlock.adapters.airflow.connections import has_connection
from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.errors import ReleaseError
from interlock.estate.settings import SETTINGS_FILE, Settings
from interlock.estate.stack import postgres
from interlock.installation.astro_settings import ConnectionEntry, read_astro_settings
from interlock.installation.named_connections import TYPES, Named, named_by
from interlock.locations import PROJECT

from .home import airflow_environment

FILE = SETTINGS_FILE.name
VARIABLE = "AIRFLOW_CONN_"


class Faults(NamedTuple):
    """What cannot work, and what may not work."""

    wrong: tuple[str, ...]
    doubtful: tuple[str, ...]


def with_faults_of_connections(
    settings: Settings, catalogue: Path, wrong: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return what is wrong with the catalogue and the connections that it names, and what is doubtful.

    :param wrong: what is wrong with the catalogue's files.
    """
    try:
        named = list(named_by(load_catalogue(catalogue).services.values()))
        entries = read_astro_settings(SETTINGS_FILE).connections
        faults = faults_of(named, entries, os.environ, partial(lacking_in_stack, settings))
    except ReleaseError as error:
        return list(wrong) or [str(error)], []  # what keeps the catalogue from being read is among what is wrong
    return [*wrong, *faults.wrong], list(faults.doubtful)


def faults_of(
    named: Sequence[Named],
    entries: Iterable[ConnectionEntry],
    environ: Mapping[str, str],
    lacks: Callable[[Sequence[str]], frozenset[str] | None],
) -> Faults:
    """Return which connections are missing, and which have the wrong type or no host.

    :param entries: the connections that ``make up`` writes.
    :param lacks: returns the names that Airflow lacks, or None if it cannot be asked.
    """
    known = {entry.conn_id: entry for entry in entries}
    missing = [one for one in named if one.conn_id not in known and f"{VARIABLE}{one.conn_id.upper()}" not in environ]
    lacking = lacks(sorted({one.conn_id for one in missing})) if missing else frozenset()
    unfit = [_unfit(one, known[one.conn_id]) for one in named if one.conn_id in known]
    if lacking is None:
        return Faults(tuple(filter(None, unfit)), tuple(_missing(one, certain=False) for one in missing))
    gone = [_missing(one, certain=True) for one in missing if one.conn_id in lacking]
    return Faults((*gone, *filter(None, unfit)), ())


def _missing(one: Named, *, certain: bool) -> str:
    says = (
        f"there is no connection {one.conn_id}, neither in {FILE} nor in Airflow"
        if certain
        else f"{FILE} has no connection {one.conn_id}; unless Airflow has it from elsewhere, nothing can be released"
    )
    return f"{one.place}: {says}. Next: add it to {FILE}, or correct the name"


def _unfit(one: Named, entry: ConnectionEntry) -> str:
    if entry.uri:  # it contains type and host
        return ""
    if one.kind == "source":
        lacks = "" if entry.host else "has no conn_host, which is the repository's URL"
    else:
        allowed = TYPES[one.kind]
        lacks = "" if entry.type in allowed else f"has the conn_type {entry.type}; allowed: {' or '.join(allowed)}"
    return f"{one.place}: the connection {one.conn_id} of {FILE} {lacks}" if lacks else ""


def lacking_in_stack(settings: Settings, names: Sequence[str]) -> frozenset[str] | None:
    """Return which connections the Airflow of a stack lacks; None if it does not run or does not answer."""
    if not (settings.state.exists() and postgres.is_ready(settings)):
        return None
    command = [sys.executable, "-m", __name__, *names]
    asked = subprocess.run(
        command, env=airflow_environment(settings), cwd=PROJECT, capture_output=True, text=True, check=False
    )
    said = [line.removeprefix(ANSWER) for line in asked.stdout.splitlines() if line.startswith(ANSWER)]
    return frozenset(said[0].split()) if asked.returncode == 0 and said else None


ANSWER = "lacking:"


def main(names: Sequence[str]) -> int:
    """Print which connections Airflow lacks."""
    print(ANSWER, *(name for name in names if not has_connection(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
