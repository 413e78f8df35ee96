"""Break-glass access: a named person does, for a recorded reason, what release control refuses to everybody.

It needs a grant in the catalogue and, with Interlock's auth manager, the role. The use is recorded in the ledger before
Airflow gets the request; if it cannot be recorded, it is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from interlock.adapters.catalogue.yaml_files import read_yaml
from interlock.domain.catalogue.break_glass_file import BreakGlassBook, Grant
from interlock.domain.errors import describe_error
from interlock.domain.ledger.chain import INSTALLATION, Book, instant, release_chain
from interlock.domain.ledger.kinds import BREAK_GLASS_USED, FINDING

from .current_request import CurrentRequest, Target
from .rules import BREAK_GLASS, NEVER, refusal

log = logging.getLogger(__name__)

FILE = "break_glass.yaml"
LEDGER = "interlock_ledger"
MAX_TARGETS = 50
"""The most tasks or runs in one request with break-glass access: a repair is small."""


OpenLedger = Callable[[], AbstractContextManager[Book]]


def configured_ledger() -> AbstractContextManager[Book]:
    """Open the ledger from inside the API server: as its witness, if the server was told how to.

    Without, as tasks do it, by Airflow's connection: the ledger then takes nothing that only the witness may append.
    """
    from airflow.models.connection import Connection

    from interlock.adapters.ledger.ledger import open_as_witness, open_ledger

    if witness := open_as_witness():
        return witness
    return open_ledger(Connection.get_connection_from_secrets(LEDGER))


class BreakGlass:
    """The grants of a catalogue, and the record of their use."""

    def __init__(self, folder: Callable[[], Path], open_ledger: OpenLedger = configured_ledger) -> None:
        self._folder, self._open_ledger = folder, open_ledger

    def refusal(self, user: str, asked: CurrentRequest, entity: str | None, dag_id: str) -> str:
        """Say why this user does not have break-glass access for this; empty: they have, and the use is recorded."""
        if asked.request_kind in NEVER:
            return refusal(entity, dag_id, asked.request_kind)
        try:
            grant = self._grant(user, dag_id, asked.at)
            if grant is None:
                return f"{refusal(entity, dag_id)} No grant covers {user} and {dag_id} at {instant(asked.at)}."
            targets = asked.targets_of(dag_id)
            if problem := _too_vague(asked, entity, targets):
                return f"{refusal(entity, dag_id)} {problem}"
            if not asked.previews:
                self._record(user, asked, entity, targets, grant)
        except Exception as error:  # of any kind: a use that is not recorded is refused
            log.exception("The use of %s on %s by %s could not be decided or recorded", BREAK_GLASS, dag_id, user)
            why = f"Break-glass access was refused, as it cannot be recorded: {describe_error(error)}"
            return f"{refusal(entity, dag_id)} {why}"
        return ""

    def _grant(self, user: str, dag_id: str, at: datetime) -> Grant | None:
        return next((one for one in read_grants(self._folder()) if one.holds(user, dag_id, at)), None)

    def _record(
        self, user: str, asked: CurrentRequest, entity: str | None, targets: Iterable[Target], grant: Grant
    ) -> None:
        with self._open_ledger() as ledger:
            for number, target in enumerate(targets):
                use = _use(user, asked, entity, target, grant)
                key = f"{BREAK_GLASS_USED}/{asked.id}/{entity or 'DAG'}/{number}"
                ledger.append(INSTALLATION, BREAK_GLASS_USED, use, actor=user, key=key)
                if target.dag_id and target.run_id:
                    chain = release_chain(target.dag_id, target.run_id)
                    ledger.append(chain, FINDING, {**use, "what": _sentence(use)}, actor=user, key=key)


def read_grants(folder: Path) -> tuple[Grant, ...]:
    """Return the grants as the file has them now; none if there is no file.

    :raises CatalogueError: the file is wrong: nothing of it is used.
    """
    path = folder / FILE
    return read_yaml(path, shown=FILE).parse(BreakGlassBook).grants if path.exists() else ()


def _too_vague(asked: CurrentRequest, entity: str | None, targets: tuple[Target, ...]) -> str:
    """Say why a request does not name exactly what it changes; empty: it does."""
    if asked.reaches_further:
        return "With break-glass access, name each run: include_past and include_future are refused."
    if len(targets) > MAX_TARGETS:
        return f"With break-glass access, one request can change at most {MAX_TARGETS} tasks or runs."
    if entity is not None and any(target.run_id is None for target in targets):
        return "With break-glass access, name the run to change."
    return ""


def _use(user: str, asked: CurrentRequest, entity: str | None, target: Target, grant: Grant) -> dict[str, Any]:
    return {
        "user": user,
        "method": asked.method,
        "entity": entity or "DAG",
        "dag_id": target.dag_id,
        "run_id": target.run_id,
        "task_id": target.task_id,
        "path": asked.path,
        "reason": grant.reason,
        "grant": grant.model_dump(mode="json"),
        "at": instant(asked.at),
    }


def _sentence(use: dict[str, Any]) -> str:
    where = f" of {use['task_id']}" if use["task_id"] else ""
    what = use["entity"].lower().replace("_", " ")
    done = f"{use['method']} {what}{where} of {use['dag_id']}"
    return f"{use['user']} used break-glass access: {done}. Reason: {use['reason']}"
