"""What Interlock's Dags are called, and in which files they are made.

A name alone makes no Dag Interlock's: others may call theirs ``release_tables`` or ``train_model``. Interlock's
are those of its catalogue, those that its own files made, and those that have a chain in the ledger.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from .canonical import Model
from .errors import CatalogueError

RELEASES, ROLLBACKS, TRAINS = "release_", "rollback_", "train_"
"""How the names of the Dags begin that there are for each service, and for each train."""
ACCEPT_DEFECT, CONFIRM_ACCOUNT, EMERGENCY_STOP = "accept_defect", "confirm_account", "emergency_stop"
DELIVER_RECORDS, MARK_VERSION = "deliver_records", "mark_version"
OVERRIDE_FREEZE, RECONCILE, RETURN_HOSTS = "override_freeze", "reconcile", "return_hosts"
OVERTAKE_RELEASES, REVIEW_RELEASE, WITHDRAW_RELEASE = "overtake_releases", "review_release", "withdraw_release"
RETRY_DELIVERIES = "retry_deliveries"
WATCHMEN = frozenset(
    {
        ACCEPT_DEFECT,
        CONFIRM_ACCOUNT,
        DELIVER_RECORDS,
        EMERGENCY_STOP,
        MARK_VERSION,
        OVERRIDE_FREEZE,
        OVERTAKE_RELEASES,
        RECONCILE,
        RETRY_DELIVERIES,
        RETURN_HOSTS,
        REVIEW_RELEASE,
        WITHDRAW_RELEASE,
    }
)
"""Dags that watch over releases: stop, withdraw, overtake, review them, mark versions, accept defects, and more."""
_FILES = {RELEASES: "release.py", ROLLBACKS: "rollback.py", TRAINS: "trains.py"}
SERVICES = "services"
"""The folder of a bundle with a file for the Dags of each service; without it, one file has the Dags of all."""
HOME = "dags-folder"
"""Where Interlock's Dag files are unless ``INTERLOCK_DAGS`` says otherwise: Airflow's own name for its one bundle."""


def dag_of_release(service: str) -> str:
    """Return the Dag that releases a service."""
    return RELEASES + service.replace("-", "_")


def dag_of_rollback(service: str) -> str:
    """Return the Dag that rolls a service back to an earlier release."""
    return ROLLBACKS + service.replace("-", "_")


def is_rollback(dag_id: str) -> bool:
    """Tell by its name whether a Dag of Interlock rolls a service back."""
    return dag_id.startswith(ROLLBACKS)


def dags_of_service(service: str) -> tuple[str, str]:
    """Return the Dags that change the hosts of a service: its release Dag and its rollback Dag."""
    return dag_of_release(service), dag_of_rollback(service)


def dag_of_train(train: str) -> str:
    """Return the Dag of a train."""
    return TRAINS + train.replace("-", "_")


def file_of(dag_id: str) -> str | None:
    """Return the file that defines a Dag of this name, if Interlock defines it; None: it does not."""
    name = dag_id.lower()
    if name in WATCHMEN:
        return f"{name}.py"
    return next((file for beginning, file in _FILES.items() if name.startswith(beginning)), None)


def files_of(dag_id: str) -> tuple[str, ...]:
    """Return the files that may define a Dag of this name, if Interlock defines it: its kind's, or its service's."""
    file = file_of(dag_id)
    if file is None:
        return ()
    kind, _, service = dag_id.lower().partition("_")
    return (file, f"{SERVICES}/{service}.py") if f"{kind}_" in (RELEASES, ROLLBACKS) else (file,)


def file_of_service(service: str) -> str:
    """Return the name of the file with the Dags of a service."""
    return f"{service.replace('-', '_')}.py"


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

    def places_of(self, dag_id: str) -> tuple[Place, ...]:
        """Return where a Dag of Interlock may be defined; none: Interlock defines no Dag of this name."""
        files = files_of(dag_id)
        return tuple(Place(bundle=self.bundle, file=f"{self.folder}/{file}" if self.folder else file) for file in files)


def home_of(setting: str | None) -> Home:
    """Return where Interlock's Dag files are, by ``INTERLOCK_DAGS``: a bundle, or bundle:folder.

    :raises CatalogueError: it names no bundle.
    """
    bundle, _, folder = (setting or HOME).partition(":")
    if not bundle.strip():
        raise CatalogueError(
            f"INTERLOCK_DAGS is {setting!r}, which does not name a bundle.",
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
        f"{str(run_id)[:100]!r} is not a valid run id under release control. Rule: a run id starts with a letter or a "
        "digit, and consists of 2 to 250 letters, digits and the characters _ . : + - (in a URL, . and ~ have a "
        "special meaning). Next: leave dag_run_id out; the run then gets an id."
    )


def run_name(subject: str, at: datetime, *, rehearsal: bool = False) -> str:
    """Return the id of a run that says what it is about, and when it was asked for.

    Nothing in it has to be quoted in an address. Two requests of one subject in one millisecond get the same name, and
    Airflow refuses the second.

    :param subject: a version, say.
    """
    name = f"{_UNQUOTED.sub('-', subject)}__{instant_in_name(at, 'milliseconds')}"
    return f"{name}__rehearsal" if rehearsal else name


def name_by_key(subject: str, key: str) -> str:
    """Return the id of a run that somebody asks for with a key: the same key always gives the same run.

    :param subject: a version, say.
    """
    return f"{_UNQUOTED.sub('-', subject)}__key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def instant_in_name(at: datetime, timespec: str = "seconds") -> str:
    """Return an instant as names of runs have it: ``2026-11-28T20-15-03Z``."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec).replace(":", "-") + "Z"


def stranger(dag_id: str, found: Place, home: Home) -> str:
    """Return what is wrong with a Dag that has the name of an Interlock Dag; empty: Interlock's own file defines it."""
    wanted = home.places_of(dag_id)
    if not wanted or found in wanted:
        return ""
    return (
        f"The Dag {dag_id} is not Interlock's: Airflow loaded it from {found}, but Interlock defines it in "
        f"{wanted[0]}. Rule: a Dag with the name of an Interlock Dag must come from Interlock's files (INTERLOCK_DAGS "
        "says where they are). Who can change it: the people who deploy Dags. Next: remove the other file or rename "
        "its Dag. "
        "Airflow then loads Interlock's Dag again."
    )
