"""The middleware of release control, around Airflow's API: it checks each request that changes something.

A pure ASGI middleware. It keeps each request for the auth manager (``current_request``). It reads the form of a request
for a run under control, names the run if it has no name (``run_names``), and refuses what cannot be done, with the
reason, before a run exists. That helps people: the first task of the run checks the same again. The requester of a run
under control is recorded before Airflow's answer is sent. Requests of tasks are checked by ``task_requests``, those of
the conductor of trains by ``train_requests``. The middleware also refuses changes of the connections on which all proof
rests, and requests to a Dag that has a name of Interlock but is not Interlock's.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anyio import sleep, to_thread

from interlock.console.about import about_this_server
from interlock.console.messages import answer, answer_with, body_within, read_body, replay
from interlock.console.record import witness
from interlock.console.record.attempts import Note, attempt_by_task, attempt_of
from interlock.console.record.turns import refusal_of_second, turn
from interlock.domain.dag_names import RELEASES, WITHDRAW_RELEASE, unsafe_run
from interlock.domain.errors import describe_error
from interlock.locations import catalogue_folder

from .break_glass import OpenLedger, configured_ledger
from .current_request import (
    MAX_KEPT_BYTES,
    App,
    CurrentRequest,
    Message,
    Reading,
    Receive,
    Scope,
    Send,
    let_in,
    path_of,
    says,
    under_way,
    unique,
)
from .forms import Asking, refused_form
from .lookups import name_of, roles_of, user_of
from .refusal import bench
from .routes import RequestKind
from .rules import RELEASE_MANAGER, is_controlled, is_root, may_be_controlled, refusal_of_root, service_of
from .run_names import name_run, sized
from .task_requests import ABOUT, GUARDED, Lookups, is_of_a_task, may_be_refused, refused
from .train_requests import not_of_its_service, not_on_the_train
from .withdrawal_requests import refused_withdrawal

log = logging.getLogger(__name__)
NoteRun = Callable[[str, str, CurrentRequest, bytes], None]

MAX_BODY_BYTES = 64 * 1024
"""Bytes; the largest request that the form can make is a few kilobytes."""

SETTLED_AFTER = timedelta(seconds=5)
"""After a task has paused for a question, the scheduler must see that its process ended. If it is answered before, the
scheduler takes the process that goes on for the one that ended, and the answer is lost (apache/airflow#67287, #72716).
"""

# Looser than Airflow's own routes: what is similar to a route is checked, too.
TRIGGER = re.compile(r"(?:.*/)?api/+v2/+dags/+(?P<dag>[^/]+)/+dagruns/*", re.IGNORECASE | re.DOTALL)
CONNECTION = re.compile(r"(?:.*/)?api/+v2/+connections(?:/+(?P<id>[^/]+))?/*", re.IGNORECASE | re.DOTALL)


UNEXPLAINED = (400, 403, 404, 409, 422)
"""Statuses with which an answer is refused for good; 401 leads to the log-in, and 503 is tried again."""
EXPLAINED = 470
"""No registered status: clients take it for 400, Airflow's UI shows the body."""


class ReleaseControl:
    """Refuse what cannot be done, and pass on all other requests.

    :param catalogue: the catalogue's folder; by default ``INTERLOCK_CATALOGUE``, or the project's own.
    :param note: records a refused attempt.
    :param note_run: records the requester of a run under control: user name, Dag, request, and Airflow's answer.
    :param user: returns the user name of the requester.
    :param open_ledger: opens the ledger, in which the manifests of trains are.
    :param lookups: looks up what matters to the requests of tasks, whether a Dag is what its name says, and what runs.
    :param roles: returns the roles of the requester; none: the auth manager knows no roles.
    """

    def __init__(
        self,
        app: App,
        catalogue: Path | None = None,
        note: Note | None = None,
        note_run: NoteRun = witness.note_run,
        user: Callable[[Scope], Awaitable[str]] = user_of,
        open_ledger: OpenLedger = configured_ledger,
        lookups: Lookups | None = None,
        roles: Callable[[Scope], Awaitable[frozenset[str] | None]] = roles_of,
    ) -> None:
        self.app, self.catalogue, self._note = app, catalogue, note
        self._note_run, self._user, self._open_ledger = note_run, user, open_ledger
        self._knows, self._roles = lookups or Lookups(), roles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with 422 and the reason."""
        if scope["type"] == "http":
            await let_in(self._enter, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = under_way()
        if isinstance(asked, CurrentRequest) and (named := CONNECTION.fullmatch(asked.path)):
            await self._connection(named["id"], asked, scope, receive, send)
            return
        if is_of_a_task(path_of(scope)):
            await self._task(asked, scope, receive, send)
            return
        if isinstance(asked, CurrentRequest):
            dag_id = _talked_to(asked)
            if may_be_controlled(dag_id) and await to_thread.run_sync(is_controlled, dag_id):
                await self._talk(dag_id, asked, scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _task(self, asked: CurrentRequest | Reading | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request of a task to the execution API, or refuse it."""
        path = path_of(scope)
        if GUARDED.fullmatch(path):
            await answer(send, 200, "guarded")
            return
        if about := ABOUT.fullmatch(path):
            said = await to_thread.run_sync(about_this_server, scope.get("app"), (about["service"] or "").lower())
            await answer_with(send, 200, said)
            return
        method, found = scope["method"], None
        if may_be_refused(method, path):
            found = await to_thread.run_sync(refused, method, path, scope, self._knows)
        if found is None:
            await self.app(scope, receive, send)
            return
        as_asked = asked if isinstance(asked, CurrentRequest) else CurrentRequest(method, path)
        (self._note or bench().note)(attempt_by_task(as_asked, found.entity, found.dag_id, found.run_id))
        await answer(send, 403, found.why)

    async def _talk(self, dag_id: str, asked: CurrentRequest, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request for a run of a Dag under control, or an answer to it, if the Dag is Interlock's."""
        if asked.request_kind is RequestKind.ANSWER:
            send = _readable(scope, send)
        if why := await to_thread.run_sync(self._knows.stranger, dag_id):
            user, entity = await self._who(scope), asked.route.entity if asked.route else "RUN"
            (self._note or bench().note)(attempt_of(user, asked, entity, dag_id, "release control"))
            await answer(send, 403, why)
        elif asked.request_kind is RequestKind.ANSWER:
            await self._answer(asked, scope, receive, send)
        else:
            await self._ask(dag_id, asked.at, scope, receive, self._on_record(dag_id, asked, scope, send))

    async def _answer(self, asked: CurrentRequest, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on an answer when no other answer to its question is worked on, and the scheduler can take it."""
        async with AsyncExitStack() as held:
            try:
                paused_at = await to_thread.run_sync(self._knows.paused_at, asked)
                await sleep(seconds_to_hold(paused_at, datetime.now(UTC)))
                await held.enter_async_context(turn(asked.names, self._open_ledger))
            except Exception as error:  # of any kind: without its turn, it could overwrite another answer
                log.exception("An answer to %s did not get its turn", asked.path)
                why = f"Your answer was not accepted. {describe_error(error)} Next: answer again later."
                await answer(send, 503, why)
                return
            await self.app(scope, receive, _naming_the_first(asked, self._knows, send))

    async def _connection(
        self, named: str | None, asked: CurrentRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Pass on a change of a connection, unless all proof rests on it."""
        body = await body_within(receive, send, MAX_KEPT_BYTES, "A request about connections")
        if body is None:
            return
        roots = sorted({named} if named and is_root(named) else says(asked.content, is_root))
        if roots:
            user = await self._who(scope)
            (self._note or bench().note)(attempt_of(user, asked, "CONNECTION", roots[0], "release control"))
            await answer(send, 403, refusal_of_root(roots[0]))
        elif why := _hidden(asked, body, scope):
            await answer(send, 422, why)
        else:
            await self.app(scope, replay(body, receive), send)

    def _on_record(self, dag_id: str, asked: CurrentRequest, scope: Scope, send: Send) -> Send:
        """Return a ``send`` that sends Airflow's answer once the requester of the new run is recorded."""
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

    async def _ask(self, dag_id: str, at: datetime, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, MAX_BODY_BYTES)
        if body is None:
            return  # the client has gone
        user = await self._who(scope)
        why = await to_thread.run_sync(self._refusal, dag_id, body, user)
        if why:
            await answer(send, 422, why)
        elif dag_id.lower().startswith(RELEASES) and (why := await self._of_another(dag_id, body, user, scope)):
            await answer(send, 403, why)
        elif dag_id.lower() == WITHDRAW_RELEASE and (refused := await self._of_a_withdrawal(body, user, scope)):
            await answer(send, *refused)
        else:
            body = name_run(dag_id, body, at)
            await self.app(sized(scope, body), replay(body, receive), send)

    def _refusal(self, dag_id: str, body: bytes, user: str) -> str:
        """Say why this request is refused; empty: it is not."""
        if len(body) > MAX_BODY_BYTES:
            return f"The request body is larger than {MAX_BODY_BYTES} bytes."
        try:
            asked = json.loads(body, object_pairs_hook=unique)
            if not isinstance(asked, dict):
                raise ValueError("the body is not a JSON object")
        except (ValueError, RecursionError) as error:
            return f"The request body is not valid JSON: {error}."
        asking = Asking(user, self.catalogue or catalogue_folder(), self._open_ledger, self._knows)
        return unsafe_run(asked.get("dag_run_id")) or refused_form(dag_id, asked.get("conf"), asking)

    async def _of_a_train(self, dag_id: str, body: bytes, user: str) -> str:
        """Say why a release may not be requested as a passenger of a train, or by the conductor; empty: it may."""
        conf, service = json.loads(body)["conf"], service_of(dag_id)
        return await to_thread.run_sync(not_on_the_train, user, service, conf, self._open_ledger)

    async def _of_another(self, dag_id: str, body: bytes, user: str, scope: Scope) -> str:
        """Say why a release may not be requested by this user, as a train's or a pipeline's; empty: it may."""
        if why := await self._of_a_train(dag_id, body, user):
            return why
        if not user:
            return ""  # Airflow refuses the request next
        roles, folder = await self._roles(scope), self.catalogue or catalogue_folder()
        return await to_thread.run_sync(not_of_its_service, user, roles, service_of(dag_id), folder)

    async def _of_a_withdrawal(self, body: bytes, user: str, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason of a refused withdrawal; none: this user can withdraw the release."""
        roles = await self._roles(scope)
        # Another auth manager does not have our roles: users whom it lets trigger the Dag are release managers.
        manages = roles is None or RELEASE_MANAGER in roles
        form, folder = json.loads(body).get("conf"), self.catalogue or catalogue_folder()
        runs = self._knows.runs_under_way
        return await to_thread.run_sync(refused_withdrawal, form, user, manages, folder, self._open_ledger, runs)

    async def _who(self, scope: Scope) -> str:
        """Return the name of the requesting user; empty if there is no such user."""
        return await name_of(scope, self._user)


def _hidden(asked: CurrentRequest, body: bytes, scope: Scope) -> str:
    """Say why the audit log would not name the connections that a request changes; empty: it would.

    Airflow keeps a body that is called JSON, and if none is, what stands in the address; it reads others as well.
    """
    if not body:
        return ""
    kind = next((value for name, value in scope.get("headers", ()) if name.lower() == b"content-type"), b"")
    if asked.content is None:
        return "The request body is not valid JSON."
    if asked.method == "DELETE":
        return (
            "A request that deletes a connection must not have a body: Airflow's audit log would name the body instead."
        )
    if b"application/json" not in kind:
        return "Send requests about connections as application/json. Airflow's audit log does not keep other bodies."
    return ""


def _readable(scope: Scope, send: Send) -> Send:
    """Return a ``send`` with which Airflow's form shows why an answer is refused.

    Airflow's UI shows its own text for each status that it knows, *Access Denied* for 403, instead of the reason. For
    any other status it shows the whole body. Browsers send ``Sec-Fetch-Mode``; other clients get the original status.
    """
    if not any(name.lower() == b"sec-fetch-mode" for name, _ in scope.get("headers", ())):
        return send

    async def rename(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in UNEXPLAINED:
            message = {**message, "status": EXPLAINED}
        await send(message)

    return rename


def _naming_the_first(asked: CurrentRequest, knows: Lookups, send: Send) -> Send:
    """Return a ``send`` that says who was first if Airflow refuses a second answer."""
    second = False

    async def name(message: Message) -> None:
        nonlocal second
        if message["type"] == "http.response.start" and message["status"] == 409:
            second = True
            first = await to_thread.run_sync(knows.given_before, asked)
            await answer(send, 409, refusal_of_second(first))
        elif not second:
            await send(message)

    return name


def seconds_to_hold(paused_at: datetime | None, now: datetime) -> float:
    """Return how long an answer is held back, in seconds: at most ``SETTLED_AFTER``.

    :param paused_at: since when the task of the question waits, by the clock of an API server; none: it does not wait.
    """
    if paused_at is None:
        return 0.0
    waited = max(now - paused_at, timedelta(0))  # clocks differ
    return max(SETTLED_AFTER - waited, timedelta(0)).total_seconds()


def _talked_to(asked: CurrentRequest) -> str:
    """Return the Dag that a request triggers, or whose question it answers; empty: it does neither."""
    if asked.method == "POST" and (triggered := TRIGGER.fullmatch(asked.path)):
        return triggered["dag"]
    return asked.names.get("dag_id", "") if asked.request_kind is RequestKind.ANSWER else ""
