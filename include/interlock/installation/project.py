"""``interlock init``: the files that an organisation edits. What is there already is never touched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined

from interlock.adapters.airflow import connections
from interlock.adapters.private_files import write_whole
from interlock.domain.errors import ReleaseError
from interlock.domain.trains.manifest import CONDUCTOR

from .accounts import CLERK, READER

TEMPLATES = Path(__file__).parent / "project"
RENAMED = {"gitignore": ".gitignore"}
"""Templates that have another name in the project: a wheel leaves files out that begin with a dot."""
SERVICE_CONNECTIONS = (
    (connections.AIRFLOW, READER),
    (connections.BOARD_CLERK, CLERK),
    (connections.CONDUCTOR, CONDUCTOR),
)
"""Connections to Airflow's own API, and the service account of each."""
BUNDLE = {"name": "interlock", "classpath": "interlock.dag_bundle.InterlockDagBundle", "kwargs": {}}


class Written(NamedTuple):
    """A file of the project, and whether it was there already."""

    path: Path
    kept: bool


def write_project(folder: Path, bundles: str, api_url: str) -> tuple[Written, ...]:
    """Write the files of a project that are missing; return all of them. A catalogue that is there gets no file.

    :param bundles: Airflow's setting ``[dag_processor] dag_bundle_config_list`` as it is now, JSON.
    :param api_url: where Airflow's API answers.
    :raises ReleaseError: the folder cannot be written, or its path cannot stand in a settings file.
    """
    where = folder.resolve()
    if any(letter in str(where) for letter in "'\"\n$`\\%#") or " " in str(where):
        raise ReleaseError(
            f"The path {str(where)!r} has characters that settings files cannot hold.",
            next_step="choose a folder without spaces, quotes and other special characters in its path",
        )
    values = {
        "folder": where,
        "bundles": with_bundle(bundles),
        "service_connections": SERVICE_CONNECTIONS,
        "api": _api(api_url),
        "ledger_host": "localhost",
        "ledger_port": 5432,
    }
    has_catalogue = (where / "catalogue").exists()
    try:
        return tuple(
            _write(where / name, text)
            for name, text in _texts(values)
            if not (has_catalogue and name.startswith("catalogue/"))
        )
    except OSError as error:
        raise ReleaseError(
            f"The project cannot be written to {where}: {error.strerror or error}.",
            next_step="choose another folder, or make this one writable",
        ) from error


def with_bundle(bundles: str) -> str:
    """Return the list of Dag bundles with Interlock's in it, as JSON on one line.

    :raises ReleaseError: the present list cannot be read.
    """
    try:
        listed: Any = json.loads(bundles)
    except ValueError:
        listed = None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ReleaseError(
            f"Airflow's list of Dag bundles cannot be read: {bundles[:200]!r}.",
            rule="[dag_processor] dag_bundle_config_list is a JSON list of bundles",
            who="the platform engineer",
            next_step="correct it, then run this again",
        )
    others = [one for one in listed if one.get("name") != BUNDLE["name"]]
    return json.dumps([*others, BUNDLE])


def _api(url: str) -> dict[str, Any]:
    parts = urlsplit(url if "//" in url else f"http://localhost:8080{url}")
    scheme = parts.scheme or "http"
    return {
        "scheme": scheme,
        "host": parts.hostname or "localhost",
        "port": parts.port or (443 if scheme == "https" else 80),
    }


def _texts(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file."""
    templates = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    for path in sorted(one for one in TEMPLATES.rglob("*") if one.is_file()):
        name = path.relative_to(TEMPLATES).as_posix()
        yield RENAMED.get(name, name), templates.from_string(path.read_text("utf-8")).render(values)


def _write(path: Path, text: str) -> Written:
    if os.path.lexists(path):
        return Written(path, kept=True)
    write_whole(path, text)
    return Written(path, kept=False)
