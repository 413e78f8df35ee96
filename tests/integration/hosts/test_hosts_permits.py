"""Hosts of production verify permits themselves, with OpenSSH's own tool; who shows none changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.hosts.fleet import Deployment, deploy_hosts
from interlock.adapters.hosts.step_run import Program, StepRun, run_over
from interlock.adapters.permits.issuer import Admission
from interlock.adapters.signing.signing import Signer, generate_key, load_signer, ssh_key
from interlock.domain.calendars.bookings import Entered
from interlock.domain.errors import PolicyViolation
from interlock.domain.permits.on_hosts import NAMESPACE, ShownPermit, allowed_signer, closing_text, permit_text
from interlock.domain.permits.permit import MAX_PERMIT_AGE, Permit
from interlock.domain.permits.production import Production
from interlock.domain.records import Host
from tests.local_host import ADDRESS, LocalHost, LocalRelease, make_local_release
from tests.sshd import make_release, sshd_fleet

SKEW = timedelta(minutes=5)
TOKEN = 1


def signer_in(folder: Path) -> Signer:
    generate_key(folder / "key")
    return load_signer((folder / "key").as_uri())


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return signer_in(tmp_path / "installation")


@pytest.fixture(params=["sh", "bash", "busybox"])
def host(request: pytest.FixtureRequest, tmp_path: Path, signer: Signer) -> LocalHost:
    """A host of production, with several shells."""
    made = LocalHost(tmp_path / "host", shell="bash" if request.param == "bash" else "sh")
    made.folder.mkdir()
    if request.param == "busybox":
        tools = tmp_path / "tools"
        tools.mkdir()
        program = shutil.which("busybox")
        assert program, "apt-get install busybox-static"
        for name in subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split():
            (tools / name).symlink_to(program)
        for name in ("comm", "flock", "ssh-keygen"):
            (tools / name).unlink(missing_ok=True)
            (tools / name).symlink_to(shutil.which(name) or name)
        made = LocalHost(made.folder, path=str(tools), shell=str(tools / "sh"))
    enrol(made.enrolment, signer, ADDRESS)
    return made


def enrol(folder: Path, signer: Signer, name: str) -> None:
    folder.mkdir()
    (folder / "permit-keys").write_text(allowed_signer(ssh_key(signer.public_key)))
    (folder / "names").write_text(f"i-0123456789abcdef0\n{name}\n")


def permit_for(release: LocalRelease, **changes: Any) -> Permit:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "id": "0" * 32,
        "purpose": "deploy",
        "chain": "release/release_shop/one",
        "environment": "production",
        "hosts": ("10.0.0.9", ADDRESS),
        "bundle": release.contents.sha256,
        "catalogue": "c" * 64,
        "issued_at": now,
        "expires_at": now + MAX_PERMIT_AGE,
        "entered": Entered(place="booking/production/shop", token=TOKEN),
    }
    return Permit(**{**fields, **changes})


def shown(permit: Permit, signer: Signer, namespace: str = NAMESPACE) -> ShownPermit:
    text = permit_text(permit)
    return ShownPermit(text, signer.sign_for_ssh(text.encode(), namespace))


def release_for(host: LocalHost, version: str = "1.0.0") -> LocalRelease:
    return make_local_release(host.folder.parent, version, {"version": version}, "")


def at(moment: timedelta) -> dict[str, datetime]:
    issued = datetime.now(UTC) + moment
    return {"issued_at": issued, "expires_at": issued + MAX_PERMIT_AGE}


def test_with_its_permit_a_release_comes_and_goes(host: LocalHost, signer: Signer) -> None:
    old, new = release_for(host, "1.0.0"), release_for(host, "1.1.0")
    for release in (old, new):
        host.permit = shown(permit_for(release), signer)
        result = host.deploy(release)
        assert (result.outcome, result.error, result.warnings) == ("deployed", "", ())
    host.permit = shown(permit_for(new, purpose="back_out"), signer)
    result = host.back_out(old)
    assert (result.outcome, result.error) == ("backed_out", "")


@pytest.mark.parametrize("moment", [SKEW - timedelta(minutes=1), timedelta(minutes=1) - SKEW - MAX_PERMIT_AGE])
def test_clocks_may_differ_by_some_minutes(host: LocalHost, signer: Signer, moment: timedelta) -> None:
    release = release_for(host)
    host.permit = shown(permit_for(release, **at(moment)), signer)
    assert host.deploy(release).error == ""


OTHER_PLACE = Entered(place="booking/production/till", token=TOKEN)
TEST_PLACE = Entered(place="booking/test/shop", token=TOKEN)
OTHER_PLACE_LATER = Entered(place="booking/production/till", token=TOKEN + 1)
OTHER_TOKEN = Entered(place="booking/production/shop", token=TOKEN + 1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (lambda: {"entered": OTHER_PLACE}, "the permit is for booking/production/till"),
        (lambda: {"entered": TEST_PLACE}, "the permit is for booking/test/shop"),
        (lambda: {"entered": OTHER_TOKEN}, "the permit has the token 2, and the visit 1"),
        (lambda: {"bundle": "d" * 64}, "the permit is for the bundle ddd"),
        (lambda: {"hosts": ("10.0.0.9", "10.0.0.10")}, "the permit names none of the names in"),
        (lambda: at(-SKEW - MAX_PERMIT_AGE - timedelta(seconds=1)), "the permit has expired by this host's clock"),
        (lambda: at(SKEW + timedelta(minutes=1)), "the permit is from the future by this host's clock"),
    ],
)
def test_a_permit_for_something_else_is_refused_and_the_host_stays_as_it_is(
    host: LocalHost, signer: Signer, changes: Callable[[], dict[str, Any]], why: str
) -> None:
    release = release_for(host)
    host.permit = shown(permit_for(release, **changes()), signer)
    refused(host, release, why)


def refused(host: LocalHost, release: LocalRelease, why: str) -> None:
    result = host.deploy(release)
    assert result.outcome == "failed"
    assert "localhost is a host of production, and it refused to be changed" in result.error
    assert why in result.error
    assert os.listdir(host.folder) == ["enrolment"] or not host.root.exists()
    assert not host.balance.told


def test_no_permit_a_forged_one_and_a_changed_one_are_refused(host: LocalHost, signer: Signer, tmp_path: Path) -> None:
    release = release_for(host)
    permit, forger = permit_for(release), signer_in(tmp_path / "forger")
    refused(host, release, "it was shown no permit")
    host.permit = shown(permit, forger)
    refused(host, release, "permit-keys signed the permit")
    host.permit = shown(permit, signer, "file")
    refused(host, release, "permit-keys signed the permit")
    other = shown(permit_for(release, hosts=("10.0.0.9",)), signer)
    host.permit = ShownPermit(permit_text(permit), other.signature)
    refused(host, release, "permit-keys signed the permit")
    host.permit = ShownPermit(permit_text(permit), "")
    refused(host, release, "permit-keys signed the permit")


def closing(signer: Signer, token: int, **changes: Any) -> ShownPermit:
    """Return what hosts are shown when the release that had the token before is closed."""
    fields: dict[str, Any] = {
        "entered": Entered(place="booking/production/shop", token=token),
        "hosts": ("10.0.0.9", ADDRESS),
        "now": datetime.now(UTC),
    }
    text = closing_text("1" * 32, **{**fields, **changes})
    return ShownPermit(text, signer.sign_for_ssh(text.encode(), NAMESPACE))


def test_when_a_release_is_closed_its_permit_is_void_and_a_later_one_is_not(host: LocalHost, signer: Signer) -> None:
    old, new = release_for(host, "1.0.0"), release_for(host, "1.1.0")
    host.permit = shown(permit_for(old), signer)
    assert host.deploy(old).error == ""
    host.close_off(TOKEN + 1, closing(signer, TOKEN + 1))
    host.close_off(TOKEN + 1, closing(signer, TOKEN + 1))
    again = host.deploy(old)
    assert again.outcome == "failed"
    assert "localhost takes no lower token than 2" in again.error
    assert "its release was closed" in again.error
    later = Entered(place="booking/production/shop", token=TOKEN + 1)
    host.has_token, host.permit = later.token, shown(permit_for(new, entered=later), signer)
    assert host.deploy(new).outcome == "deployed"


def test_a_host_that_has_had_a_later_permit_stays_with_it(host: LocalHost, signer: Signer) -> None:
    release = release_for(host)
    later = Entered(place="booking/production/shop", token=7)
    host.has_token, host.permit = 7, shown(permit_for(release, entered=later), signer)
    assert host.deploy(release).error == ""
    host.close_off(TOKEN + 1, closing(signer, TOKEN + 1))
    assert os.listdir(host.root / ".interlock/fence") == ["7"]
    assert host.deploy(release).error == "", "a release that is under way goes on"


def test_a_host_that_never_had_a_release_is_left_as_it_is(host: LocalHost, signer: Signer) -> None:
    host.close_off(TOKEN + 1, closing(signer, TOKEN + 1))
    assert not host.root.exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hosts": ("10.0.0.9",)}, "the permit names none of the names in"),
        ({"entered": OTHER_PLACE_LATER}, "the permit is for booking/production/till"),
        ({"now": datetime(2026, 1, 1, tzinfo=UTC)}, "the permit has expired by this host's clock"),
    ],
)
def test_nobody_closes_a_release_with_anything_else(
    host: LocalHost, signer: Signer, changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    """Or every release to come could be shut out."""
    release = release_for(host)
    permit = host.permit = shown(permit_for(release), signer)
    assert host.deploy(release).error == ""
    for said, reason in (
        (closing(signer, TOKEN + 1, **changes), why),
        (closing(signer_in(tmp_path / "forger"), TOKEN + 1), "permit-keys signed the permit"),
        (permit, "the permit is to deploy, and closes no release"),
    ):
        with pytest.raises(PolicyViolation, match=reason):
            host.close_off(TOKEN if said is permit else TOKEN + 1, said)
    assert os.listdir(host.root / ".interlock/fence") == [str(TOKEN)]


def test_what_closes_a_release_lets_nothing_be_changed(host: LocalHost, signer: Signer) -> None:
    release = release_for(host)
    host.permit = closing(signer, TOKEN)
    refused(host, release, "what it was shown closes a release, and lets nothing be changed")


def test_a_permit_to_restart_says_nothing_of_what_a_host_runs(host: LocalHost, signer: Signer) -> None:
    old, new = release_for(host, "1.0.0"), release_for(host, "1.1.0")
    host.permit = shown(permit_for(old), signer)
    assert host.deploy(old).error == ""
    host.permit = shown(permit_for(new, purpose="restart"), signer)
    refused_bundle = host.deploy(old)
    assert "the permit is for the bundle" in refused_bundle.error, "what is sent is the permit's bundle, if any"


def test_a_host_without_keys_is_marked_or_refused_as_the_policy_says(host: LocalHost, signer: Signer) -> None:
    shutil.rmtree(host.enrolment)
    release = release_for(host)
    host.permit = replace(shown(permit_for(release), signer), must_verify=True)
    result = host.deploy(release)
    assert (result.outcome, host.current) == ("failed", None)
    assert "localhost did not verify the permit: it has no /etc/interlock/permit-keys. Rule: " in result.error
    assert "policy.yaml, permits.hosts_without_keys" in result.error
    host.permit = replace(host.permit, must_verify=False)
    result = host.deploy(release)
    assert (result.outcome, result.warnings) == (
        "deployed",
        ("localhost did not verify the permit: it has no /etc/interlock/permit-keys",),
    )


def test_a_host_without_ssh_keygen_is_not_changed(tmp_path: Path, signer: Signer) -> None:
    host = LocalHost(tmp_path / "host")
    host.folder.mkdir()
    enrol(host.enrolment, signer, ADDRESS)
    tools = tmp_path / "few"
    tools.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for tool in Path(folder).glob("*"):
            if tool.name != "ssh-keygen" and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    host.path, release = str(tools), release_for(host)
    host.permit = shown(permit_for(release), signer)
    refused(host, release, "it lacks ssh-keygen")


def test_a_rehearsal_on_a_host_of_production_is_refused_by_the_host(tmp_path: Path, signer: Signer) -> None:
    """Over real SSH: nothing in Airflow knows any more that the host is production's."""
    with sshd_fleet(tmp_path) as fleet:
        (machine,) = fleet.machines
        enrol(machine.enrolment, signer, machine.address)
        admission = Admission.sandbox("test", production=Production())
        deployment = make_release(fleet, tmp_path, "1.0.0")
        asked = deploy_hosts(fleet.hosts, deployment, login=fleet.login, admission=admission, balancer=None)
        (result,) = asyncio.run(asked)
        assert "is a host of production, and it refused to be changed: it was shown no permit" in result.error
        assert machine.current is None


