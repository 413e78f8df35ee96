"""The guard for other auth managers than Interlock's: the same refusals, in front of any of them.

A pure ASGI middleware inside that of release control. Airflow decides who may do what, as always; a request that is
refused to every role does not reach it, whether it names the Dag in the path, in the body, or by the number of an asset
or a backfill. The user is read from Airflow's own token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import to_thread

from interlock.console.messages import answer, body_within, read_body, replay
from interlock.console.record.witness import is_answer, objection
from interlock.domain.dag_names import WATCHMEN

from .current_request import MAX_KEPT_BYTES, App, CurrentRequest, Receive, Scope, Send, let_in, says, under_way
from .lookups import dags_of_asset, dags_of_backfill, name_of, user_of
from .refusal import RefusedRequests, bench
from .routes import RequestKind
from .rules import OPEN_KINDS, is_controlled, is_open

PARTS = ("api", "ui")
"""First words of the paths of Airflow's own API."""
PAUSES = (RequestKind.PAUSE, RequestKind.PAUSE_MANY)


OURS = "interlock.console.auth.manager"
"""Interlock's auth manager; it cannot be imported where FAB is not installed."""


def is_needed(auth_manager: type) -> bool:
    """Tell whether an auth manager is neither Interlock's nor derived from it."""
    return not any(one.__module__ == OURS for one in auth_manager.__mro__)


def knows_by_number(auth_manager: type) -> bool:
    """Tell whether an auth manager is FAB's, which knows people by number."""
    return any(one.__name__ == "FabAuthManager" for one in auth_manager.__mro__)


class ReleaseGuard:
    """Refuse what no role may do to a Dag under control.

    Break-glass access needs a grant here, and no role, because other auth managers do not have the role.

    :param put_on_record: records an answer; returns why it is refused, or nothing.
    """

    def __init__(
        self,
        app: App,
        judges: Callable[[], RefusedRequests] = bench,
        put_on_record: Callable[[str, CurrentRequest], str] = objection,
    ) -> None:
        self.app, self._judges, self._put_on_record = app, judges, put_on_record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with 403 and the reason."""
        asked = under_way()
        if scope["type"] == "http" and asked is None:
            await let_in(self, scope, receive, send)
        elif isinstance(asked, CurrentRequest) and is_answer(asked):
            await self._witness(asked, scope, receive, send)
        elif isinstance(asked, CurrentRequest) and _may_matter(asked):
            await self._judge(asked, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _judge(self, asked: CurrentRequest, scope: Scope, receive: Receive, send: Send) -> None:
        if asked.route is None or asked.route.in_body or asked.request_kind in PAUSES:
            body = await body_within(receive, send, MAX_KEPT_BYTES, "A request that may name Dags")
            if body is None:
                return
            receive = replay(body, receive)
        dags = await to_thread.run_sync(dags_of, asked) if _looks_up(asked) else dags_of(asked)
        refused = [dag_id for dag_id in sorted(dags) if is_controlled(dag_id) and not is_open(asked, dag_id)]
        status, why = await self._objection(asked, scope, refused) if refused else (200, "")
        if why:
            await answer(send, status, why)
        else:
            await self.app(scope, receive, send)

    async def _witness(self, asked: CurrentRequest, scope: Scope, receive: Receive, send: Send) -> None:
        """Record an answer before Airflow gets it; Airflow then decides whether the user may give it."""
        body = await read_body(receive, MAX_KEPT_BYTES)
        if body is None:
            return  # the client has gone
        user = await name_of(scope, user_of)
        why = await to_thread.run_sync(self._put_on_record, user, asked) if user else ""
        if why:
            await answer(send, 503, why)
        else:
            await self.app(scope, replay(body, receive), send)

    async def _objection(self, asked: CurrentRequest, scope: Scope, refused: list[str]) -> tuple[int, str]:
        """Return status and reason of a refusal; no reason: the user has break-glass access."""
        from fastapi import HTTPException

        try:
            user = await user_of(scope)
        except HTTPException as error:
            return error.status_code, str(error.detail)
        entity = asked.route.entity if asked.route else None

        def judge() -> str:
            found = (self._judges().objection(user, asked, entity, dag_id, may_break=True) for dag_id in refused)
            return next((why for why in found if why), "")

        return 403, await to_thread.run_sync(judge)


def dags_of(asked: CurrentRequest) -> set[str]:
    """Return the Dags that a request is about; of an unknown request, all Dags under control that it names."""
    if asked.route is None:
        parts = asked.path.split("/")
        return {one for one in (*parts, *says(asked.content, is_controlled)) if is_controlled(one)}
    if asked.request_kind is RequestKind.PAUSE_MANY:  # a pattern may name them
        return set(WATCHMEN)
    dags = {target.dag_id for target in asked.targets if target.dag_id}
    if "backfill_id" in asked.names:
        dags |= dags_of_backfill(asked.names["backfill_id"])
    if asked.route.entity == "ASSET":
        dags |= dags_of_asset(asset_of(asked))
    return dags


def _looks_up(asked: CurrentRequest) -> bool:
    """Tell whether :func:`dags_of` asks a database; other requests need not wait for a thread."""
    return asked.route is None or "backfill_id" in asked.names or asked.route.entity == "ASSET"


def asset_of(asked: CurrentRequest) -> Any:
    """Return the number of the asset that a request names, in its path or in its body."""
    content = asked.content
    return asked.names.get("asset_id", content.get("asset_id") if isinstance(content, dict) else None)


def _may_matter(asked: CurrentRequest) -> bool:
    first = asked.path.lstrip("/").partition("/")[0].lower()
    return first in PARTS and asked.request_kind not in OPEN_KINDS and asked.request_kind is not RequestKind.ELSEWHERE
