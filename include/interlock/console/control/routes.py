"""Every route of Airflow's API that changes something, and what it does to a Dag; and Interlock's own such routes.

The table is complete for the locked version of Airflow: a test fails when Airflow has a route that is not in it. Such a
route is refused on Dags under control until its row is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class RequestKind(StrEnum):
    """What a request does to a Dag, its runs and what they left."""

    TRIGGER = "asks for a run at the form"
    ANSWER = "answers a question"
    ATTACH = "attaches a file to a test case"
    TAKE = "takes a test case, or gives it back"
    LIST = "reads, though it is no GET"
    OWN = "keeps the reader's own preferences"
    PARSE = "has a Dag's file read again"
    PAUSE = "pauses or unpauses a Dag"
    PAUSE_MANY = "pauses or unpauses Dags by a pattern"
    EDIT = "changes or deletes runs, tasks, records or a Dag"
    PREVIEW = "shows what an edit would change"
    START = "starts runs by another way than the form"
    ASSET = "changes assets, their events and state"
    ELSEWHERE = "has nothing to do with a Dag's runs"


@dataclass(frozen=True, slots=True)
class Route:
    """A route that changes something.

    :param template: its path, as Airflow writes it.
    :param entity: what it changes, in Airflow's words (``DagAccessEntity``); none: the Dag itself.
    :param in_body: Dags may be named in its body.
    :param may_preview: its body may say ``dry_run``; of all others, Airflow does not read that.
    """

    method: str
    template: str
    request_kind: RequestKind
    entity: str | None = None
    in_body: bool = False
    may_preview: bool = False


DAG, RUN = "/api/v2/dags/{dag_id}", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}"
TASK = RUN + "/taskInstances/{task_id}"
XCOM, STATE, GROUP = TASK + "/xcomEntries", TASK + "/state-store", RUN + "/taskGroupInstances/{group_id}"
OWN_TASK = TASK.replace("/api/v2", "/interlock/api/v1") + "/{map_index}"
"""A task in Interlock's own API."""
ASSET, BACKFILL = "/api/v2/assets/{asset_id}", "/api/v2/backfills/{backfill_id}"


def _routes() -> Iterator[Route]:
    yield from _of_dags()
    yield from _of_runs()
    yield from _of_tasks()
    yield from _of_assets()
    yield from _of_the_rest()


def _of_dags() -> Iterator[Route]:
    yield Route("PATCH", "/api/v2/dags", RequestKind.PAUSE_MANY)
    yield Route("PATCH", DAG, RequestKind.PAUSE)
    yield Route("DELETE", DAG, RequestKind.EDIT)
    yield Route("POST", f"{DAG}/favorite", RequestKind.OWN)
    yield Route("POST", f"{DAG}/unfavorite", RequestKind.OWN)
    yield Route("PUT", "/api/v2/parseDagFile/{file_token}", RequestKind.PARSE)


def _of_runs() -> Iterator[Route]:
    yield Route("POST", f"{DAG}/dagRuns", RequestKind.TRIGGER, "RUN")
    yield Route("POST", f"{DAG}/dagRuns/list", RequestKind.LIST, "RUN")
    yield Route("PATCH", f"{DAG}/dagRuns", RequestKind.EDIT, "RUN", in_body=True)
    yield Route("POST", f"{DAG}/clearDagRuns", RequestKind.EDIT, "RUN", in_body=True, may_preview=True)
    yield Route("POST", f"{DAG}/clearPartitions", RequestKind.EDIT, "RUN", may_preview=True)
    yield Route("PATCH", RUN, RequestKind.EDIT, "RUN")
    yield Route("DELETE", RUN, RequestKind.EDIT, "RUN")
    yield Route("POST", f"{RUN}/clear", RequestKind.EDIT, "RUN", may_preview=True)
    yield Route("POST", "/api/v2/backfills", RequestKind.START, "RUN", in_body=True)
    yield Route("POST", "/api/v2/backfills/dry_run", RequestKind.START, "RUN", in_body=True)
    for change in ("pause", "unpause", "cancel"):
        yield Route("PUT", f"{BACKFILL}/{change}", RequestKind.START, "RUN")


