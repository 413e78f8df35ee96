"""Interlock's Dag files as a Dag bundle of Airflow, wherever the package is installed.

``[dag_processor] dag_bundle_config_list`` names it by its class, beside the bundles of other teams.

The folder ``dags`` of the package has a file for each kind of Dag; with 1,000 services, Airflow would take half a
minute for each of two of them, again and again. So the bundle has a file for each service, which it writes into
Airflow's storage for bundles. Each file names a digest of what its Dags are made of. It is written anew when that
changes, and Airflow parses a file that was written at once, whatever ``[dag_processor] min_file_process_interval`` is.
"""

from __future__ import annotations

import hashlib
import pkgutil
import re
import runpy
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle

import interlock
from interlock.adapters.catalogue.catalogue import digests_of
from interlock.adapters.private_files import write_whole
from interlock.domain.canonical import sha256_of
from interlock.domain.dag_names import SERVICES, file_of_service
from interlock.domain.errors import CatalogueError
from interlock.locations import PROJECT, catalogue_folder

NAME = "interlock"
"""The bundle's usual name; ``INTERLOCK_DAGS`` says the same."""
CLASS = f"{__name__}.InterlockDagBundle"
REFRESH_SECONDS = 5
"""How often the catalogue is looked at, unless the bundle's ``refresh_interval`` says otherwise."""
OF_SERVICES = ("release.py", "rollback.py")
"""The files of the folder ``dags`` that compose Dags of services."""
RULES = ("policy.yaml", "board.yaml")
"""What the Dags of all services are made of, beside their own files."""
_SERVICE_FILE = re.compile(SERVICES + r"/([a-z][a-z0-9-]{0,62})\.yaml")
FILE = '''\
"""The Dags of the service {service}, as Airflow finds them. Interlock's Dag bundle writes this file.

Made of {digest}.
"""

from interlock.dag_bundle import dags_of

globals().update(dags_of("{service}"))
'''


class InterlockDagBundle(BaseDagBundle):
    """A file for the Dags of each service, and the other files of the folder ``dags``."""

    supports_versioning = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"refresh_interval": REFRESH_SECONDS, **kwargs})

    @property
    def path(self) -> Path:
        """Return the folder of the files."""
        return Path(self.base_dir) / "files"

    def initialize(self) -> None:
        """Have the files there, for a task or a Dag processor on a machine that has none."""
        if not self.path.is_dir() or _names_of_services() - {path.name for path in (self.path / SERVICES).glob("*.py")}:
            write_files(self.path)
        super().initialize()

    def get_current_version(self) -> None:
        """Return no version: a task uses the files as they are."""

    def refresh(self) -> None:
        """Bring the files to the catalogue. Only the Dag processor calls this, and forks a process for each file."""
        write_files(self.path)
        import_for_dags()  # here once, instead of in each of these processes


@cache
def import_for_dags() -> None:
    """Import what Dag files import."""
    import_module("interlock.console.auth.roles")
    stages = import_module("interlock.stages")
    for module in pkgutil.walk_packages(stages.__path__, f"{stages.__name__}."):
        import_module(module.name)


def dags_of(service: str) -> dict[str, Any]:
    """Compose the Dags of a service; none if its file has an error, which ``catalogue.py`` shows."""
    from airflow.sdk import DAG

    from interlock.stages.runtime.taskflow import ONE_SERVICE  # not at the top: for processes that parse

    token = ONE_SERVICE.set(service)
    try:
        composed = [runpy.run_path(str(PROJECT / "dags" / file)) for file in OF_SERVICES]
    except CatalogueError:
        return {}
    finally:
        ONE_SERVICE.reset(token)
    return {name: it for one in composed for name, it in one.items() if isinstance(it, DAG)}


def write_files(folder: Path) -> None:
    """Bring a bundle's folder to the catalogue: write what changed, and remove what has no service any more."""
    wanted = dict(_files())
    for name, text in wanted.items():
        path = folder / name
        if _text_of(path) != text:
            write_whole(path, text)
    for path in folder.rglob("*.py"):
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink(missing_ok=True)


def _files() -> Iterable[tuple[str, str]]:
    digests = digests_of(catalogue_folder())
    of_all = [interlock.__version__, *(digests.get(name, "") for name in RULES)]
    for path in (PROJECT / "dags").glob("*.py"):
        if path.name in OF_SERVICES:
            of_all.append(hashlib.sha256(path.read_bytes()).hexdigest())
        else:
            seen = digests if path.name == "catalogue.py" else _without_contents_of_services(digests)
            yield path.name, f"{path.read_text()}\n# Made of {sha256_of(seen)}.\n"
    for name, digest in digests.items():
        if service := _service_of(name):
            made_of = sha256_of({"all": of_all, "own": digest})
            yield f"{SERVICES}/{file_of_service(service)}", FILE.format(service=service, digest=made_of)


def _without_contents_of_services(digests: Mapping[str, str]) -> dict[str, str]:
    return {name: "" if _service_of(name) else digest for name, digest in digests.items()}


def _service_of(name: str) -> str:
    """Return the service that a file of the catalogue describes; empty: none."""
    found = _SERVICE_FILE.fullmatch(name)
    return found[1] if found else ""


def _names_of_services() -> set[str]:
    names = (_service_of(f"{SERVICES}/{path.name}") for path in (catalogue_folder() / SERVICES).glob("*.yaml"))
    return {file_of_service(name) for name in names if name}


def _text_of(path: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return None
