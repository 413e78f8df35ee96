"""The door of Airflow's API: it knows what each request would change, and which release cannot be asked for.

A pure ASGI middleware around Airflow's API. Each request that changes something is left where the auth manager finds it
(``asked``). The body of a request that starts a release or a rollback is read and handed on untouched; what cannot be
released, or gone back to, is refused, with its reason, before a run exists. That is for people: the first task checks
the same again, whichever way a run was started. Who asked for a run under control is put on record before they hear
that there is one; and no task of another Dag starts a release or clears one: a train's conductor asks for its
passengers' releases at this door, and is let in for what a frozen manifest names. Nobody changes the connections here
on which all proof rests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from anyio import to_thread

from include.interlock.adapters.catalogue import load_service
from include.interlock.domain.errors import ReleaseError, RequestRefused
from include.interlock.domain.ledger import ENDED, INSTALLATION
from include.interlock.domain.outcome import PRODUCTION
from include.interlock.domain.request import parse_request
from include.interlock.domain.versions import MARKS, parse_rollback, refuse_unknown

from . import witness
from .asked import LARGEST_KEPT, App, Asked, Message, Receive, Scope, Send, let_in, says, under_way, unique
from .attempts import Note, attempt_by_task, attempt_of
from .behind import user_of
from .conductor import not_on_the_train
from .control import (
    is_controlled,
    is_release,
    is_rollback,
    is_root,
    is_train,
    refusal,
    refusal_of_root,
    service_of,
)
from .glass import OpenLedger, configured_ledger
from .messages import answer, body_within, read_body, replay
from .routes import Deed
from .verdict import bench, catalogue_folder

NoteRun = Callable[[str, str, Asked, bytes], None]

LARGEST_BODY = 64 * 1024
"""Bytes; the largest request that the form can make is a few kilobytes."""

# Looser than Airflow's own routes: what only looks like the route is answered here, and never reaches Airflow unread.
TRIGGER = re.compile(r"(?:.*/)?api/+v2/+dags/+(?P<dag>[^/]+)/+dagruns/*", re.IGNORECASE | re.DOTALL)
BY_TASK = re.compile(
    r"(?:.*/)?execution/+dag-runs/+(?P<dag>[^/]+)/+(?P<run>[^/]+)(?P<clear>/+clear)?/*", re.IGNORECASE | re.DOTALL
)
"""What tasks ask Airflow for: to start a run of another Dag, or to clear one."""
CONNECTION = re.compile(r"(?:.*/)?api/+v2/+connections(?:/+(?P<id>[^/]+))?/*", re.IGNORECASE | re.DOTALL)


class ReleaseDoor:
    """Refuse what cannot be released, and hand on the rest.

    :param catalogue: the catalogue's folder; by default ``INTERLOCK_CATALOGUE``, or the project's own.
    :param note: takes a refused attempt of a task.
    :param note_run: takes who asked for a run under control: their name, the Dag, the request, and Airflow's answer.
    :param user: says who sends a request.
    :param open_ledger: opens the ledger, in which the manifests of trains are.
    """

    def __init__(
        self,
        app: App,
        catalogue: Path | None = None,
        note: Note | None = None,
        note_run: NoteRun = witness.note_run,
        user: Callable[[Scope], Awaitable[str]] = user_of,
        open_ledger: OpenLedger = configured_ledger,
    ) -> None:
        self.app, self.catalogue, self._note = app, catalogue, note
        self._note_run, self._user, self._open_ledger = note_run, user, open_ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with 422 and the reason."""
        if scope["type"] == "http":
            await let_in(self._enter, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = under_way()
        if isinstance(asked, Asked) and (named := CONNECTION.fullmatch(asked.path)):
            await self._connection(named["id"], asked, scope, receive, send)
            return
        if isinstance(asked, Asked) and asked.method == "POST":
            if why := self._of_a_task(asked):
                await answer(send, 403, why)
                return
            triggered = TRIGGER.fullmatch(asked.path)
            if triggered and is_controlled(triggered["dag"]):
                send = self._on_record(triggered["dag"], asked, scope, send)
            if triggered and (is_release(triggered["dag"]) or is_rollback(triggered["dag"])):
                await self._ask(triggered["dag"], scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _connection(self, named: str | None, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what would change a connection, unless all proof rests on it."""
        body = await body_within(receive, send, LARGEST_KEPT, "A request about connections")
        if body is None:
            return
        roots = sorted({named} if named and is_root(named) else says(asked.content, is_root))
        if body and asked.content is None:
            await answer(send, 422, "The request is not JSON that can be read.")
        elif roots:
            user = await self._who(scope)
            (self._note or bench().note)(attempt_of(user, asked, "CONNECTION", roots[0], "release control"))
            await answer(send, 403, refusal_of_root(roots[0]))
        else:
            await self.app(scope, replay(body, receive), send)

    def _on_record(self, dag_id: str, asked: Asked, scope: Scope, send: Send) -> Send:
        """Return a ``send`` that gives Airflow's answer when it is on record who asked for the run that it made."""
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)
            if message["type"] != "http.response.start" and not message.get("more_body"):
                if held[0].get("status") in (200, 201):
                    reply = b"".join(one.get("body", b"") for one in held)
                    await to_thread.run_sync(self._note_run, await self._user(scope), dag_id, asked, reply)
                for one in held:
                    await send(one)

        return hold

    async def _ask(self, dag_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, LARGEST_BODY)
        if body is None:
            return  # the client has gone
        why = await to_thread.run_sync(self._refusal, dag_id, body)
        if why:
            await answer(send, 422, why)
        elif is_release(dag_id) and (why := await self._of_a_train(dag_id, body, scope)):
            await answer(send, 403, why)
        else:
            await self.app(scope, replay(body, receive), send)

    def _refusal(self, dag_id: str, body: bytes) -> str:
        """Say why this request is refused; empty: it is not."""
        if len(body) > LARGEST_BODY:
            return f"The request is larger than {LARGEST_BODY} bytes."
        try:
            asked = json.loads(body, object_pairs_hook=unique)
            if not isinstance(asked, dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            return f"The request is not JSON that can be read: {error}."
        return self._judge(dag_id, asked.get("conf"))

    def _judge(self, dag_id: str, conf: Any) -> str:
        if not isinstance(conf, dict):
            return "The request has no conf with the fields of the trigger form."
        return self._of_a_release(dag_id, conf) if is_release(dag_id) else self._of_a_rollback(dag_id, conf)

    def _of_a_release(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        folder = self.catalogue or catalogue_folder()
        try:
            parse_request(conf, policy=load_service(folder, service_of(dag_id)).policy)
        except RequestRefused as error:
            return str(error)
        except ReleaseError as error:
            return f"No release can be asked for while its catalogue is wrong. {error}"
        return ""

    def _of_a_rollback(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        try:
            version = parse_rollback(conf).version
            if version:
                with self._open_ledger() as ledger:
                    known = [one for kind in (ENDED, MARKS) for one in ledger.entries(INSTALLATION, kind=kind)]
                refuse_unknown(version, known, service_of(dag_id), PRODUCTION)
        except ReleaseError as error:
            return str(error)
        return ""

    async def _of_a_train(self, dag_id: str, body: bytes, scope: Scope) -> str:
        """Say why this is no train's passenger although it is asked for as one, or by the conductor; empty: fine."""
        conf, user = json.loads(body)["conf"], await self._who(scope)
        service = service_of(dag_id)
        return await to_thread.run_sync(not_on_the_train, user, service, conf, self._open_ledger)

    async def _who(self, scope: Scope) -> str:
        """Return the name of who asks; empty if Airflow knows nobody: it says so itself."""
        from fastapi import HTTPException

        try:
            return await self._user(scope)
        except HTTPException:
            return ""

    def _of_a_task(self, asked: Asked) -> str:
        """Say why a task's request to start or clear a run is refused; empty: it is not, or it is no such request."""
        found = BY_TASK.fullmatch(asked.path)
        if not found or not _is_closed_to_tasks(found["dag"], bool(found["clear"])):
            return ""
        note = self._note or bench().note
        note(attempt_by_task(asked, found["dag"], found["run"]))
        return refusal("RUN", found["dag"], None if found["clear"] else Deed.START)


def _is_closed_to_tasks(dag_id: str, clear: bool) -> bool:
    """Tell whether a task may not start a run of a Dag, or clear one."""
    return is_release(dag_id) or is_rollback(dag_id) or is_train(dag_id) or (clear and is_controlled(dag_id))