def _of_tasks() -> Iterator[Route]:
    yield Route("POST", f"{DAG}/clearTaskInstances", RequestKind.EDIT, "TASK_INSTANCE", in_body=True, may_preview=True)
    yield Route("PATCH", f"{RUN}/taskInstances", RequestKind.EDIT, "TASK_INSTANCE", in_body=True)
    yield Route("POST", f"{RUN}/taskInstances/list", RequestKind.LIST, "TASK_INSTANCE")
    yield Route("PATCH", TASK, RequestKind.EDIT, "TASK_INSTANCE")
    yield Route("DELETE", TASK, RequestKind.EDIT, "TASK_INSTANCE")
    yield Route("PATCH", f"{TASK}/dry_run", RequestKind.PREVIEW, "TASK_INSTANCE")
    yield Route("PATCH", f"{TASK}/{{map_index}}", RequestKind.EDIT, "TASK_INSTANCE")
    yield Route("PATCH", f"{TASK}/{{map_index}}/dry_run", RequestKind.PREVIEW, "TASK_INSTANCE")
    yield Route("PATCH", f"{TASK}/{{map_index}}/hitlDetails", RequestKind.ANSWER, "HITL_DETAIL")
    yield Route("POST", OWN_TASK + "/files", RequestKind.ATTACH, "HITL_DETAIL")
    for method in ("PUT", "DELETE"):
        yield Route(method, OWN_TASK + "/taker", RequestKind.TAKE, "HITL_DETAIL")
    yield Route("PATCH", GROUP, RequestKind.EDIT, "TASK_INSTANCE")
    yield Route("PATCH", f"{GROUP}/dry_run", RequestKind.PREVIEW, "TASK_INSTANCE")
    yield Route("POST", XCOM, RequestKind.EDIT, "XCOM")
    yield Route("PATCH", f"{XCOM}/{{xcom_key:path}}", RequestKind.EDIT, "XCOM")
    yield Route("DELETE", f"{XCOM}/{{xcom_key:path}}", RequestKind.EDIT, "XCOM")
    yield Route("DELETE", STATE, RequestKind.EDIT, "TASK_INSTANCE")
    for method in ("PUT", "PATCH", "DELETE"):
        yield Route(method, f"{STATE}/{{key:path}}", RequestKind.EDIT, "TASK_INSTANCE")


def _of_assets() -> Iterator[Route]:
    yield Route("POST", "/api/v2/assets/events", RequestKind.ASSET, "ASSET", in_body=True)
    yield Route("POST", f"{ASSET}/materialize", RequestKind.START, "ASSET")
    yield Route("DELETE", f"{ASSET}/queuedEvents", RequestKind.ASSET, "ASSET")
    yield Route("DELETE", f"{ASSET}/state-store", RequestKind.ASSET, "ASSET")
    for method in ("PUT", "DELETE"):
        yield Route(method, f"{ASSET}/state-store/{{key:path}}", RequestKind.ASSET, "ASSET")
    yield Route("DELETE", f"{DAG}/assets/queuedEvents", RequestKind.ASSET, "ASSET")
    yield Route("DELETE", f"{DAG}/assets/{{asset_id}}/queuedEvents", RequestKind.ASSET, "ASSET")


def _of_the_rest() -> Iterator[Route]:
    """Yield the routes that change no Dag.

    The middleware refuses changes of the connections on which proof rests; a release checks itself whether another
    connection that it uses has changed.
    """
    for kind, name in (
        ("connections", "connection_id"),
        ("pools", "pool_name:path"),
        ("variables", "variable_key:path"),
    ):
        yield Route("POST", f"/api/v2/{kind}", RequestKind.ELSEWHERE)
        yield Route("PATCH", f"/api/v2/{kind}", RequestKind.ELSEWHERE)
        for method in ("PATCH", "DELETE"):
            yield Route(method, f"/api/v2/{kind}/{{{name}}}", RequestKind.ELSEWHERE)
    for action in ("test", "enqueue-test", "defaults"):
        yield Route("POST", f"/api/v2/connections/{action}", RequestKind.ELSEWHERE)
    yield Route("POST", "/ui/auth/token", RequestKind.ELSEWHERE)


ROUTES = tuple(_routes())


def route_of(method: str, path: str) -> tuple[Route | None, dict[str, str]]:
    """Return the route that Airflow takes for a path, and what stands for the names in its template.

    Where a path fits several, the route with the most fixed words is taken, as in Airflow: ``…/dry_run`` is no
    map index. A path that Airflow would not take as it is written fits none.
    """
    best: tuple[Route | None, dict[str, str]] = (None, {})
    for route in ROUTES:
        if route.method != method or not (found := _pattern(route.template).fullmatch(path)):
            continue
        if best[0] is None or _own_words(route) > _own_words(best[0]):
            best = (route, found.groupdict())
    return best


def _own_words(route: Route) -> int:
    return sum(not part.startswith("{") for part in route.template.split("/"))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(:path)?\}", template)
    text = ""
    for words, name, rest in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        # Of what is no number Airflow makes no map index; here it could be the name of another route's part.
        one = r"-?\d+" if name == "map_index" else "[^/]+"
        text += re.escape(words) + f"(?P<{name}>{'.+' if rest else one})"
    return re.compile(text + re.escape(parts[-1]), re.DOTALL | re.ASCII)
