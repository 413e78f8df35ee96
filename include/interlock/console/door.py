"""The door of the trigger form: a release that cannot be asked for is refused, with its reason, before a run exists.

A pure ASGI middleware around Airflow's API. It reads the body of the one request that starts a release and hands it on
untouched; everything else passes without being looked at. It is for people: the first task checks the same again,
whichever way a run was started.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from anyio import to_thread

from include.interlock.adapters.catalogue import load_service
from include.interlock.domain.errors import ReleaseError, RequestRefused
from include.interlock.domain.request import parse_request

from .control import is_controlled, service_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 64 * 1024
"""Bytes; the largest request that the form can make is a few kilobytes."""

# Looser than Airflow's own routes: what only looks like the route is answered here, and never reaches Airflow unread.
TRIGGER = re.compile(r"(?:.*/)?api/+v2/+dags/+(?P<dag>[^/]+)/+dagruns/*", re.IGNORECASE | re.DOTALL)
BACKFILL = re.compile(r"(?:.*/)?api/+v2/+backfills(?:/+dry_run)?/*", re.IGNORECASE | re.DOTALL)


class ReleaseDoor:
    """Refuse what cannot be released, and hand on the rest.

    :param catalogue: the catalogue's folder; by default ``INTERLOCK_CATALOGUE``, or the project's own.
    """

    def __init__(self, app: App, catalogue: Path | None = None) -> None:
        self.app = app
        self.catalogue = catalogue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with 422 and the reason."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _concerns_runs(scope["path"]):
            await self.app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # the client has gone
        refusal = await to_thread.run_sync(self._refusal, scope["path"], body)
        if refusal:
            await _answer(send, refusal)
        else:
            await self.app(scope, _replay(body, receive), send)

    def _refusal(self, path: str, body: bytes) -> str:
        """Say why this request is refused; empty: it is not."""
        if len(body) > LARGEST_BODY:
            return f"The request is larger than {LARGEST_BODY} bytes."
        try:
            asked = json.loads(body, object_pairs_hook=_unique)
            if not isinstance(asked, dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            return f"The request is not JSON that can be read: {error}."
        triggered = TRIGGER.fullmatch(path)
        dag_id = triggered["dag"] if triggered else asked.get("dag_id")
        if not isinstance(dag_id, str) or not is_controlled(dag_id.lower()):
            return ""
        return self._judge(dag_id, asked.get("conf")) if triggered else NO_BACKFILL

    def _judge(self, dag_id: str, conf: Any) -> str:
        if not isinstance(conf, dict):
            return "The request has no conf with the fields of the trigger form."
        folder = self.catalogue or catalogue_folder()
        try:
            parse_request(conf, policy=load_service(folder, service_of(dag_id.lower())).policy)
        except RequestRefused as error:
            return str(error)
        except ReleaseError as error:
            return f"No release can be asked for while its catalogue is wrong. {error}"
        return ""


NO_BACKFILL = "A release is asked for at its trigger form, once; it is not backfilled."


def catalogue_folder() -> Path:
    """Return the catalogue's folder: ``INTERLOCK_CATALOGUE``, or the project's own."""
    return Path(os.environ.get("INTERLOCK_CATALOGUE") or Path(__file__).parents[2] / "catalogue")


def _concerns_runs(path: str) -> bool:
    triggered = TRIGGER.fullmatch(path)
    return is_controlled(triggered["dag"].lower()) if triggered else bool(BACKFILL.fullmatch(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice: whoever reads it next might take the other one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


async def _read(receive: Receive) -> bytes | None:
    """Return the body, or the beginning of one that is too large; None if the client has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > LARGEST_BODY:
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body again, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, refusal: str) -> None:
    body = json.dumps({"detail": refusal}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 422, "headers": headers})
    await send({"type": "http.response.body", "body": body})
