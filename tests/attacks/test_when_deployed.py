"""When a release is in production: its finished run, and what is left of it when Airflow has forgotten it.

These come last: from here on production runs 1.1.0, and the attacks would bring it back to 1.0.0.
"""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook

from interlock.adapters.evidence.sources import Sources, pack_release
from interlock.adapters.hosts.fleet import Deployment, deploy_hosts, ssh_login
from interlock.adapters.quality.expectations import suite_digests
from interlock.domain.errors import LedgerBroken
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.permits.on_hosts import NAMESPACE, ShownPermit, permit_text
from interlock.domain.permits.permit import Permit
from interlock.estate.settings import DEPLOY_ROOT
from interlock.locations import PROJECT
from interlock.stages.runtime import resources
from tests.deployments import WithToken
from tests.end_to_end.people import Release, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase, LedgerDatabase
from .people import NEW, REFUSED, TAMPERED, approved, go, reason_of
from .suite import FINDINGS, OWNER, SHELL, WORKER, attack

pytestmark = [pytest.mark.timeout(1800), pytest.mark.attacks]
LIE = f"9.9.9-{'a' * 12}"
WAVE, BACK_OUT, BASELINE = "implementation.wave_1", "verification.back_out", "implementation.measure_baseline"


@pytest.fixture(scope="module")
def deployed(stack: Stack) -> Release:
    """A release that everybody approved, and that nobody attacked."""
    release = approved(stack)
    go(stack, release)
    assert release.finish() == "success", release.outcome()
    return release


def test_a_release_that_nobody_attacks_is_deployed(stack: Stack, deployed: Release) -> None:
    assert deployed.outcome()["outcome"] == "deployed"
    assert stack.production() == {NEW}


@attack(
    "use the permit of a finished release on its hosts, as they were shown it, before it has expired",
    by=WORKER,
    way="host",
    stopped="hosts hear that a release is closed, and refuse its permits from then on",
)
def test_hosts_refuse_the_permit_of_a_finished_release(stack: Stack, deployed: Release, tmp_path: Path) -> None:
    used = [Permit.model_validate(entry.payload["permit"]) for entry in wave.entries(deployed, "permit.used")]
    permit = [one for one in used if one.purpose == "deploy"][-1]
    assert permit.entered is not None
    assert datetime.now(UTC) < permit.expires_at, "too late: it has expired by itself"
    admission, text = WithToken(permit.entered.token), permit_text(permit)
    admission._shown = ShownPermit(text, resources.signer().sign_for_ssh(text.encode(), NAMESPACE))
    plan = wave.plan_of(deployed)
    deployment = Deployment(
        service=plan.service,
        environment=plan.environment,
        deployment_id="release_bike_shop/attack",
        deploy_root="srv/bike-shop",
        release=plan.release,
        version=plan.version,
        commit=plan.commit,
        sha256=plan.bundle.sha256,
        bundle=resources.store().get_file(plan.bundle, tmp_path / "bundle.tar.gz"),
        keep_releases=3,
        health=None,
        drain_timeout=timedelta(seconds=1),
    )
    hosts = [host for host in plan.hosts if host.address in permit.hosts]
    login = ssh_login(BaseHook.get_connection("interlock_hosts"))
    results = asyncio.run(deploy_hosts(hosts, deployment, login=login, admission=admission, balancer=None))
    assert results
    for result in results:
        assert (result.outcome, "its release was closed" in result.error) == ("failed", True), result
        assert f"takes no lower token than {permit.entered.token + 1}" in result.error


@attack(
    "run a wave of a finished release again",
    by=OWNER,
    way="database",
    stopped="a task of a release that has ended by the ledger does nothing, and adds nothing to its record",
)
def test_a_finished_release_gets_no_permit(deployed: Release, database: AirflowDatabase) -> None:
    used = len(wave.entries(deployed, "permit.used"))
    database.run_again(deployed, WAVE)
    until("the wave to be refused", lambda: deployed.states()[WAVE] == "failed")
    assert "the release is closed as deployed" in reason_of(deployed, WAVE)
    deployed.finish()
    assert len(wave.entries(deployed, "permit.used")) == used


