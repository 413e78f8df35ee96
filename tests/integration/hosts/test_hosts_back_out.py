"""Back-outs on real OpenSSH hosts: from what is on them, to what they ran."""

from __future__ import annotations

from pathlib import Path

from tests.deployments import FAIL, Balance, back_out, deploy, served
from tests.sshd import Fleet, SshdHost, make_release, sshd_fleet


def test_hosts_go_back_to_what_is_on_them(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 2) as fleet:
        old, new = make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0")
        balance = Balance()
        deploy(fleet, old, balance)
        deploy(fleet, new, balance)
        plan: dict[str, str | None] = {host.address: old.release for host in fleet.hosts}
        results = back_out(fleet, new, plan, balance)
        assert [(one.outcome, one.before, one.after) for one in results] == [
            ("backed_out", new.release, old.release)
        ] * 2
        assert [served(fleet, machine) for machine in fleet.machines] == ["1.0.0"] * 2
        assert balance.serving == {host.instance_id for host in fleet.hosts}
        assert {one.outcome for one in back_out(fleet, new, plan, balance)} == {"unchanged"}


def test_a_host_without_a_release_before_is_emptied(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new, balance = make_release(fleet, tmp_path, "1.0.0"), Balance()
    deploy(fleet, new, balance)
    (result,) = back_out(fleet, new, {machine.address: None}, balance)
    assert (result.outcome, result.after, machine.current, served(fleet, machine)) == ("backed_out", None, None, None)
    assert balance.serving == set()
    assert back_out(fleet, new, {machine.address: None})[0].outcome == "unchanged"


def test_a_release_that_cannot_be_stopped_is_backed_out_all_the_same(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    old, new = (
        make_release(fleet, tmp_path, "1.0.0"),
        make_release(fleet, tmp_path, "1.1.0", hooks={"ApplicationStop": FAIL}),
    )
    deploy(fleet, old)
    deploy(fleet, new)
    (result,) = back_out(fleet, new, {machine.address: old.release})
    assert (result.outcome, result.after, served(fleet, machine)) == ("backed_out", old.release, "1.0.0")


def test_a_back_out_to_a_release_that_is_gone_fails_and_leaves_the_host(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    new = make_release(fleet, tmp_path, "1.1.0")
    deploy(fleet, new)
    (result,) = back_out(fleet, new, {machine.address: "1.0.0-0123456789ab"})
    assert (result.outcome, result.after, served(fleet, machine)) == ("failed", new.release, "1.1.0")
    assert "no longer has 1.0.0-0123456789ab" in result.error
