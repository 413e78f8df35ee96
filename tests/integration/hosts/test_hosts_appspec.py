"""What a bundle's AppSpec asks of a real OpenSSH host: files in their places, permissions, accounts, traffic."""

from __future__ import annotations

import getpass
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from include.interlock.adapters.hosts import Deployment
from tests.deployments import FAIL, Balance, back_out, deploy_one
from tests.integration.hosts.test_hosts_difference import deployment_of
from tests.sshd import Fleet, SshdHost

NOTE = '#!/bin/sh\necho "$LIFECYCLE_EVENT $(cat version) $(id -un)" >> "$INTERLOCK_SHARED/events"\n'
EVENTS = [
    *("BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop"),
    *("BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"),
    *("BeforeAllowTraffic", "AfterAllowTraffic"),
]


@dataclass
class Builder:
    """Builds releases that put files into a folder of the host."""

    folder: Path
    www: Path

    def build(
        self, version: str, files: Mapping[str, str], *, spec: str = "", hooks: str = "", script: str = NOTE
    ) -> Deployment:
        tree = self.folder / f"tree-{version}"
        tree.mkdir()
        for name, text in {**files, "version": version, "note": script}.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        places = (
            f"files:\n  - {{source: web, destination: '{self.www}'}}\n" if any("web/" in one for one in files) else ""
        )
        (tree / "appspec.yml").write_text(f"version: 0.0\nos: linux\n{places}{spec}{hooks}")
        return deployment_of(tree, version)

    def placed(self) -> dict[str, str]:
        return {str(path.relative_to(self.www)): path.read_text() for path in self.www.rglob("*") if path.is_file()}


def on(*events: str, runas: str = "") -> str:
    account = f", runas: {runas}" if runas else ""
    return "hooks:\n" + "".join(f"  {event}: [{{location: note, timeout: 20{account}}}]\n" for event in events)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path, tmp_path / "var/www shop")


def test_files_are_put_where_the_release_says_and_follow_it(fleet: Fleet, machine: SshdHost, builder: Builder) -> None:
    old = builder.build(
        "1.0.0", {"web/index": "old", "web/deep/er/page": "old", "web/leaves": "x", "code": "not placed"}
    )
    new = builder.build("1.1.0", {"web/index": "new", "web/deep/er/page": "new", "web/comes": "y"})
    assert deploy_one(fleet, old).outcome == "deployed"
    assert builder.placed() == {"index": "old", "deep/er/page": "old", "leaves": "x"}
    assert "Install" in dict(deploy_one(fleet, new).steps)
    assert builder.placed() == {"index": "new", "deep/er/page": "new", "comes": "y"}
    (result,) = back_out(fleet, new, {machine.address: old.release})
    assert result.outcome == "backed_out"
    assert builder.placed() == {"index": "old", "deep/er/page": "old", "leaves": "x"}
    back_out(fleet, new, {machine.address: None})
    assert builder.placed() == {}


@pytest.mark.parametrize("event", ["AfterInstall", "ValidateService"])
def test_a_release_that_fails_leaves_the_files_of_the_one_before(fleet: Fleet, builder: Builder, event: str) -> None:
    old = builder.build("1.0.0", {"web/index": "old"})
    new = builder.build("1.1.0", {"web/index": "new", "web/comes": "y"}, hooks=on(event), script=FAIL)
    deploy_one(fleet, old)
    result = deploy_one(fleet, new)
    assert (result.outcome, result.after) == ("failed", old.release)
    assert builder.placed() == {"index": "old"}


def test_a_file_that_no_release_put_there_stops_the_deployment_before_anything_is_changed(
    fleet: Fleet, machine: SshdHost, builder: Builder
) -> None:
    builder.www.mkdir(parents=True)
    (builder.www / "index").write_text("somebody's")
    balance = Balance()
    result = deploy_one(fleet, builder.build("1.0.0", {"web/index": "new", "web/more": "new"}), balance)
    assert result.outcome == "failed"
    assert (
        f"{builder.www}/index is there, no release put it there, and file_exists_behavior is DISALLOW" in result.error
    )
    assert builder.placed() == {"index": "somebody's"}
    assert "drain" not in balance.told


