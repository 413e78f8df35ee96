"""Steps of a runbook whose task is killed: by a real ledger and on a real host, each is done once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.hosts.fleet import Deployment
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.domain.catalogue import Service
from interlock.domain.ledger.kinds import ROLLOUT_FROZEN, STEP_BEGUN, STEP_ENDED
from interlock.domain.records import BackOutPlan, RolloutPlan
from interlock.domain.runbook.planning import planned_steps
from interlock.estate.settings import Settings
from tests.factories import releases
from tests.integration.ledger_server import ledger_connection
from tests.runbook_worker import POINTS
from tests.sshd import Fleet, make_release, sshd_fleet, wait_until

ROOT = Path(__file__).parents[2]
_COUNTED = '#!/bin/sh\n[ -n "$INTERLOCK_STEP" ] || exit 0\necho {0} >>"$INTERLOCK_SHARED/ran"\n'
SCRIPTS = {
    "AfterInstall": f"{_COUNTED.format('forward')}sleep 1\necho migrated\n",
    "BeforeInstall": f"{_COUNTED.format('back')}echo taken back\n",
    "ValidateService": f"{_COUNTED.format('failed')}echo no space left\nexit 4\n",
}


@pytest.fixture(scope="module")
def ledger(server: Settings) -> Iterator[Ledger]:
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


class Release:
    """A release with a runbook, up to its frozen plan, and the tasks that do its steps."""

    def __init__(self, server: Settings, ledger: Ledger, folder: Path, fleet: Fleet, name: str) -> None:
        self.server, self.ledger, self.fleet, self.run = server, ledger, fleet, f"manual__{name}"
        self.machine, self.said = fleet.machines[0], folder / "said"
        self.deployment: Deployment = make_release(fleet, folder, "1.1.0", hooks=SCRIPTS)
        generate_key(folder / "key")
        self.key = (folder / "key").as_uri()
        self.signer: Signer = load_signer(self.key)
        self.service = self._service()
        self.plan = self._plan()
        self.chain = f"release/release_shop/{self.run}"
        frozen = {**self.plan.to_xcom(), "digest": self.plan.digest}
        entry = ledger.append(self.chain, ROLLOUT_FROZEN, frozen, actor="freeze_plan", key=ROLLOUT_FROZEN)
        ledger.sign_head(self.chain, self.signer, seals=entry)

    def _service(self) -> Service:
        plain = releases.service().model_dump(mode="json")
        plain |= {"name": "shop", "health": self.deployment.health.model_dump(mode="json")}
        plain["environments"]["production"]["deploy_root"] = self.deployment.deploy_root
        scripts = {"migrate": ("AfterInstall", "BeforeInstall"), "break": ("ValidateService", "BeforeInstall")}
        plain["runbook"] = [
            {
                "name": name,
                "title": name.capitalize(),
                "when": "before",
                "estimate": "PT1M",
                "do": {"command": {"script": f"hooks/{do}.sh", "timeout": "PT20S"}},
                "way_back": {"command": {"script": f"hooks/{back}.sh", "timeout": "PT20S"}},
            }
            for name, (do, back) in scripts.items()
        ]
        return Service.model_validate(plain)

    def _plan(self) -> RolloutPlan:
        (host,) = self.fleet.hosts
        bundle = releases.blob().model_copy(update={"sha256": self.deployment.sha256})
        return releases.rollout(
            service="shop",
            commit=self.deployment.commit,
            bundle=bundle,
            waves=((host,),),
            target_group=None,
            back_out=BackOutPlan(releases={host.address: None}, versions={host.address: None}, on_hosts=True),
            runbook=planned_steps(self.service, [host], rehearsal=False),
        )

    def start(
        self, die: str = "", number: int = 1, direction: str = "forward", attempt: int = 1
    ) -> subprocess.Popen[str]:
        told = {
            "state": str(self.server.state),
            "port": self.server.postgres_port,
            "key": self.key,
            "login": asdict(self.fleet.login),
            "bundle": str(self.deployment.bundle),
            "service": self.service.model_dump(mode="json"),
            "plan": self.plan.to_xcom(),
            "run": self.run,
            "task": f"implementation.step_{number}" if direction == "forward" else f"verification.back_step_{number}",
            "number": number,
            "direction": direction,
            "attempt": attempt,
            "die": die,
        }
        asked = self.said.with_suffix(".asked")
        asked.write_text(json.dumps(told, default=str))
        with asked.open() as given, self.said.open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.runbook_worker"],
                stdin=given,
                stdout=said,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'include'}{os.pathsep}{ROOT}"},
            )

    def does(self, **how: Any) -> dict[str, Any]:
        """Do a step to its end, and return its report or the refusal."""
        assert self.start(**how).wait(60) == 0
        return dict(json.loads(self.said.read_text().splitlines()[-1]))

    @property
    def ran(self) -> list[str]:
        """What ran on the host, in its order."""
        noted = self.machine.root / "shared/ran"
        return noted.read_text().split() if noted.exists() else []

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        return [dict(entry.payload) for entry in self.ledger.entries(self.chain, kind=kind)]


@pytest.fixture
def release(server: Settings, ledger: Ledger, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Release]:
    with sshd_fleet(tmp_path) as fleet:
        yield Release(server, ledger, tmp_path, fleet, re.sub(r"\W", "_", request.node.name))


@pytest.mark.parametrize("point", POINTS)
def test_wherever_its_task_is_killed_a_step_is_done_once(release: Release, point: str) -> None:
    if point == "in_the_step":
        worker = release.start()
        wait_until(lambda: release.ran == ["forward"], "the step", 30)
        worker.kill()
        assert worker.wait(20) == -signal.SIGKILL
    elif point:
        assert release.start(point).wait(60) == -signal.SIGKILL
    report = release.does(attempt=2)
    assert (report["outcome"], report["evidence"]) == ("done", "migrated")
    assert release.ran == ["forward"]
    assert release.does(attempt=3) == report, "what is on record stands"
    assert release.ran == ["forward"]
    (intent,), (ended,) = release.recorded(STEP_BEGUN), release.recorded(STEP_ENDED)
    assert intent["id"] == ended["id"] == report["id"]
    used = [one["permit"] for one in release.recorded("permit.used")]
    assert {(one["purpose"], one["step"], tuple(one["hosts"])) for one in used} == {
        ("step", report["id"], (release.machine.address,))
    }


def test_a_step_that_failed_is_not_done_again_and_is_taken_back_once(release: Release) -> None:
    for attempt in (1, 2):
        refused = release.does(number=2, attempt=attempt)["refused"]
        assert "“Break” was not done" in refused
        assert "ended with 4" in refused
    assert release.ran == ["failed"]
    (ended,) = release.recorded(STEP_ENDED)
    assert (ended["outcome"], ended["evidence"]) == ("failed", "no space left")

    assert release.start("before_the_result", number=2, direction="back").wait(60) == -signal.SIGKILL
    assert release.ran == ["failed", "back"]
    back = release.does(number=2, direction="back", attempt=2)
    assert (back["outcome"], back["evidence"]) == ("done", "taken back")
    assert release.ran == ["failed", "back"]
    never = release.does(number=1, direction="back")
    assert (never["outcome"], never["reason"]) == ("left_out", "it was not begun, so there is nothing to take back")
    assert release.ran == ["failed", "back"]


def test_a_step_whose_end_is_not_known_is_refused_and_taken_back(release: Release) -> None:
    assert release.start("before_the_result").wait(60) == -signal.SIGKILL
    (end,) = (release.machine.root / ".interlock/steps").glob("*.ended")
    end.unlink()  # as if the host had been switched off before the end was on its disk
    for attempt in (2, 3):
        refused = release.does(attempt=attempt)["refused"]
        assert "It is not known whether it was done: shop-1 says that the step was begun on this host" in refused
    assert release.ran == ["forward"]
    assert release.does(direction="back")["outcome"] == "done"
    assert release.ran == ["forward", "back"]


def test_a_release_that_was_closed_does_no_step(release: Release) -> None:
    release.ledger.append(
        release.chain, "release.closed", releases.outcome().to_xcom(), actor="closure", key="release.closed"
    )
    assert "has ended" in release.does()["refused"]
    assert release.ran == []
