"""Checks of what is installed and configured here: packages, auth manager, catalogue, Dag files, builds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from interlock.adapters.airflow.connections import CONNECTIONS, stored_connection
from interlock.adapters.build import makers
from interlock.adapters.catalogue.catalogue import load_catalogue, version_of, what_is_wrong
from interlock.adapters.catalogue.commits import commit_of
from interlock.console.control.own_dags import home
from interlock.domain.catalogue import Catalogue
from interlock.domain.errors import AssetMissing
from interlock.installation.named_connections import TYPES, named_by
from interlock.installation.project import BUNDLE
from interlock.locations import INSTALLED, PROJECT, catalogue_folder

from .inspection import Finding, well, wrong

DISTRIBUTION = "interlock-release"
LONGEST_TASK = timedelta(hours=6)
"""No task of a release takes longer: a wave of a large fleet, which waits for each host to be drained."""
VISIBLE_AGAIN = "celery_broker_transport_options"
"""The section of the time after which a broker gives a task that still runs to another worker, too."""


def packages() -> Iterator[Finding]:
    """Compare the installed packages with what Interlock requires."""
    unfit = [
        f"{wanted.name} is {found or 'missing'}, and Interlock needs {wanted.specifier}"
        for wanted in _requirements()
        if not (found := _version(wanted.name)) or not wanted.specifier.contains(found, prereleases=True)
    ]
    for what in unfit:
        yield wrong("packages", f"{what}.", "install the versions of requirements.lock: pip install --constraint …")
    if not unfit:
        yield well("packages", f"Airflow {_version('apache-airflow')} and all other packages have the right versions.")


def _requirements() -> list[Requirement]:
    if INSTALLED:
        stated = metadata.requires(DISTRIBUTION) or []
    else:
        lines = (PROJECT / "requirements.txt").read_text("utf-8").splitlines()
        stated = [text for line in lines if (text := line.partition("#")[0].strip())]
    found = map(Requirement, stated)
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return metadata.version(canonicalize_name(name))
    except metadata.PackageNotFoundError:
        return None


def auth_manager() -> Iterator[Finding]:
    """Look which auth manager is in force, and whether it knows people by user name."""
    from airflow.api_fastapi.app import get_auth_manager_cls
    from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

    from interlock.console.control.guard import is_needed

    found = get_auth_manager_cls()
    if not is_needed(found):
        yield well("auth manager", f"{found.__name__} is in force.")
    elif issubclass(found, FabAuthManager):
        yield wrong(
            "auth manager",
            f"{found.__name__} is in force: it knows people by number, and ballots by user name.",
            "set AIRFLOW__CORE__AUTH_MANAGER=interlock.console.auth.manager.InterlockFabAuthManager",
        )
    else:
        yield well("auth manager", f"{found.__name__} is in force; the plugin guards Airflow's API.")


def catalogue() -> Iterator[Finding]:
    """Read the catalogue."""
    folder = catalogue_folder()
    faults = what_is_wrong(folder)
    for fault in faults:
        yield wrong("catalogue", fault, "interlock catalogue check")
    if not faults:
        services = len(load_catalogue(folder).services)
        version = version_of(folder)
        commit = commit_of(folder)
        of_commit = f", commit {commit}" if commit else ""
        yield well("catalogue", f"{folder} is valid: {services} services, version {version}{of_commit}.")


def connections() -> Iterator[Finding]:
    """Look each connection up that releases or services name."""
    faults = list(_faults(load_catalogue(catalogue_folder())))
    yield from faults
    if not faults:
        yield well("connections", "Airflow has all connections that the catalogue names.")


def _faults(known: Catalogue) -> Iterator[Finding]:
    places = {name: ("every release", "any") for name in CONNECTIONS}
    places |= {one.conn_id: (one.place, one.kind) for one in named_by(known.services.values())}
    for conn_id, (place, kind) in sorted(places.items()):
        try:
            found = stored_connection(conn_id)
        except AssetMissing:
            yield wrong(
                "connections", f"{conn_id} does not exist ({place}).", "interlock setup, or airflow connections add"
            )
            continue
        allowed = TYPES.get(kind)
        if allowed and found.conn_type not in allowed:
            yield wrong(
                "connections",
                f"{conn_id} has the type {found.conn_type}, and {place} needs {' or '.join(allowed)}.",
                f"airflow connections delete {conn_id}, then add it with the right type",
            )
        elif kind == "source" and not found.host:
            yield wrong(
                "connections", f"{conn_id} has no host, which is the repository's URL ({place}).", "set its host"
            )


def dag_files() -> Iterator[Finding]:
    """Import Interlock's Dag files as the Dag processor does, within its time-out."""
    from airflow.configuration import conf
    from airflow.dag_processing.dagbag import DagBag

    began = time.monotonic()
    bag = DagBag(dag_folder=str(_folder_of_dags()), bundle_name="interlock")
    took = time.monotonic() - began
    for file, error in sorted(bag.import_errors.items()):
        last = error.strip().splitlines()[-1] if error.strip() else "unknown"
        yield wrong("Dag files", f"{Path(file).name} cannot be imported: {last}", "interlock catalogue check")
    slowest = max((stat.duration.total_seconds() for stat in bag.dagbag_stats), default=0.0)
    limit = conf.getfloat("core", "dagbag_import_timeout")
    if limit and slowest > limit / 2:
        yield wrong(
            "Dag files",
            f"A file takes {slowest:.1f} s to import, more than half of the time-out of {limit:g} s.",
            f"set AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT={4 * slowest:.0f}",
        )
    elif not bag.import_errors:
        yield well(
            "Dag files", f"{len(bag.dags)} Dags are imported in {took:.1f} s; the slowest file takes {slowest:.1f} s."
        )


