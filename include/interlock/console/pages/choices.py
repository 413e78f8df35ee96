"""What trigger forms offer to choose from, such as the stops in force, and what they say holds releases back now.

Airflow makes a form of the params of a Dag, which are written when the Dag's file is parsed and know nothing of the
ledger. So the details of a Dag, which the form reads when it is opened, get ``examples`` on their way, which Airflow's
form offers in a list. The form of a release offers the tags of the repository, and its first field says which stops and
freezes are in force. Nothing depends on any of this: what is sent is checked as if it had been typed.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread

from interlock.adapters.catalogue.catalogue import load_service
from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.control.current_request import App, Message, Receive, Scope, Send, path_of
from interlock.console.control.lookups import runs_under_way, tags_of_service
from interlock.console.control.rules import service_of
from interlock.domain.calendars.stops import STOPS, all_in_force
from interlock.domain.catalogue import PRODUCTION, Service
from interlock.domain.dag_names import (
    ACCEPT_DEFECT,
    EMERGENCY_STOP,
    MARK_VERSION,
    RELEASES,
    REVIEW_RELEASE,
    ROLLBACKS,
    TRAINS,
    WITHDRAW_RELEASE,
)
from interlock.domain.ledger.chain import INSTALLATION, Book, Entry
from interlock.domain.ledger.kinds import DEFECT_OPENED, RELEASE_ENDED, RELEASE_REVIEWED, family
from interlock.domain.outcome.marks import MARKS
from interlock.domain.outcome.rollback import earlier_versions
from interlock.domain.testing.defects import chain_of_defects, open_defects
from interlock.locations import catalogue_folder

from .in_force import look

log = logging.getLogger(__name__)

DETAILS = re.compile(r"/api/v2/dags/(?P<dag>[A-Za-z0-9_.-]+)/details")
HELD = (RELEASES, ROLLBACKS, TRAINS)
"""The Dags whose runs a stop or a freeze holds back."""
MOST = 50
"""A longer list helps nobody."""
Runs = Callable[[], frozenset[str]]
Tags = Callable[[Service], tuple[str, ...]]


class FormChoices:
    """Adds the choices to the details of the Dags whose forms have some.

    :param open_ledger: opens the ledger.
    :param runs: returns Dag and run of each run that has not ended.
    :param catalogue: the catalogue's folder; by default ``INTERLOCK_CATALOGUE``, or the project's own.
    :param tags: returns the tags of a service's repository.
    """

    def __init__(
        self,
        app: App,
        open_ledger: OpenLedger = configured_ledger,
        runs: Runs = runs_under_way,
        catalogue: Path | None = None,
        tags: Tags = tags_of_service,
    ) -> None:
        self.app, self._open_ledger, self._runs, self._catalogue = app, open_ledger, runs, catalogue
        self._tags = tags

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; add the choices to an answer with the details of a Dag."""
        asked = DETAILS.fullmatch(path_of(scope)) if scope["type"] == "http" and scope["method"] == "GET" else None
        if asked is None or not has_choices(asked["dag"]):
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        await self.app({**scope, "headers": plain}, receive, self._adding(asked["dag"], send))

    def _adding(self, dag_id: str, send: Send) -> Send:
        """Return a ``send`` that holds an answer until it is whole, and adds the choices to it."""
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)
            if message["type"] == "http.response.start" or message.get("more_body"):
                return
            body = b"".join(one.get("body", b"") for one in held)
            if held[0].get("status") == 200:
                body = await to_thread.run_sync(self._added, dag_id, body)
            headers = [one for one in held[0].get("headers", ()) if one[0].lower() != b"content-length"]
            length = (b"content-length", str(len(body)).encode())
            await send({**held[0], "headers": [*headers, length]})
            await send({"type": "http.response.body", "body": body})

        return hold

    def _added(self, dag_id: str, body: bytes) -> bytes:
        """Return the details of a Dag with the choices; as they are, if something cannot be read."""
        try:
            details = json.loads(body)
            with self._open_ledger() as ledger:
                field, choices = choices_of(dag_id, ledger, self._runs)
                held = holding_back(dag_id, self._catalogue or catalogue_folder(), ledger)
            asked = details["params"][field]
            choices = choices or self._tags_for(dag_id)
            if choices:
                asked["schema"]["examples"] = choices[:MOST]
            if held:
                asked["description"] = " ".join((*held, asked.get("description") or ""))
            return json.dumps(details).encode()
        except Exception:  # of any kind: the form is as useful as it was
            log.exception("The choices of the form of %s cannot be read", dag_id)
            return body

    def _tags_for(self, dag_id: str) -> list[str]:
        """Return the tags that a release can be of; none, if the repository does not answer: a tag can be typed."""
        if not dag_id.startswith(RELEASES):
            return []
        name = service_of(dag_id)
        try:
            service = load_service(self._catalogue or catalogue_folder(), name).services[name]
            return list(self._tags(service))
        except Exception:  # of any kind: the rest of the form is as useful
            log.warning("The tags of the repository of %s cannot be read", name, exc_info=True)
            return []


