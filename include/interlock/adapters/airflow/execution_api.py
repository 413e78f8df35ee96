"""Airflow's execution API, which tasks of every Dag call: whether release control protects it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from interlock.domain.canonical import Model
from interlock.domain.errors import PolicyViolation, TransientError

from ._tls import authorities

TIMEOUT = httpx.Timeout(20)
PLACE = "interlock"
"""The path at which release control answers, below the API's address; Airflow does not use it."""


class Served(Model):
    """What a guarded API server says of itself.

    :param witness_key: the id of the key that it signs answers with; empty: it cannot sign.
    :param guard: what keeps people from editing releases: its auth manager or the plugin; empty: nothing, or it does
        not say.
    :param people: how its auth manager knows people.
    :param rules: digests of the rules of a service's releases, by change type.
    :param asked, answered: when this machine asked, and when it had the answer.
    :param date: the time on the server's clock when it answered, in whole seconds; none: it does not say.
    """

    version: str = ""
    catalogue: str = ""
    witness_key: str = ""
    guard: str = ""
    people: str = ""
    rules: dict[str, str] = {}
    asked: datetime
    answered: datetime
    date: datetime | None = None


def served_by(url: str, service: str = "") -> Served | None:
    """Ask an API server what it serves; None: release control does not protect it.

    :param url: of its execution API; release control answers there also if Airflow serves none.
    :param service: whose rules it is to name; empty: none.
    :raises TransientError: it does not answer now.
    """
    place = f"{url.rstrip('/')}/{PLACE}"
    asked = datetime.now(UTC)
    reply = _ask("/".join(filter(None, (place, "about", service))))
    if not _is_guarded(reply) and not _is_guarded(_ask(place)):  # the second: as versions before 0.2 answer
        return None
    said = _said(reply) if reply.status_code == httpx.codes.OK else {}
    rules = said.get("rules")
    date = reply.headers.get("date")
    return Served(
        **{key: str(said.get(key, "")) for key in _SAID},
        rules={str(kind): str(digest) for kind, digest in rules.items()} if isinstance(rules, dict) else {},
        asked=asked,
        answered=datetime.now(UTC),
        date=parsedate_to_datetime(date) if date else None,
    )


_SAID = ("version", "catalogue", "witness_key", "guard", "people")


def _said(reply: httpx.Response) -> dict[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def refuse_unguarded(url: str) -> None:
    """Refuse an execution API at which a task of another Dag may start a release, clear it or write its results.

    :raises PolicyViolation: release control does not protect it.
    :raises TransientError: it does not answer now.
    """
    reply = _ask(f"{url.rstrip('/')}/{PLACE}")
    if not _is_guarded(reply):
        raise PolicyViolation(
            f"Airflow's execution API at {url} is not protected: any task could start and clear releases and edit "
            f"their results (it answered {reply.status_code}).",
            rule="releases need a protected execution API (interlock/console/control/task_requests.py)",
            who="the platform engineer",
            next_step="serve it with the project's plugins/ folder in [core] plugins_folder, or write "
            "import interlock.airflow_settings into your own airflow_local_settings.py "
            "(docs/platform-engineer.md); then trigger the release again",
        )


def _ask(address: str) -> httpx.Response:
    try:
        reply = httpx.get(address, timeout=TIMEOUT, verify=authorities())
    except httpx.RequestError as error:
        what = str(error) or type(error).__name__
        raise TransientError(
            f"Could not check whether Airflow's execution API is protected: {address}: {what}"
        ) from error
    if reply.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise TransientError(
            f"Could not check whether Airflow's execution API is protected: {address} {reply.status_code}"
        )
    return reply


def _is_guarded(reply: httpx.Response) -> bool:
    return reply.status_code == httpx.codes.OK and _said(reply).get("detail") == "guarded"