def _folder_of_dags() -> Path:
    """Return the folder of the files that the Dag processor reads: the bundle's, or the package's own."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    for bundle in DagBundlesManager().get_all_dag_bundles():
        kind = type(bundle)
        if bundle.name == home().bundle and f"{kind.__module__}.{kind.__qualname__}" == BUNDLE["classpath"]:
            bundle.initialize()
            return Path(bundle.path)
    return PROJECT / "dags"


def builds() -> Iterator[Finding]:
    """Try whether this machine can make a sandbox for builds."""
    required = load_catalogue(catalogue_folder()).policy.builds.isolation == "required"
    maker, why_not = makers.find_maker(os.environ)
    if maker is not None:
        yield well("builds", "This machine can isolate builds.")
    elif required:
        yield Finding(
            "builds",
            "unknown",
            f"This machine cannot isolate builds: {why_not}. That is wrong if it runs the tasks that build.",
            "install bubblewrap here, or run doctor on the workers that build (docs/platform-engineer.md, Builds)",
        )
    else:
        yield well("builds", f"Builds are not isolated ({why_not}), which builds.isolation: recorded allows.")


def queue() -> Iterator[Finding]:
    """Look whether the broker of Celery keeps a task with its worker for as long as it takes."""
    from airflow.configuration import conf

    executor = conf.get("core", "executor")
    if "Celery" not in executor:
        yield well("queue", f"{executor} has no broker that delivers tasks again.")
        return
    said = conf.get(VISIBLE_AGAIN, "visibility_timeout", fallback=None)
    kept = timedelta(seconds=float(said)) if said else timedelta(days=1)  # as Airflow's provider has it
    if kept < LONGEST_TASK:
        yield wrong(
            "queue",
            f"The broker gives a task that runs for more than {kept} to a second worker (visibility_timeout). "
            "Nothing is done twice then, but the release may fail.",
            "set AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT=86400",
        )
    else:
        yield well("queue", f"The broker keeps a task with its worker for {kept}.")
