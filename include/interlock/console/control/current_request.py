"""The current request: what it changes, for the auth manager, which Airflow asks only about parts of it.

Airflow also asks what a user may do to draw a menu or to filter a list; only a request that changes something is an
attempt. The middleware keeps each request here for the code that is called within it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from .routes import RequestKind, Route, route_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_KEPT_BYTES = 1024 * 1024
"""Bytes of a body that are kept; a larger body is not read."""
ANY = "~"
"""Airflow's sign for: those that the body names."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request names: a Dag, and as far as it says so a run and a task of it."""

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A request that changes nothing."""


READING: Final = Reading()


@dataclass(slots=True)
class CurrentRequest:
    """A request that would change something.

    :param path: below the place where Airflow is served.
    :param decided: what has been refused in it, and what not, so that it is decided and recorded once.
    """

    method: str
    path: str
    body: bytearray = field(default_factory=bytearray)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    route: Route | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    decided: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.route, self.names = route_of(self.method, self.path)

    @property
    def request_kind(self) -> RequestKind | None:
        """What it does; None: its route is not in the table."""
        return self.route.request_kind if self.route else None

    @property
    def content(self) -> Any:
        """What its body says, as far as the body has been read; None if that is not JSON."""
        try:
            return None if len(self.body) > MAX_KEPT_BYTES else json.loads(bytes(self.body), object_pairs_hook=unique)
        except (ValueError, RecursionError):
            return None

    @property
    def unpauses(self) -> bool:
        """Tell whether all that it does is to let a Dag run again."""
        content = self.content
        return isinstance(content, dict) and content.get("is_paused") is False

    @property
    def previews(self) -> bool:
        """Tell whether it only shows what it would change."""
        if self.route is None or not self.route.may_preview:
            return self.request_kind is RequestKind.PREVIEW
        content = self.content
        return isinstance(content, dict) and content.get("dry_run") is True

    @property
    def reaches_further(self) -> bool:
        """Tell whether it changes runs that it does not name, or may."""
        content = self.content
        if not isinstance(content, dict):
            return bool(self.body)
        found = [one for one in (content, *_entities(content)) if isinstance(one, dict)]
        return any(one.get(name) not in (None, False) for one in found for name in ("include_past", "include_future"))

    @property
    def targets(self) -> tuple[Target, ...]:
        """What it names, in its path and in its body."""
        names = self.names
        whole = _narrowed(Target(), names)
        content = self.content if self.route is None or self.route.in_body else None
        if not isinstance(content, dict):
            return (whole,)
        of_body = _narrowed(whole, content)
        each = [_of_entity(of_body, entity, self.route) for entity in _entities(content)]
        tasks = content.get("task_ids")
        each += [_of_entity(of_body, task, self.route) for task in tasks] if isinstance(tasks, list) else []
        return tuple(dict.fromkeys(each or [of_body]))

    def targets_of(self, dag_id: str) -> tuple[Target, ...]:
        """Return what it names of a Dag; if nothing, the Dag."""
        return tuple(target for target in self.targets if target.dag_id == dag_id) or (Target(dag_id),)


_UNDER_WAY: ContextVar[CurrentRequest | Reading | None] = ContextVar("interlock_request", default=None)


def under_way() -> CurrentRequest | Reading | None:
    """Return the request within which this is called; None: there is none, or it did not pass the middleware."""
    return _UNDER_WAY.get()


async def let_in(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an app so that code called within the request can read it with :func:`under_way`."""
    asked = asked_of(scope)
    token = _UNDER_WAY.set(asked)
    try:
        await app(scope, _kept(asked, receive) if isinstance(asked, CurrentRequest) else receive, send)
    finally:
        _UNDER_WAY.reset(token)


def asked_of(scope: Scope) -> CurrentRequest | Reading:
    """Return what a request is, without its body."""
    if scope["method"] in SAFE_METHODS:
        return READING
    return CurrentRequest(scope["method"], path_of(scope))


def path_of(scope: Scope) -> str:
    """Return the path of a request below the place where Airflow is served."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _kept(asked: CurrentRequest, receive: Receive) -> Receive:
    """Return a ``receive`` that keeps the beginning of what the app reads through it."""

    async def keep() -> Message:
        message = await receive()
        if message["type"] == "http.request" and len(asked.body) <= MAX_KEPT_BYTES:
            asked.body += message.get("body", b"")
        return message

    return keep


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with the same key twice: another reader might use the other value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object contains the same key twice")
    return found


def _narrowed(target: Target, names: Mapping[str, Any]) -> Target:
    def said(name: str, known: str | None) -> str | None:
        value = names.get(name)
        return value if isinstance(value, str) and value not in ("", ANY) else known

    return Target(
        said("dag_id", target.dag_id),
        said("run_id", said("dag_run_id", target.run_id)),
        said("task_id", target.task_id),
    )


def _entities(content: Any) -> Iterator[Any]:
    """Yield the things that a bulk request lists."""
    if not isinstance(content, dict):
        return
    runs, actions = content.get("dag_runs"), content.get("actions")
    yield from runs if isinstance(runs, list) else ()
    for action in actions if isinstance(actions, list) else ():
        listed = action.get("entities") if isinstance(action, dict) else None
        yield from listed if isinstance(listed, list) else ()


def _of_entity(whole: Target, entity: Any, route: Route | None) -> Target:
    if isinstance(entity, dict):
        return _narrowed(whole, entity)
    if isinstance(entity, list) and entity:  # a task and its map index
        entity = entity[0]
    is_task = route is not None and route.entity == "TASK_INSTANCE"
    return _narrowed(whole, {"task_id" if is_task else "dag_run_id": entity})


def says(content: Any, is_named: Callable[[str], bool]) -> Iterator[str]:
    """Yield every text in some JSON that names something, wherever it stands."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and is_named(one):
            yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
