"""A person at the API of the embedded stack's Airflow: what a person can do in the UI, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from interlock.adapters.airflow.rest_api import AirflowApi, Answer, dag_path, run_path
from interlock.adapters.airflow.results import is_reference
from interlock.domain.errors import ReleaseError

ENDED = ("success", "failed")
"""States of a run that is over."""


class Person(AirflowApi):
    """A person with an account.

    :param url: of Airflow's API server.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        super().__init__(url, user, password, timeout=60, trust_env=False, follow=lambda value: value)
        self.url = url

    def send(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> httpx.Response:
        """Send JSON and return the answer, also a refusal."""
        return self.request(method, path, json=content)

    def send_form(self, dag_id: str, form: Mapping[str, Any]) -> httpx.Response:
        """Send the trigger form of a Dag and return the answer, also a refusal."""
        return self.send("POST", f"{dag_path(dag_id)}/dagRuns", {"conf": dict(form), "logical_date": None})

    def start(self, dag_id: str, form: Mapping[str, Any]) -> Run:
        """Send the trigger form of a Dag, which must be accepted."""
        reply = self.send_form(dag_id, form)
        if not reply.is_success:
            raise ReleaseError(f"Could not trigger {dag_id}: Airflow answered {reply.status_code}: {reply.text}")
        return Run(self, dag_id, reply.json()["dag_run_id"])

    def active_runs(self, dag_id: str) -> list[Run]:
        """Return the runs of a Dag that are not over, oldest first."""
        rows = self.pages(f"{dag_path(dag_id)}/dagRuns", "dag_runs", state=["queued", "running"], order_by="run_after")
        return [Run(self, dag_id, row["dag_run_id"]) for row in rows]


@dataclass
class Run:
    """A release, as a person sees it."""

    person: Person
    dag_id: str
    id: str

    @property
    def path(self) -> str:
        """Return the run's path in the API."""
        return run_path(self.dag_id, self.id)

    @property
    def state(self) -> str:
        """Return the run's state."""
        return str(self.person.run(self.dag_id, self.id)["state"])

    def tasks(self) -> list[dict[str, Any]]:
        """Return every task instance."""
        return self.person.task_instances(self.dag_id, self.id)

    def questions(self) -> tuple[Answer, ...]:
        """Return every question to people, answered or not."""
        return self.person.answers(self.dag_id, self.id)

    def result(self, task_id: str, key: str = "return_value") -> Any:
        """Return what a task left behind, as our page of the run gets it; None if it left nothing."""
        found = self.person.result(self.dag_id, self.id, task_id, key=key)
        if not is_reference(found):
            return found
        where = {"dag_id": self.dag_id, "run_id": self.id, "task_id": task_id, "key": key}
        return self.person.request("GET", f"{self.person.url}/interlock/result", params=where).json()["value"]

    def answer(self, person: Person, question: Answer, option: str, comment: str) -> bool:
        """Answer a question as a person; False if another answer came first."""
        return person.close_question(self.dag_id, self.id, question, choice=option, comment=comment)
