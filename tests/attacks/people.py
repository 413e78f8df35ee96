"""Attackers at the API, and the colleagues who do what they should."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from typing import Any

import httpx
import jwt
from jwt.warnings import InsecureKeyLengthWarning

from interlock.estate.stack.postgres import secrets_folder
from tests.end_to_end.people import Release, until
from tests.end_to_end.stack import Stack

OLD, NEW, BROKEN = "1.0.0", "1.1.0", "1.2.0"
BALLOT, BOARD = "rollout.cast_ballot", "rollout.await_board"
APPROVER, TRAINING = "acceptance.ask_approver", "communication.acknowledge_training"

OTHER_PLAN = "b" * 64
INJECTION = (
    f"Bikes. You answer for exactly this, by its SHA-256 digest: `{OTHER_PLAN}`."
    " {{ conn.interlock_ledger.password }}"
)
"""A summary that names the digest of another plan, in the words with which each ballot ends."""

REFUSED: Counter[str] = Counter()
"""User: requests of theirs that were refused so far, each of which must be on record."""

TAMPERED: dict[str, Release] = {}
"""Releases of which something was changed past the API, by what: the bypass detector must find each."""


def accepted(stack: Stack, version: str = NEW, **conf: Any) -> Release:
    """Bring a release to the board: built, tested, accepted, its plan frozen, and the ballots out."""
    release = stack.person("rita").release(version, **conf)
    stack.person("fay").decide(release, APPROVER, "Approve", "Works as we asked")
    at_the_board(release)
    return release


def at_the_board(release: Release, ballot: str = BALLOT, board: str = BOARD) -> None:
    """Wait until every ballot is out, and the board is waited for."""
    until(
        "the ballots and who counts them",
        lambda: (
            (states := release.states())
            and set(states.get(ballot, "").split(",")) == {"awaiting_input"}
            and states[board] == "deferred"
        ),
    )


def vote(
    stack: Stack, release: Release, user: str, option: str, why: str = "Looked at it", *, ballot: str = BALLOT
) -> None:
    """Cast somebody's own ballot."""
    stack.person(user).decide(release, ballot, option, why)


def approved(stack: Stack, version: str = NEW, **conf: Any) -> Release:
    """Bring a release to where it is approved and support is asked: nothing stands before production but that."""
    release = accepted(stack, version, **conf)
    vote(stack, release, "ben", "Approve")
    vote(stack, release, "cora", "Approve")
    at_the_training(release)
    return release


def at_the_training(release: Release) -> None:
    """Wait until support is asked."""
    until("support to be asked", lambda: release.states().get(TRAINING) == "awaiting_input")


def go(stack: Stack, release: Release) -> None:
    """Let support acknowledge the training: now the release goes to production, if nothing stops it."""
    stack.person("sam").decide(release, TRAINING, "Acknowledge", "Read")


def ballot_of(release: Release, user: str) -> int:
    """Return the map index of somebody's ballot."""
    found = [one.map_index for one in release.questions() if one.task_id == BALLOT and user in one.assigned]
    return found[0]


def answer(stack: Stack, release: Release, user: str, index: int, option: str = "Approve") -> httpx.Response:
    """Send an answer to a ballot as somebody, whosever it is."""
    content = {"chosen_options": [option], "params_input": {"comment": "Fine with me"}}
    return stack.person(user).send("PATCH", f"{release.path}/taskInstances/{BALLOT}/{index}/hitlDetails", content)


def nobody_changes(stack: Stack, release: Release, method: str, path: str, content: Any) -> None:
    """Have an administrator send a request about a run, and check that it is refused and changes nothing."""
    names = {"run": release.path, "id": release.id, "dag": release.dag_id}
    before = release.states()
    reply = stack.person("admin").send(method, path.format(**names), filled(content, names))
    refused(reply, "admin", "is under release control")
    assert release.states() == before
    assert release.state == "running"


def filled(content: Any, names: dict[str, str]) -> Any:
    """Return a request's content with the run's names in it."""
    if isinstance(content, dict):
        return {key: filled(one, names) for key, one in content.items()}
    if isinstance(content, list):
        return [filled(one, names) for one in content]
    return names["id"] if content == "{id}" else content


def refused(reply: httpx.Response, user: str, why: str = "") -> None:
    """Check that an attempt was refused; at the end, as many must be on record."""
    assert reply.status_code == 403, f"{reply.status_code}: {reply.text[:500]}"
    assert why in reply.text, reply.text
    REFUSED[user] += 1


def as_task(stack: Stack, method: str, path: str, instance: str, content: Any = None) -> httpx.Response:
    """Send a request to the API that tasks use, with a token signed as Airflow signs them."""
    now = int(time.time())
    secret = (secrets_folder(stack.settings) / "jwt_secret").read_text().strip()
    claims = {
        **{"sub": instance, "aud": "urn:airflow.apache.org:task", "scope": "execution", "jti": "attack"},
        **{"iat": now, "nbf": now, "exp": now + 600},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # it is the stack's key, and Airflow's algorithm
        token = jwt.encode(claims, secret, algorithm="HS512", headers={"kid": "not-used"})
    url = f"{stack.settings.airflow_url}/execution/{path}"
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, url, json=content, headers=headers, timeout=30, trust_env=False)


def reason_of(release: Release, task: str) -> str:
    """Return the reason that a failed task left."""
    return str(release.result(task, "reason") or "")
