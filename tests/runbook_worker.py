"""A task that does a step of a runbook, in a process of its own, which can be killed at any point.

``python -m tests.runbook_worker`` reads what to do as JSON from its input, and prints the report, or why there is none.
The ledger, the permits and the host are real ones. That a permit may be given is what other tests are about.
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

from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.hosts.ssh import SshLogin
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import load_signer
from interlock.domain.catalogue import Service
from interlock.domain.errors import ReleaseError
from interlock.domain.records import RolloutPlan
from interlock.estate.settings import Settings
from interlock.stages.runbook import once
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
    login = told["login"] | {name: Path(told["login"][name]) for name in ("known_hosts", "client_key")}
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


def _dying(point: str) -> None:
    act, record = once._act, once._once

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
        try:
            report = once.carry_out("shop", plan, plan.steps[told["number"] - 1], told["direction"])
            print(json.dumps(report.to_xcom()))
        except ReleaseError as error:
            print(json.dumps({"refused": str(error)}))


if __name__ == "__main__":
    main()
