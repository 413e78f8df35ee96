"""Airflow's public REST API, with an account of its own: the primary record of who answered what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, Self
from urllib.parse import quote

import httpx

from include.interlock.domain.canonical import Model
from include.interlock.domain.errors import ReleaseError, TransientError
from include.interlock.domain.records import Vote

TIMEOUT = httpx.Timeout(20)


class Login(Protocol):
    """The fields of an Airflow connection that name a server and an account."""

    host: str | None
    port: int | None
    schema: str | None
    login: str | None
    password: str | None


class Answer(Model):
    """One human-in-the-loop request as Airflow stored it, answered or not."""

    task_id: str
    map_index: int
    subject: str
    body: str
    assigned: tuple[str, ...]
    answered: bool
    user: str | None
    choice: str | None
    comment: str
    at: datetime | None

    def vote(self) -> Vote:
        """Return the answer as a vote: of whoever answered, if it was theirs to answer."""
        assigned = self.user if self.user in self.assigned else next(iter(self.assigned), "nobody")
        return Vote(user=self.user, assigned=assigned, choice=self.choice or "", comment=self.comment, at=self.at)


class TaskState(Model):
    """Where a task instance stands, by Airflow's own record."""

    task_id: str
    map_index: int
    state: str | None
    start: datetime | None
    end: datetime | None


class AirflowApi:
    """A logged-in client of the public REST API.

    :param connection: an Airflow connection: host, port, schema (http or https), login and password.
    """

    def __init__(self, connection: Login) -> None:
        if not (connection.host and connection.login and connection.password):
            raise ReleaseError(
                "The Airflow connection to the REST API lacks its host, login or password.",
                who="the platform engineer",
                next_step="set them in the connection that the release uses to read its votes",
            )
        port = f":{connection.port}" if connection.port else ""
        self._base = f"{connection.schema or 'http'}://{connection.host}{port}"
        self._account = {"username": connection.login, "password": connection.password}
        self._client = httpx.Client(base_url=self._base, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        """Log in."""
        return self.log_in()

    def log_in(self) -> Self:
        """Get a token for the account."""
        with _explained(f"log in to Airflow's API at {self._base} as {self._account['username']}"):
            answer = self._client.post("/auth/token", json=self._account)
            answer.raise_for_status()
            self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def answers(self, dag_id: str, run_id: str, task_id: str | None = None) -> tuple[Answer, ...]:
        """Return the human-in-the-loop requests of a run, or of one of its tasks, in the order of their map index."""
        with _explained(f"read the answers given in {dag_id}, run {run_id}"):
            details = list(self._pages(f"{_run(dag_id, run_id)}/hitlDetails", "hitl_details"))
        found = (_answer(detail) for detail in details)
        return tuple(
            sorted(
                (a for a in found if task_id in (None, a.task_id)),
                key=lambda answer: (answer.task_id, answer.map_index),
            )
        )

    def task_states(self, dag_id: str, run_id: str) -> tuple[TaskState, ...]:
        """Return the state of each task instance of a run."""
        with _explained(f"read the task states of {dag_id}, run {run_id}"):
            return tuple(
                TaskState(
                    task_id=row["task_id"],
                    map_index=row["map_index"],
                    state=row["state"],
                    start=row["start_date"],
                    end=row["end_date"],
                )
                for row in self._pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")
            )

    def close_question(self, dag_id: str, run_id: str, answer: Answer, *, choice: str, comment: str) -> bool:
        """Answer an open request so that nobody is asked any more; False if somebody was faster."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(answer.task_id, safe='')}/{answer.map_index}/hitlDetails"
        with _explained(f"close the open request {answer.task_id}[{answer.map_index}]"):
            reply = self._client.patch(path, json={"chosen_options": [choice], "params_input": {"comment": comment}})
            if reply.status_code == httpx.codes.CONFLICT:
                return False
            reply.raise_for_status()
            return True

    def _pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        seen = 0
        while True:
            reply = self._client.get(path, params={"limit": 100, "offset": seen})
            reply.raise_for_status()
            page = reply.json()
            yield from page[key]
            seen += len(page[key])
            if not page[key] or seen >= page["total_entries"]:
                return


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _answer(detail: dict[str, Any]) -> Answer:
    by = detail.get("responded_by_user")
    chosen = detail.get("chosen_options") or [None]
    comment = (detail.get("params_input") or {}).get("comment", "")
    return Answer(
        task_id=detail["task_instance"]["task_id"],
        map_index=detail["task_instance"]["map_index"],
        subject=detail["subject"],
        body=detail.get("body") or "",
        assigned=tuple(user["id"] for user in detail["assigned_users"]),
        answered=detail["response_received"],
        user=by["name"] if by else None,
        choice=chosen[0],
        comment=comment if isinstance(comment, str) else "",
        at=detail.get("responded_at"),
    )


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn HTTP failures into sentences: 4xx are final, all others pass."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        message = f"Could not {what}: Airflow answered {status} {error.response.text[:300]}"
        if status in (403, 404):
            raise ReleaseError(
                message, who="the platform engineer", next_step="check the connection's account and its role"
            ) from error
        raise TransientError(message) from error
    except httpx.TransportError as error:
        raise TransientError(f"Could not {what}: {error}") from error
