"""Requests of tasks to Airflow's execution API that are refused: for runs, results and keys of release control.

Airflow lets each task start and clear runs of every Dag, write results in the name of any task, and read every
connection. Tasks of other Dags may do none of that to a Dag under control. The requesting task is read from its token;
Airflow then checks the token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from interlock.domain.catalogue import Service
from interlock.domain.dag_names import RELEASES, ROLLBACKS, TRAINS

from .current_request import SAFE_METHODS, CurrentRequest, Scope
from .lookups import (
    GivenBefore,
    RequestSource,
    dags_of_named_asset,
    given_before,
    knows_ref,
    paused_at_of,
    runs_under_way,
    source_of,
)
from .own_dags import made
from .routes import RequestKind
from .rules import ROOTS, is_controlled, may_be_controlled, refusal

# Looser than Airflow's own routes, as the patterns of the middleware are.
_API = r"/*execution/+"
RUNS = re.compile(rf"{_API}dag-runs/+(?P<dag>[^/]+)/+(?P<run>[^/]+)(?P<clear>/+clear)?/*", re.IGNORECASE | re.DOTALL)
RESULTS = re.compile(rf"{_API}xcoms/+(?P<dag>[^/]+)/+(?P<run>[^/]+)/+(?P<task>[^/]+)/.+", re.IGNORECASE | re.DOTALL)
KEYS = re.compile(rf"{_API}connections/+(?P<id>[^/]+)/*", re.IGNORECASE | re.DOTALL)
ASSETS = re.compile(rf"{_API}store/+asset/+by-(?P<by>name|uri)/.*", re.IGNORECASE | re.DOTALL)
GUARDED = re.compile(rf"{_API}interlock/*", re.IGNORECASE | re.DOTALL)
"""Where a release asks whether this API is guarded; Airflow has nothing there."""
ABOUT = re.compile(rf"{_API}interlock/+about(?:/+(?P<service>[a-z][a-z0-9-]{{0,62}}))?/*", re.IGNORECASE | re.DOTALL)
"""Where ``interlock doctor``, and releases of a service, ask what this server has."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused request of a task."""

    dag_id: str
    run_id: str
    entity: str
    why: str


@dataclass(frozen=True, slots=True)
class Lookups:
    """What must be looked up outside of a request.

    :param source: returns the requesting task; none: it is not known.
    :param of_asset: returns the Dags of an asset, by its ``name`` or its ``uri``.
    :param stranger: says why a Dag with a name of Interlock is not Interlock's; empty: it is.
    :param runs_under_way: returns Dag and run of each run that has not ended.
    :param ref: tells whether the repository of a service has a tag or a branch.
    :param given_before: returns the answer that a question has; none: it has none.
    :param paused_at: returns since when the task of a question waits for its answer; none: it does not wait.
    """

    source: Callable[[Scope], RequestSource | None] = source_of
    of_asset: Callable[[str, str], Iterable[str]] = dags_of_named_asset
    stranger: Callable[[str], str] = lambda dag_id: made().stranger(dag_id)
    runs_under_way: Callable[[], frozenset[str]] = runs_under_way
    ref: Callable[[Service, str], bool] = knows_ref
    given_before: Callable[[CurrentRequest], GivenBefore | None] = given_before
    paused_at: Callable[[CurrentRequest], datetime | None] = paused_at_of


def is_of_a_task(path: str) -> bool:
    """Tell whether a request is to the execution API."""
    return path.lstrip("/").lower().startswith("execution/")


def may_be_refused(method: str, path: str) -> bool:
    """Tell whether :func:`refused` has to look something up: other tasks' requests need not wait for a thread."""
    if found := KEYS.fullmatch(path):
        return found["id"].lower() in ROOTS
    if method in SAFE_METHODS:
        return False
    if found := RUNS.fullmatch(path) or RESULTS.fullmatch(path):
        return may_be_controlled(found["dag"])
    return ASSETS.fullmatch(path) is not None


def refused(method: str, path: str, scope: Scope, lookups: Lookups) -> Refused | None:
    """Return what is refused of a task's request; none: nothing is."""
    reads = method in SAFE_METHODS
    if not reads and (found := RUNS.fullmatch(path)):
        return _of_runs(found["dag"], found["run"], clear=bool(found["clear"]))
    if not reads and (found := RESULTS.fullmatch(path)):
        return _of_results(
            RequestSource(found["dag"], found["run"], found["task"], _map_index(scope)), lookups.source(scope)
        )
    if found := KEYS.fullmatch(path):
        return _of_keys(found["id"].lower(), scope, lookups)
    if not reads and (found := ASSETS.fullmatch(path)):
        return _of_assets(found["by"].lower(), scope, lookups)
    return None


def _of_runs(dag_id: str, run_id: str, *, clear: bool) -> Refused | None:
    starts = dag_id.lower().startswith((RELEASES, ROLLBACKS, TRAINS))
    if not (starts or clear) or not is_controlled(dag_id):
        return None
    return Refused(dag_id, run_id, "RUN", refusal("RUN", dag_id, None if clear else RequestKind.START))


def _of_results(target: RequestSource, source: RequestSource | None) -> Refused | None:
    if source == target or not is_controlled(target.dag_id):
        return None
    return Refused(target.dag_id, target.run_id, "XCOM", refusal("XCOM", target.dag_id))


def _of_keys(connection_id: str, scope: Scope, lookups: Lookups) -> Refused | None:
    if connection_id not in ROOTS:
        return None
    source = lookups.source(scope)
    if source is not None and is_controlled(source.dag_id) and not lookups.stranger(source.dag_id):
        return None
    why = (
        f"The connection {connection_id} protects the release process: only tasks of Interlock's own Dags can read it. "
        "Rule: a task that reads it could record votes and bypass the board. Who can change it: this rule is fixed. "
        "Next: use another connection."
    )
    return Refused(source.dag_id if source else "unknown", source.run_id if source else "unknown", "CONNECTION", why)


def _of_assets(by: str, scope: Scope, lookups: Lookups) -> Refused | None:
    names = [value for key, value in _query(scope) if key == by]
    dags = {dag_id for name in names for dag_id in lookups.of_asset(by, name)}
    controlled = sorted(filter(is_controlled, dags))
    source = lookups.source(scope) if controlled else None
    if not controlled or (source is not None and source.dag_id in controlled):
        return None
    return Refused(controlled[0], "", "ASSET", refusal("ASSET", controlled[0], RequestKind.ASSET))


def _map_index(scope: Scope) -> int | None:
    """Return the map index of a result; none: there is not exactly one, so it belongs to no task."""
    given = [value for key, value in _query(scope) if key == "map_index"]
    if not given:
        return -1
    return int(given[0]) if len(given) == 1 and re.fullmatch(r"-?[0-9]+", given[0]) else None


def _query(scope: Scope) -> list[tuple[str, str]]:
    raw: Any = scope.get("query_string", b"")
    return parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