@pytest.mark.parametrize(
    ("behaviour", "then"),
    [("OVERWRITE", {"index": "new", "more": "new"}), ("RETAIN", {"index": "theirs", "more": "new"})],
)
def test_a_file_that_was_there_is_overwritten_or_retained_and_is_there_again_afterwards(
    fleet: Fleet, machine: SshdHost, builder: Builder, behaviour: str, then: dict[str, str]
) -> None:
    builder.www.mkdir(parents=True)
    (builder.www / "index").write_text("theirs")
    spec = f"file_exists_behavior: {behaviour}\n"
    new = builder.build("1.0.0", {"web/index": "new", "web/more": "new"}, spec=spec)
    assert deploy_one(fleet, new).outcome == "deployed"
    assert builder.placed() == then
    back_out(fleet, new, {machine.address: None})
    assert builder.placed() == {"index": "theirs"}


def test_permissions_are_set_on_what_they_name(fleet: Fleet, builder: Builder) -> None:
    spec = (
        "permissions:\n"
        f"  - {{object: '{builder.www}', mode: 0640, type: [file]}}\n"
        f"  - {{object: '{builder.www}', mode: 2750, type: [directory]}}\n"
        f"  - {{object: '{builder.www}/bin', pattern: '*.sh', except: [local.sh], mode: 755}}\n"
        f"  - {{object: '{builder.www}/index', mode: 600, owner: {getpass.getuser()}}}\n"
    )
    names = ["index", "other", "bin/a.sh", "bin/local.sh", "bin/c.py", "bin/deep/d.sh"]
    release = builder.build("1.0.0", {f"web/{name}": name for name in names}, spec=spec)
    result = deploy_one(fleet, release)
    assert result.outcome == "deployed", result.error
    modes = {name: stat.S_IMODE((builder.www / name).stat().st_mode) for name in [*names, "bin", "bin/deep"]}
    assert modes == {
        "index": 0o600,
        "other": 0o640,
        "bin": 0o2750,
        "bin/deep": 0o2750,
        "bin/a.sh": 0o755,
        "bin/local.sh": 0o640,
        "bin/c.py": 0o640,
        "bin/deep/d.sh": 0o640,
    }


def test_hooks_around_traffic_are_in_codedeploys_order(fleet: Fleet, machine: SshdHost, builder: Builder) -> None:
    balance = Balance()
    for version in ("1.0.0", "1.1.0"):
        assert deploy_one(fleet, builder.build(version, {}, hooks=on(*EVENTS)), balance).outcome == "deployed"
    second = (machine.root / "shared/events").read_text().splitlines()[-9:]
    assert [line.split()[0] for line in second] == EVENTS
    assert [line.split()[1] for line in second] == ["1.0.0"] * 3 + ["1.1.0"] * 6


def test_a_failing_hook_after_traffic_takes_the_host_back(fleet: Fleet, machine: SshdHost, builder: Builder) -> None:
    balance = Balance()
    old = builder.build("1.0.0", {})
    deploy_one(fleet, old, balance)
    result = deploy_one(fleet, builder.build("1.1.0", {}, hooks=on("AfterAllowTraffic"), script=FAIL), balance)
    assert (result.outcome, result.after, machine.current) == ("failed", old.release, old.release)
    assert balance.serving == {machine.host.instance_id}


def test_a_hook_that_is_to_run_as_somebody_whom_the_login_may_not_be_is_refused_in_time(
    fleet: Fleet, machine: SshdHost, builder: Builder
) -> None:
    balance = Balance()
    result = deploy_one(fleet, builder.build("1.0.0", {}, hooks=on("AfterInstall", runas="nobody-at-all")), balance)
    assert result.outcome == "failed"
    assert "hooks are to run as nobody-at-all, and" in result.error
    assert "drain" not in balance.told
    assert machine.current is None


def test_a_hook_runs_as_the_account_that_it_names(fleet: Fleet, machine: SshdHost, builder: Builder) -> None:
    me = fleet.login.username
    assert deploy_one(fleet, builder.build("1.0.0", {}, hooks=on("AfterInstall", runas=me))).outcome == "deployed"
    assert (machine.root / "shared/events").read_text() == f"AfterInstall 1.0.0 {me}\n"
