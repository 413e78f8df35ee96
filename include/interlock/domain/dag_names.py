"""What Interlock's Dags are called, and in which files they are made.

A name alone makes no Dag Interlock's: others may call theirs ``release_tables`` or ``train_model``. Interlock's
are those of its catalogue, those that its own files made, and those that have a chain in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from .canonical import Model
from .errors import CatalogueError

RELEASES, ROLLBACKS, TRAINS = "release_", "rollback_", "train_"
"""How the names of the Dags begin that there are for each service, and for each train."""
CONFIRM_ACCOUNT, EMERGENCY_STOP, MARK_VERSION = "confirm_account", "emergency_stop", "mark_version"
OVERRIDE_FREEZE, RECONCILE, RETURN_HOSTS = "override_freeze", "reconcile", "return_hosts"
REVIEW_RELEASE = "review_release"
WATCHMEN = frozenset(
    {CONFIRM_ACCOUNT, EMERGENCY_STOP, MARK_VERSION, OVERRIDE_FREEZE, RECONCILE, RETURN_HOSTS, REVIEW_RELEASE}
)
"""Dags that watch over releases, stop them, review them, mark versions, override freezes and confirm accounts."""
_FILES = {RELEASES: "release.py", ROLLBACKS: "rollback.py", TRAINS: "trains.py"}
HOME = "dags-folder"
"""Where Interlock's Dag files are unless ``INTERLOCK_DAGS`` says otherwise: Airflow's own name for its one bundle."""


def dag_of_release(service: str) -> str:
    """Return the Dag that releases a service."""
    return RELEASES + service.replace("-", "_")


def dag_of_rollback(service: str) -> str:
    """Return the Dag that takes a service back to a release that it ran before."""
    return ROLLBACKS + service.replace("-", "_")


def is_rollback(dag_id: str) -> bool:
    """Tell whether a Dag of Interlock's takes a service back, by its name."""
    return dag_id.startswith(ROLLBACKS)


def dags_of_service(service: str) -> tuple[str, str]:
    """Return the Dags that change what hosts run of a service: the one that releases it, and the one that goes back."""
    return dag_of_release(service), dag_of_rollback(service)


def dag_of_train(train: str) -> str:
    """Return the Dag of a train."""
    return TRAINS + train.replace("-", "_")


def file_of(dag_id: str) -> str | None:
    """Return the file that makes a Dag of this name, if Interlock made it; None: Interlock makes none of this name."""
    name = dag_id.lower()
    if name in WATCHMEN:
        return f"{name}.py"
    return next((file for beginning, file in _FILES.items() if name.startswith(beginning)), None)


def dags_named(services: Iterable[str], trains: Iterable[str]) -> frozenset[str]:
    """Return the Dags that there are for some services and trains, and those that watch over them."""
    names = [*(dag for name in services for dag in dags_of_service(name)), *map(dag_of_train, trains)]
    return frozenset(name.lower() for name in names) | WATCHMEN


class Place(Model):
    """Where Airflow has a Dag from: a bundle, and a file in it."""

    bundle: str | None
    file: str | None

    def __str__(self) -> str:
        """Say where it is."""
        return f"the file {self.file or '(unknown)'} of the bundle {self.bundle or '(unknown)'}"


class Home(Model):
    """Where Interlock's Dag files are: a bundle, and a folder in it."""

    bundle: str
    folder: str = ""

    def place_of(self, dag_id: str) -> Place | None:
        """Return where a Dag of Interlock's is made; None: Interlock makes none of this name."""
        file = file_of(dag_id)
        return (
            None if file is None else Place(bundle=self.bundle, file=f"{self.folder}/{file}" if self.folder else file)
        )


def home_of(setting: str | None) -> Home:
    """Return where Interlock's Dag files are, by ``INTERLOCK_DAGS``: a bundle, or bundle:folder.

    :raises CatalogueError: it names no bundle.
    """
    bundle, _, folder = (setting or HOME).partition(":")
    if not bundle.strip():
        raise CatalogueError(
            f"INTERLOCK_DAGS is {setting!r}, which names no bundle.",
            rule="INTERLOCK_DAGS is bundle or bundle:folder, as [dag_processor] dag_bundle_config_list names bundles",
            who="the platform engineer",
            next_step=f"set it, or leave it out for {HOME}",
        )
    return Home(bundle=bundle.strip(), folder=folder.strip().strip("/"))


_UNQUOTED = re.compile(r"[^A-Za-z0-9.-]")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{1,249}")


def unsafe_run(run_id: Any) -> str:
    """Say why a run may not be called so; empty: it may, or it is given its name."""
    if run_id is None or (isinstance(run_id, str) and RUN_ID.fullmatch(run_id)):
        return ""
    return (
        f"A run under release control cannot be called {str(run_id)[:100]!r}. Rule: its name begins with a letter or a "
        "digit, and has from 2 to 250 letters, digits, and _ . : + - in it: in an address, . and ~ stand for something "
        "else. Next: leave dag_run_id out; the run then gets a name."
    )


def run_name(subject: str, at: datetime, *, rehearsal: bool = False) -> str:
    """Return the id of a run that says what it is about, and when it was asked for.

    Nothing in it has to be quoted in an address. Two requests of one subject in one millisecond get the same name, and
    Airflow refuses the second.

    :param subject: a version, say.
    """
    name = f"{_UNQUOTED.sub('-', subject)}__{instant_in_name(at, 'milliseconds')}"
    return f"{name}__rehearsal" if rehearsal else name


def instant_in_name(at: datetime, timespec: str = "seconds") -> str:
    """Return an instant as names of runs have it: ``2026-11-28T20-15-03Z``."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec).replace(":", "-") + "Z"


def stranger(dag_id: str, found: Place, home: Home) -> str:
    """Say what is wrong with a Dag that has a name of Interlock's; empty: Interlock's own file made it."""
    wanted = home.place_of(dag_id)
    if wanted is None or found == wanted:
        return ""
    return (
        f"The Dag {dag_id} is none of Interlock's: Airflow has it from {found}, and Interlock makes it in {wanted}. "
        "Rule: who bears the name of a Dag of Interlock's is not trusted for it (INTERLOCK_DAGS says where Interlock's "
        "are). Who can change it: whoever deploys Dags. Next: take the other file away or rename its Dag; Airflow then "
        "reads Interlock's again."
    )
