"""Names for runs that are requested without a name: the page of a release shows its version, not ``manual__…``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from interlock.domain.dag_names import RELEASES, ROLLBACKS, TRAINS, run_name

from .current_request import Scope

NAMED = (RELEASES, ROLLBACKS, TRAINS)


def name_run(dag_id: str, body: bytes, at: datetime) -> bytes:
    """Return a request for a run with a name in it; unchanged if it has a name, or if Airflow names runs of the Dag.

    :param body: found to be a JSON object.
    :param at: when the run was asked for.
    """
    asked = json.loads(body)
    if asked.get("dag_run_id") is not None or not dag_id.lower().startswith(NAMED):
        return body
    conf = asked.get("conf")
    name = _name(dag_id.lower(), conf if isinstance(conf, dict) else {}, at)
    return json.dumps({**asked, "dag_run_id": name}).encode()


def sized(scope: Scope, body: bytes) -> Scope:
    """Return a request's scope that says how long its body is."""
    headers = [(name, value) for name, value in scope.get("headers", ()) if name.lower() != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}


def _name(dag_id: str, conf: Mapping[str, Any], at: datetime) -> str:
    if dag_id.startswith(TRAINS):
        return run_name("by-hand", at)
    if version := str(conf.get("version") or "").strip():
        return run_name(version, at, rehearsal=conf.get("rehearsal") is True)
    return run_name("no-version", at)  # a rollback, whose first task then lists the versions
