"""When a release is closed, its hosts hear it: they refuse its permits, though these have not expired."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.hosts.fleet import Deployment, deploy_hosts
from interlock.adapters.permits.issuer import Admission, PermitIssuer
from interlock.adapters.signing.signing import Signer, generate_key, load_signer, ssh_key
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import FINDING, PERMITS_VOIDED, RELEASE_CLOSED
from interlock.domain.permits.on_hosts import allowed_signer
from interlock.domain.records import HostResult
from interlock.stages.runtime import resources
from interlock.stages.strategies import rolling
from tests.deployments import WithToken
from tests.factories import releases
from tests.memory_ledger import MemoryLedger
from tests.sshd import Fleet, make_release, sshd_fleet
from tests.task_instance import task_instance

RUN = ("release_shop", "manual__1")
CHAIN = release_chain(*RUN)
PLACE = "booking/production/shop"


class Installation:
    """Hosts of production, and the tasks of a release."""

    def __init__(self, folder: Path, fleet: Fleet, patch: pytest.MonkeyPatch) -> None:
        generate_key(folder / "key")
        self.fleet, self.ledger = fleet, MemoryLedger()
        self.signer: Signer = load_signer((folder / "key").as_uri())
        self.release = make_release(fleet, folder, "1.0.0")
        self.plan = releases.rollout(service="shop", waves=(fleet.hosts,))
        for machine in fleet.machines:
            machine.enrolment.mkdir()
            (machine.enrolment / "permit-keys").write_text(allowed_signer(ssh_key(self.signer.public_key)))
            (machine.enrolment / "names").write_text(f"{machine.address}\n")
        production = SimpleNamespace(deploy_root=self.release.deploy_root, drain_timeout=timedelta(seconds=1))
        service = SimpleNamespace(name="shop", health=None, environments={"production": production})
        patch.setattr(resources, "catalogue_of", lambda _: SimpleNamespace(digest="c" * 64, service=service))
        patch.setattr(resources, "ledger", lambda: self.ledger)
        patch.setattr(resources, "signer", lambda: self.signer)
        patch.setattr(resources, "login", lambda _: fleet.login)

    def admission(self, purpose: Any = "deploy", *, way_back: bool = False) -> Admission:
        office = PermitIssuer(self.signer, self.ledger, actor="release_shop/implementation.wave_1")  # type: ignore[arg-type]

        def ask() -> dict[str, Any]:
            return office.issue(
                purpose=purpose,
                chain=CHAIN,
                environment="production",
                hosts=[host.address for host in self.fleet.hosts],
                catalogue="c" * 64,
                service="shop",
                way_back=way_back,
                bundle=self.release.sha256,
            )

        return Admission.by_permit("production", office, ask, purpose)

    def deploy(self, admission: Admission, deployment: Deployment | None = None) -> tuple[HostResult, ...]:
        asked = deploy_hosts(
            self.fleet.hosts, deployment or self.release, login=self.fleet.login, admission=admission, balancer=None
        )
        return asyncio.run(asked)

    def close(self, outcome: str) -> None:
        closed = releases.outcome(outcome=outcome)
        self.ledger.append(CHAIN, RELEASE_CLOSED, closed.to_xcom(), actor="a task", key=f"{RELEASE_CLOSED}/{outcome}")
        ti = task_instance(RUN[0], "closure.record_outcome")
        context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=RUN[0], run_id=RUN[1])}
        with set_current_context(context):
            rolling.close_off(self.plan)

    @property
    def voided(self) -> list[dict[str, Any]]:
        return [entry.payload for entry in self.ledger.entries(PLACE, kind=PERMITS_VOIDED)]


def kept(admission: Admission) -> Admission:
    """Return an admission that shows hosts what this one showed, and asks no ledger any more: as a thief would."""
    held = WithToken(admission.token)
    held._shown = admission.shown
    return held


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with sshd_fleet(tmp_path, 2) as fleet:
        yield Installation(tmp_path, fleet, monkeypatch)


def test_hosts_refuse_the_permit_of_a_closed_release(installation: Installation) -> None:
    admission = installation.admission()
    assert [one.outcome for one in installation.deploy(admission)] == ["deployed", "deployed"]
    assert [one.outcome for one in installation.deploy(kept(admission))] == ["unchanged", "unchanged"], "it is in force"
    installation.close("deployed")
    for result in installation.deploy(kept(admission)):
        assert result.outcome == "failed"
        assert f"takes no lower token than {admission.token + 1}" in result.error
    (told,) = installation.voided
    hosts = sorted(host.address for host in installation.fleet.hosts)
    assert told == {"holder": CHAIN, "token": admission.token + 1, "hosts": hosts, "missed": {}}
    assert PLACE in installation.ledger.signed


def test_a_failed_release_may_still_be_backed_out_and_its_hosts_are_told_again(installation: Installation) -> None:
    first = installation.admission()
    assert [one.error for one in installation.deploy(first)] == ["", ""]
    installation.close("failed")
    back = installation.admission("back_out", way_back=True)
    assert [one.error for one in installation.deploy(back)] == ["", ""]
    installation.close("backed_out")
    assert all("takes no lower token" in one.error for one in installation.deploy(kept(back)))
    assert [one["token"] for one in installation.voided] == [first.token + 1, back.token + 1]
    assert not installation.ledger.entries("installation", kind=FINDING)


def test_a_host_that_does_not_hear_it_is_on_record_and_keeps_no_other_from_hearing_it(
    installation: Installation,
) -> None:
    here, gone = installation.fleet.machines
    admission = installation.admission()
    installation.deploy(admission)
    gone.stop()
    installation.close("deployed")
    (told,) = installation.voided
    assert told["hosts"] == [here.address]
    assert list(told["missed"]) == [gone.address]
    assert gone.address in told["missed"][gone.address]


def test_a_release_that_changed_nothing_tells_hosts_nothing(installation: Installation) -> None:
    installation.close("rejected")
    assert not installation.voided
    assert not any(machine.root.joinpath(".interlock/fence").exists() for machine in installation.fleet.machines)


def test_whatever_is_wrong_the_release_stays_closed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installation.deploy(installation.admission())
    monkeypatch.setattr(resources, "login", lambda _: 1 / 0)
    installation.close("deployed")
    assert "did not hear that the release is closed; its permits expire by themselves: division by zero" in caplog.text
