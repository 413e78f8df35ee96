"""A task that does a step of a runbook, in a process of its own, which can be killed at any point.

``python -m tests.runbook_worker`` reads what to do as JSON from its input, and prints the report, or why there is none.
The ledger, the permits, the host and the server of AWS are real ones. That a permit may be given is what other tests
are about.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from airflow.sdk.exceptions import AirflowRescheduleException
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.hosts.ssh import SshLogin
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import load_signer
from interlock.domain.catalogue import Service
from interlock.domain.errors import ReleaseError
from interlock.domain.records import RolloutPlan
from interlock.estate.settings import Settings
from interlock.stages.runbook import elsewhere, once
from interlock.stages.runtime import bookings, calendars, permits, resources
from tests.integration.ledger_server import ledger_connection
from tests.task_instance import task_instance

POINTS = ("before_the_intent", "after_the_intent", "in_the_step", "before_the_result", "")
"""Where the process is killed; the last one: nowhere. In the step, the test kills it."""


class Store:
    """An artifact store with one bundle."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle

    def get_file(self, _: Any, path: Path) -> Path:
        shutil.copyfile(self._bundle, path)
        return path


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def replace(told: dict[str, Any]) -> None:
    """Let the stage's code use what the test has, and no catalogue, calendar, booking or vote."""
    settings = Settings(state=Path(told["state"]), postgres_port=told["port"])
    login = told.get("login", {})
    login |= {name: Path(login[name]) for name in ("known_hosts", "client_key") if login}
    catalogue = SimpleNamespace(
        policy=SimpleNamespace(permits=SimpleNamespace(hosts_without_keys="mark")),
        service=Service.model_validate(told["service"]),
        board=SimpleNamespace(),
        digest=told["plan"]["policy_digest"],
    )
    key = load_signer(told["key"])
    for room, name, value in (
        (resources, "ledger", lambda: open_ledger(ledger_connection(settings))),
        (resources, "signer", lambda: key),
        (resources, "catalogue_of", lambda _: catalogue),
        (resources, "login", lambda _: SshLogin(**login)),
        (resources, "store", lambda: Store(told["bundle"])),
        (resources, "aws_of", lambda _, kind, config=None: client_of(told["aws"], kind, config)),
        (bookings, "hold", lambda *_: None),
        (bookings, "make_way", lambda *_: None),
        (calendars, "answer_now", lambda *_: None),
        (permits, "refuse_unproven", lambda *_, **__: None),
        (permits, "refuse_halted_release", lambda *_: None),
        (permits, "overtaken", lambda *_: ""),
        (once, "put_off", lambda *_: None),
        (once, "count", lambda *_: None),
    ):
        setattr(room, name, value)


def client_of(endpoint: str, kind: str, config: Any = None) -> Any:
    account = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(kind, endpoint_url=endpoint, region_name="eu-west-3", config=config, **account)


class DyingPlace:
    """Where Airflow or AWS does a step, for a process that is killed before or after it begins it there."""

    def __init__(self, place: Any, point: str) -> None:
        self._place, self._point = place, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def begin(self, *given: Any) -> Any:
        if self._point == "after_the_intent":
            die()
        begun = self._place.begin(*given)
        if self._point in ("in_the_step", "before_the_result"):
            die()
        return begun


def _dying(point: str) -> None:
    act, record, place_of = once._act, once._once, elsewhere.place_of

    def acted(*given: Any) -> Any:
        if point == "after_the_intent":
            die()
        ended = act(*given)
        if point == "before_the_result":
            die()
        return ended

    def recorded(*given: Any) -> Any:
        if point == "before_the_intent":
            die()
        return record(*given)

    setattr(elsewhere, "place_of", lambda *given: DyingPlace(place_of(*given), point))  # noqa: B010
    setattr(once, "_act", acted)  # noqa: B010  # a private name of another module
    setattr(once, "_once", recorded)  # noqa: B010


def main() -> None:
    """Do one step."""
    told = json.load(sys.stdin)
    replace(told)
    _dying(told["die"])
    plan = RolloutPlan.from_xcom(told["plan"])
    ti = task_instance("release_shop", told["task"], try_number=told["attempt"])
    context: Any = {
        "ti": ti,
        "dag_run": SimpleNamespace(dag_id="release_shop", run_id=told["run"], run_after=datetime.now(UTC)),
        "params": {},
    }
    with set_current_context(context):
        step = plan.steps[told["number"] - 1]
        does = elsewhere.go_on if step.action(told["direction"]).elsewhere else once.carry_out
        try:
            report = does("shop", plan, step, told["direction"])
            print(json.dumps(report.to_xcom() if report else {"asks": True}))
        except AirflowRescheduleException:
            print(json.dumps({"waits": True}))
        except ReleaseError as error:
            print(json.dumps({"refused": str(error)}))


if __name__ == "__main__":
    main()
