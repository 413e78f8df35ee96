"""Somebody at Airflow's public REST API: what a person can do in the UI, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote

import httpx

from interlock.domain.errors import ReleaseError, TransientError

ENDED = ("success", "failed")
"""States of a run that is over."""


class Person:
    """Someone who is logged in.

    :param url: of Airflow's API server.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.user = user
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        answer = self._client.post("/auth/token", json={"username": user, "password": password})
        self._client.headers["Authorization"] = f"Bearer {checked(answer, f'log in as {user}')['access_token']}"

    def __enter__(self) -> Self:
        """Stay logged in for a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def send(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> httpx.Response:
        """Send a request to something below ``/api/v2/`` and return the answer, whatever it says."""
        return self._client.request(method, f"/api/v2/{path}", json=content)

    def get(self, path: str, **params: Any) -> Any:
        """Read something below ``/api/v2/``."""
        return checked(self._client.get(f"/api/v2/{path}", params=params), f"read {path}")

    def pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield all entries of a list, however long it is."""
        seen = 0
        while True:
            page = self.get(path, limit=100, offset=seen, **params)
            yield from page[key]
            seen += len(page[key])
            if not page[key] or seen >= page["total_entries"]:
                return

    def trigger(self, dag_id: str, form: Mapping[str, Any]) -> Run:
        """Send the trigger form of a Dag, which must be accepted."""
        answer = self.send_form(dag_id, form)
        return Run(self, dag_id, checked(answer, f"trigger {dag_id}")["dag_run_id"])

    def send_form(self, dag_id: str, form: Mapping[str, Any]) -> httpx.Response:
        """Send the trigger form of a Dag and return the answer, whatever it says."""
        return self.send("POST", f"{dag(dag_id)}/dagRuns", {"conf": dict(form), "logical_date": None})

    def active_runs(self, dag_id: str) -> list[Run]:
        """Return the runs of a Dag that are not over, oldest first."""
        rows = self.pages(f"{dag(dag_id)}/dagRuns", "dag_runs", state=["queued", "running"], order_by="run_after")
        return [Run(self, dag_id, row["dag_run_id"]) for row in rows]

    def answer(self, question: Mapping[str, Any], option: str, comment: str) -> bool:
        """Answer a question of a run; False when it has been answered meanwhile."""
        task = question["task_instance"]
        path = (
            f"{run(task['dag_id'], task['dag_run_id'])}/taskInstances/{task['task_id']}/{task['map_index']}/hitlDetails"
        )
        answer = self.send("PATCH", path, {"chosen_options": [option], "params_input": {"comment": comment}})
        if answer.status_code == httpx.codes.CONFLICT:
            return False
        checked(answer, f"answer {task['task_id']} as {self.user}")
        return True


class Run:
    """A release, as somebody sees it."""

    def __init__(self, person: Person, dag_id: str, run_id: str) -> None:
        self.person, self.dag_id, self.id = person, dag_id, run_id
        self.path = run(dag_id, run_id)

    @property
    def state(self) -> str:
        """Return the run's state."""
        return str(self.person.get(self.path)["state"])

    def tasks(self) -> list[dict[str, Any]]:
        """Return every task instance."""
        return list(self.person.pages(f"{self.path}/taskInstances", "task_instances"))

    def questions(self) -> list[dict[str, Any]]:
        """Return every question to people, answered or not."""
        return list(self.person.pages(f"{self.path}/hitlDetails", "hitl_details"))

    def result(self, task_id: str, key: str = "return_value") -> Any:
        """Return what a task left behind; None if it left nothing."""
        path = f"{self.path}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self.person.get(path, deserialize="true")["value"]
        except NotThere:
            return None

    def log(self, task: Mapping[str, Any], lines: int) -> list[str]:
        """Return the last lines of a task instance's log."""
        path = f"{self.path}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        content = self.person.get(path, map_index=task["map_index"], full_content="true")["content"]
        texts = [row if isinstance(row, str) else str(row.get("event", "")) for row in content]
        return [text for text in texts if text and not text.startswith("::")][-lines:]


class NotThere(ReleaseError):
    """Airflow has nothing under this name, or not for this person."""


def dag(dag_id: str) -> str:
    """Return the path of a Dag."""
    return f"dags/{quote(dag_id, safe='')}"


def run(dag_id: str, run_id: str) -> str:
    """Return the path of a run."""
    return f"{dag(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def checked(answer: httpx.Response, what: str) -> Any:
    """Return the JSON of an answer, or raise what it says."""
    if answer.is_success:
        return answer.json()
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text
    message = f"Could not {what}: Airflow answered {answer.status_code}: {detail}"
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotThere(message)
    raise (TransientError if answer.is_server_error else ReleaseError)(message)
