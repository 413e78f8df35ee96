"""People at Airflow's public REST API: what a person can do in the UI, and nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

DAG = "release_bike_shop"
FORM = {
    "change_type": "normal",
    "summary": "The page that sells bikes",
    "tickets": ["SHOP-12"],
}


def until(what: str, look: Callable[[], Any], *, within: float = 120.0) -> Any:
    """Look until there is something to see; AssertionError when there never is."""
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        if seen := look():
            return seen
        time.sleep(0.3)
    raise AssertionError(f"waited {within:.0f} s for {what}")


class Person:
    """Someone who is logged in."""

    def __init__(self, base_url: str, user: str, password: str) -> None:
        self.user = user
        self.client = httpx.Client(base_url=base_url, timeout=30)
        reply = self.client.post("/auth/token", json={"username": user, "password": password})
        reply.raise_for_status()
        self.client.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"

    def get(self, path: str, **params: Any) -> Any:
        """Read something that must be readable."""
        reply = self.client.get(f"/api/v2/{path}", params=params)
        assert reply.status_code == 200, f"{path}: {reply.status_code} {reply.text}"
        return reply.json()

    def ask_for_release(self, conf: Mapping[str, Any]) -> httpx.Response:
        """Send the trigger form."""
        return self.client.post(f"/api/v2/dags/{DAG}/dagRuns", json={"conf": dict(conf), "logical_date": None})

    def trigger(self, version: str, **conf: Any) -> Run:
        """Trigger a release that must be accepted."""
        reply = self.ask_for_release({"ref": version, "version": version, **FORM, **conf})
        assert reply.status_code == 200, reply.text
        return Run(self, reply.json()["dag_run_id"])

    def answer(self, run: Run, task: str, option: str, comment: str = "", *, within: float = 240.0) -> None:
        """Answer the request of a task that is assigned to this person, once it is asked."""

        def asked() -> Any:
            run.refuse_to_be_over()
            return [
                detail
                for detail in run.questions()
                if detail["task_instance"]["task_id"] == task
                and self.user in {assigned["id"] for assigned in detail["assigned_users"]}
                and not detail["response_received"]
                and detail["task_instance"]["state"] == "awaiting_input"
            ]

        detail = until(f"{task} to ask {self.user}", asked, within=within)[0]
        index = detail["task_instance"]["map_index"]
        reply = self.client.patch(
            f"/api/v2/dags/{DAG}/dagRuns/{quote(run.id, safe='')}/taskInstances/{task}/{index}/hitlDetails",
            json={"chosen_options": [option], "params_input": {"comment": comment}},
        )
        assert reply.status_code == 200, reply.text


class Run:
    """A release, as its release manager sees it."""

    def __init__(self, person: Person, run_id: str) -> None:
        self.person, self.id = person, run_id
        self.path = f"dags/{DAG}/dagRuns/{quote(run_id, safe='')}"

    @property
    def state(self) -> str:
        """The run's state."""
        return str(self.person.get(self.path)["state"])

    def refuse_to_be_over(self) -> None:
        """Fail at once, with the reason, when the run has ended while somebody still waits for it."""
        if self.state in ("success", "failed"):
            raise AssertionError(f"the run is {self.state}: {self.outcome()}, {self.states()}")

    def finish(self, *, within: float = 300.0) -> str:
        """Wait for the run's end and return its state."""
        until(f"{self.id} to end", lambda: self.state in ("success", "failed"), within=within)
        return self.state

    def states(self) -> dict[str, str]:
        """Return the state of each task; of a mapped one, all its states."""
        found: dict[str, str] = {}
        for row in self.person.get(f"{self.path}/taskInstances", limit=200)["task_instances"]:
            name = row["task_id"]
            found[name] = f"{found[name]},{row['state']}" if name in found else str(row["state"])
        return found

    def questions(self) -> list[dict[str, Any]]:
        """Return the requests to people."""
        return list(self.person.get(f"{self.path}/hitlDetails", limit=100)["hitl_details"])

    def result(self, task: str, key: str = "return_value") -> Any:
        """Return a task's XCom; None if there is none."""
        reply = self.person.client.get(
            f"/api/v2/{self.path}/taskInstances/{task}/xcomEntries/{key}", params={"deserialize": "true"}
        )
        return reply.json()["value"] if reply.status_code == 200 else None

    def outcome(self) -> dict[str, Any]:
        """Return the closing stage's record."""
        return dict(self.result("closure.close_release") or {})