@attack(
    "take production back with a finished release's back-out",
    by=OWNER,
    way="database",
    stopped="a task of a release that has ended by the ledger does nothing, and adds nothing to its record",
)
def test_a_finished_release_backs_nothing_out(stack: Stack, deployed: Release, database: AirflowDatabase) -> None:
    refused_back_out(stack, deployed, database)


@attack(
    "take production back with the back-out of a release that was rejected",
    by=OWNER,
    way="database",
    stopped="a release that has ended, or never had a permit to deploy, backs nothing out",
)
def test_a_rejected_release_backs_nothing_out(
    stack: Stack, rejected: Release, deployed: Release, database: AirflowDatabase
) -> None:
    refused_back_out(stack, rejected, database)


def refused_back_out(stack: Stack, release: Release, database: AirflowDatabase) -> None:
    """Have Airflow run a release's back-out, as if its verification had failed, and check that it is refused."""
    database.write_xcom(release, BASELINE, {"moment": "before"})
    database.set_state(release, "failed", "verification.judge_verification")
    database.run_again(release, BACK_OUT)
    until("the back-out to end", lambda: release.states()[BACK_OUT] in ("failed", "success"))
    reason = reason_of(release, BACK_OUT)
    release.finish()
    assert stack.production() == {NEW}
    assert release.states()[BACK_OUT] == "failed"
    assert "the release is closed" in reason, reason
    assert "Rule: " in reason
    assert not wave.entries(release, "back_out.done")


@attack(
    "delete a release's run and all that Airflow has of it, its audit log included",
    by=OWNER,
    way="database",
    stopped="the ledger and the artifact store prove the release without Airflow",
)
def test_a_deleted_run_is_proven_all_the_same(
    stack: Stack, deployed: Release, database: AirflowDatabase, tmp_path: Path
) -> None:
    database.forget(deployed)
    with wave.ledger() as ledger, resources.airflow_api() as api:
        assert ledger.check(release_chain(deployed.dag_id, deployed.id), [resources.signer().public_key]) is None
        kinds = {entry.kind for entry in ledger.entries(release_chain(deployed.dag_id, deployed.id))}
        sources = Sources(ledger, resources.store(), api, resources.signer(), suite_digests(), resources.witness_key())
        pack_release(deployed.dag_id, deployed.id, sources, tmp_path / "pack.zip", actor="audrey")
    assert {"release.requested", "rollout.frozen", "board.decided", "wave.deployed", "release.closed"} <= kinds
    (tmp_path / "key.pem").write_bytes(resources.signer().public_key)
    command = [sys.executable, "-m", "interlock.verify", str(tmp_path / "pack.zip")]
    command += ["--key", str(tmp_path / "key.pem")]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.endswith("\nPROVEN.\n")


@pytest.fixture(scope="module")
def changed_in_place(stack: Stack, deployed: Release) -> dict[str, set[str]]:
    """Code of the release, changed on a host of production and on one of test; by address, which files."""
    changed: dict[str, set[str]] = {}
    for environment in ("production", "test"):
        host = stack.settings.host(environment, 1)
        current = stack.settings.host_folder(host.name) / DEPLOY_ROOT / "current"
        for name in ("shop/pages.py", "shop/config.py"):
            with open(current / name, "a", encoding="utf-8") as file:
                file.write("\n# as somebody likes it\n")
            changed.setdefault(host.address, set()).add(name)
    return changed


@pytest.fixture(scope="module")
def lying(stack: Stack, deployed: Release) -> Iterator[str]:
    """A production host that says over SSH that it runs a release which it was never given; its address."""
    host = stack.settings.host("production", 2)
    current = stack.settings.host_folder(host.name) / DEPLOY_ROOT / "current"
    true = Path(os.readlink(current))
    said = current.parent / "releases" / LIE
    said.symlink_to(true.name)

    def say(name: Path) -> None:
        link = current.with_name("said")
        link.symlink_to(name)
        link.replace(current)

    say(true.with_name(LIE))
    yield host.address
    say(true)
    said.unlink()