def test_a_permit_for_a_step_runs_it_and_switches_nothing_and_no_other_permit_runs_it(
    host: LocalHost, signer: Signer
) -> None:
    new = release_for(host)
    machine = Host(instance_id="i-1", name="shop-1", address=ADDRESS, zone="a")
    deployment = Deployment(
        service="shop",
        environment="production",
        deployment_id="release_shop/manual__1",
        deploy_root=str(host.root),
        health=None,
        drain_timeout=timedelta(seconds=1),
        release=new.contents.release,
        version=new.contents.version,
        commit=new.contents.commit,
        sha256=new.contents.sha256,
        bundle=new.bundle,
        keep_releases=3,
    )

    def run() -> StepRun:
        return asyncio.run(run_over(machine, Program("a" * 32, "hook", 20), deployment, host))

    host.permit = shown(permit_for(new), signer)
    with pytest.raises(PolicyViolation, match="the permit is to deploy, and not for a step"):
        run()
    assert host.events == []
    host.permit = shown(permit_for(new, purpose="step", step="a" * 32), signer)
    assert run().outcome
    assert host.events == ["RunbookStep 1.0.0"]
    result = host.deploy(new)
    assert (result.outcome, host.current) == ("failed", None)
    assert "the permit is for a step, and not to switch releases" in result.error
