"""People at Airflow's public REST API, who wait for what they expect and fail the test when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import count
from typing import Any, TypeVar

import httpx

from interlock.adapters.airflow.rest_api import Answer
from interlock.estate.commands.client import ENDED, Person, Run

Seen = TypeVar("Seen")

BIKE_SHOP = "bike-shop"

DAG = "release_bike_shop"
FORM = {
    "change_type": "normal",
    "summary": "The page that sells bikes",
    "tickets": ["SHOP-12"],
}


_SETTLED = ("success", "failed", "skipped", "upstream_failed")
"""States of a task that has taken its answer."""
SECONDS_BETWEEN_LOOKS = 3
"""The files of end-to-end tests look at the same time: at one second, they kept the API server busy."""


def dag_of(service: str, prefix: str = "release") -> str:
    """Return the id of a service's Dag."""
    return f"{prefix}_{service.replace('-', '_')}"


def until(what: str, look: Callable[[], Seen | None], *, within: float = 600.0) -> Seen:
    """Look until there is something to see; AssertionError when there never is."""
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        if seen := look():
            return seen
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise AssertionError(f"waited {within:.0f} s for {what}")


def let_run(person: Person, dag_id: str) -> None:
    """Unpause a Dag, as soon as Airflow knows it and who may do that."""
    until(dag_id, lambda: dag_id in {one["dag_id"] for one in person.pages("dags", "dags")})
    until(f"leave to unpause {dag_id}", lambda: person.send("PATCH", f"dags/{dag_id}", {"is_paused": False}).is_success)


class Colleague(Person):
    """A person who releases a service, or is asked about it."""

    def __init__(self, url: str, user: str, password: str, service: str = BIKE_SHOP) -> None:
        super().__init__(url, user, password)
        self.service, self.dag = service, dag_of(service)

    def ask_for_release(self, conf: Mapping[str, Any]) -> httpx.Response:
        """Send the trigger form."""
        return self.send_form(self.dag, conf)

    def release(self, version: str, **conf: Any) -> Release:
        """Trigger a release that must be accepted."""
        form = {"ref": version, "version": version, **FORM, **conf}
        return Release(self, self.start(self.dag, form).id)

    def withdraw(self, run: str = "", *, service: str = "") -> httpx.Response:
        """Send the form that withdraws a release, by default of the person's own service."""
        form = {"service": service or self.service, "run": run, "reason": "The tag is wrong"}
        return self.send_form("withdraw_release", form)

    def decide(
        self, release: Release, task: str, option: str, comment: str = "", *, about: str = "", within: float = 900.0
    ) -> Answer:
        """Answer the request of a task that is assigned to this person, once it is asked; return it.

        It is answered at the second look, and again if it is asked again: if an answer comes before the scheduler knows
        that the task paused, Airflow takes the task for lost and tries it anew ("finished with state success, but the
        task instance's state attribute is queued").

        :param about: what its subject says.
        """
        looks, seen = count(), set[datetime | None]()

        def asked() -> list[Answer]:
            if next(looks) % 4 == 0:  # this costs the API server as much as the look at the questions
                release.refuse_to_be_over()
            known = {*seen}
            found = [one for one in self._asked(release, task) if about in one.subject]
            seen.update(one.asked_at for one in found)
            return [one for one in found if one.asked_at in known]

        question = until(f"{task} to ask {self.user}", asked, within=within)[0]
        assert release.answer(self, question, option, comment), f"{task} was answered meanwhile"

        def has_counted() -> bool:
            now = [one for one in self.answers(release.dag_id, release.id, task) if one.map_index == question.map_index]
            if any(one.answered and one.state in _SETTLED for one in now):
                return True
            for one in now:
                if not one.answered and one.state == "awaiting_input":
                    release.answer(self, one, option, comment)
            return release.state in ENDED

        until(f"the answer of {self.user} to {task} to be taken", has_counted, within=within)
        return question

    def _asked(self, release: Release, task: str) -> list[Answer]:
        return [
            question
            for question in self.answers(release.dag_id, release.id, task, answered=False)
            if self.user in question.assigned and question.state == "awaiting_input"
        ]


class Release(Run):
    """A release of a person's service, as its release manager sees it; or a rollback, or a train."""

    def __init__(self, person: Colleague, run_id: str, dag_id: str = "") -> None:
        super().__init__(person, dag_id or person.dag, run_id)

    def refuse_to_be_over(self) -> None:
        """Fail at once, with the reason, when the run has ended while somebody still waits for it."""
        if self.state in ENDED:
            raise AssertionError(f"the run is {self.state}: {self.outcome()}, {self.states()}")

    def finish(self, *, within: float = 900.0) -> str:
        """Wait for the run's end and return its state."""
        until(f"{self.id} to end", lambda: self.state in ENDED, within=within)
        return self.state

    def states(self) -> dict[str, str]:
        """Return the state of each task; of a mapped one, all its states."""
        found: dict[str, list[str]] = {}
        for task in self.tasks():
            found.setdefault(task["task_id"], []).append(str(task["state"]))
        return {task: ",".join(states) for task, states in found.items()}

    def outcome(self) -> dict[str, Any]:
        """Return the closing stage's record."""
        return dict(self.result("closure.close_release") or {})