def has_choices(dag_id: str) -> bool:
    """Tell whether the form of a Dag offers or says something from the ledger."""
    return dag_id in (
        ACCEPT_DEFECT,
        EMERGENCY_STOP,
        MARK_VERSION,
        REVIEW_RELEASE,
        WITHDRAW_RELEASE,
    ) or dag_id.startswith(HELD)


def holding_back(dag_id: str, folder: Path, ledger: Book) -> list[str]:
    """Return, in words, what holds back now what a form asks for; nothing for other forms."""
    if not dag_id.startswith(HELD):
        return []
    found = look(folder, ledger, dag_id)
    said = {"Emergency stop in force": found.stops, "Freeze in force": found.freezes, "Incident": found.incidents}
    return [f"{what}: {one}" for what, every in said.items() for one in every]


def choices_of(dag_id: str, ledger: Book, runs: Runs) -> tuple[str, list[str]]:
    """Return the field of a form that has choices, or is the first, and the choices."""
    if dag_id == EMERGENCY_STOP:
        return "lift", _stops(ledger.entries(INSTALLATION, kind=STOPS))
    if dag_id == WITHDRAW_RELEASE:
        return "run", _by_run_id(run for run in runs() if run.startswith((RELEASES, ROLLBACKS)))
    if dag_id == ACCEPT_DEFECT:
        chains = ledger.chains(chain_of_defects(""))
        opened = [one for chain in chains for one in open_defects(ledger.entries(chain, kind=family(DEFECT_OPENED)))]
        return "defect", [*dict.fromkeys(one.defect.id for one in opened)]
    if dag_id.startswith((RELEASES, TRAINS)):
        return ("departure" if dag_id.startswith(TRAINS) else "ref"), []
    ended = ledger.entries(INSTALLATION, kind=RELEASE_ENDED)
    if dag_id == REVIEW_RELEASE:
        reviewed = {one.payload["run"] for one in ledger.entries(INSTALLATION, kind=RELEASE_REVIEWED)}
        return "run", [_run_id(run) for one in reversed(ended) if (run := one.payload["run"]) not in reviewed]
    if dag_id == MARK_VERSION:
        versions = (str(one.payload["version"]) for one in reversed(ended) if one.payload["version"])
        return "version", [*dict.fromkeys(versions)]
    entries = (*ended, *ledger.entries(INSTALLATION, kind=MARKS))
    return "version", earlier_versions(entries, service_of(dag_id), PRODUCTION)


def _stops(entries: Iterable[Entry]) -> list[str]:
    """Return what lifts each stop in force: its scope, or its id if another stop has the same scope."""
    in_force = list(all_in_force(entries, datetime.now(UTC)))
    of_scope = Counter(stop.scope for stop in in_force)
    return [stop.scope if of_scope[stop.scope] == 1 else stop.id for stop in in_force]


def _by_run_id(runs: Iterable[str]) -> list[str]:
    """Return run ids; of two runs with the same id, Dag and run."""
    found = sorted(runs)
    same = Counter(map(_run_id, found))
    return [_run_id(run) if same[_run_id(run)] == 1 else run for run in found]


def _run_id(run: str) -> str:
    return run.partition("/")[2]