@pytest.fixture(scope="module")
def reconciled(stack: Stack, deployed: Release, changed_in_place: dict[str, set[str]], lying: str) -> None:
    """The bypass detector, having looked at everything that was attacked."""
    run = stack.person("olga").start("reconcile", {})
    until("the bypass detector to have looked", lambda: run.state in ("success", "failed"))
    assert run.state == "success", run.tasks()


@attack(
    "delete a run, and hope that nobody misses it",
    by=OWNER,
    way="database",
    stopped="the bypass detector misses it, by the ledger, and leaves a finding",
)
def test_a_deleted_run_is_missed(deployed: Release, reconciled: None) -> None:
    assert any(f"The run {deployed.id}" in what for what in wave.findings(deployed)), wave.findings(deployed)


@attack(
    "change the code of a release in place on its hosts, and leave its name as it is",
    by=SHELL,
    way="host",
    stopped="the bypass detector compares the hosts' files with what was built, and leaves a finding for each file",
)
def test_code_changed_in_place_is_found(changed_in_place: dict[str, set[str]], reconciled: None) -> None:
    entries: list[Entry] = []
    with wave.ledger() as ledger:
        for chain in ledger.chains():
            with suppress(LedgerBroken):  # what other attacks left
                entries += ledger.entries(chain, kind="finding")
    found = [one.payload["evidence"] for one in entries if one.payload.get("found") == "file_changed"]
    told: dict[str, set[str]] = {}
    for one in found:
        told.setdefault(one["host"], set()).add(one["path"])
        assert one["expected"] != one["found"]
    assert told == changed_in_place, "each of them, and no other file of any host"


@attack(
    "have a host say over SSH that it runs another release than it was given",
    by=SHELL,
    way="host",
    stopped="the bypass detector compares what hosts say with the ledger, and leaves a finding",
)
def test_a_host_that_lies_is_found(lying: str, reconciled: None) -> None:
    with wave.ledger() as ledger:
        found = [one.payload for one in ledger.entries(INSTALLATION, kind="finding")]
    (one,) = [one for one in found if one.get("found") == "host_changed"]
    assert (one["evidence"]["host"], one["evidence"]["runs"]) == (lying, LIE)
    assert "Who changed it, and when, is not known." in one["what"]


def test_everything_that_was_changed_past_the_api_is_a_finding(reconciled: None) -> None:
    assert not TAMPERED or {"states", "votes", "a plan", "a manifest"} <= TAMPERED.keys(), "none: this file by itself"
    assert [what for what, release in TAMPERED.items() if not wave.findings(release)] == []


def test_no_finding_is_about_what_nobody_changed(
    ledger_database: LedgerDatabase,
    deployed: Release,
    changed_in_place: dict[str, set[str]],
    lying: str,
    reconciled: None,
    record_property: Callable[[str, object], None],
) -> None:
    attacked = {release_chain(one.dag_id, one.id) for one in (*TAMPERED.values(), deployed)}
    hosts = {*changed_in_place, lying}

    def is_true(chain: str, payload: dict[str, Any]) -> bool:
        if chain != INSTALLATION:
            return chain in attacked
        if payload["found"] in ("file_changed", "host_changed"):
            return payload["evidence"]["host"] in hosts
        expected = {"account_doubted": " of dan ", "right_lost": "(attacker, ", "not_looked_at": " of attack "}
        return expected.get(payload["found"], "?") in payload["what"]

    # Straight from the table: some chains do not hold any more, by what other attacks left.
    rows = ledger_database.run("SELECT chain, payload FROM ledger.entries WHERE kind = 'finding'")
    false = [f"{chain}: {payload['what']}" for chain, payload in rows if not is_true(chain, payload)]
    record_property(FINDINGS, (len(rows) - len(false), len(false)))
    assert not false


def test_every_refused_attempt_is_on_record(stack: Stack) -> None:
    for user, number in REFUSED.items():
        until(f"{number} attempts of {user}", functools.partial(_recorded, user, number))


def _recorded(user: str, number: int) -> bool:
    return wave.refused_attempts(user) >= number
