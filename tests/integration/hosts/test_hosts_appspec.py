"""What a bundle's AppSpec asks of a real OpenSSH host: files in their places, permissions, accounts, traffic."""

from __future__ import annotations

import getpass
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from interlock.adapters.hosts.fleet import Deployment
from interlock.domain.errors import BuildFailed, TransientError
from interlock.domain.hosts import commands
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
        f"  - {{object: '{builder.www}', mode: 640, type: [file]}}\n"
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


def modes_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in folder.rglob("*")}


def test_permissions_are_set_as_in_the_example_of_codedeploys_documentation(fleet: Fleet, builder: Builder) -> None:
    app, third = builder.www, f"{builder.www}/my-folder-2/my-folder-3".removeprefix("/")
    spec = f"""files:
  - {{source: ./my-file-1.txt, destination: '{app}'}}
  - {{source: ./my-file-2.txt, destination: '{app}'}}
  - {{source: ./my-file-3.txt, destination: '{app}'}}
  - {{source: ./my-folder-1, destination: '{app}/my-folder-1'}}
  - {{source: ./my-folder-2, destination: '{app}/my-folder-2'}}
permissions:
  - {{object: '{app}', pattern: "*-3.txt", mode: 464, type: [file]}}
  - {{object: '{app}', pattern: "*.txt", except: [my-file-3.txt], mode: 444, type: [file]}}
  - {{object: '{app}/my-folder-1', pattern: "**", except: [my-file-4.txt, my-file-5.txt], mode: 646, type: [file]}}
  - {{object: '{app}/my-folder-2', pattern: "**", except: [my-file-8.txt], mode: 777, type: [file]}}
  - {{object: '{app}', pattern: "*my-folder*", except: ['{third}'], mode: 751, type: [directory]}}
  - {{object: '{app}/my-folder-2', mode: 764, type: [directory]}}
"""
    files = ["my-file-1.txt", "my-file-2.txt", "my-file-3.txt"]
    files += [f"my-folder-1/my-file-{number}.txt" for number in (4, 5, 6)]
    files += [f"my-folder-2/my-file-{number}.txt" for number in (7, 8, 9)] + ["my-folder-2/my-folder-3/x"]
    result = deploy_one(fleet, builder.build("1.0.0", dict.fromkeys(files, ""), spec=spec))
    assert (result.outcome, result.error) == ("deployed", "")
    assert modes_below(app) == {
        **{"my-file-1.txt": "444", "my-file-2.txt": "444", "my-file-3.txt": "464"},
        **{"my-folder-1": "751", "my-folder-2": "751", "my-folder-2/my-folder-3": "764"},
        **{"my-folder-1/my-file-4.txt": "644", "my-folder-1/my-file-5.txt": "644", "my-folder-1/my-file-6.txt": "646"},
        **{"my-folder-2/my-file-7.txt": "777", "my-folder-2/my-file-8.txt": "644", "my-folder-2/my-file-9.txt": "777"},
        "my-folder-2/my-folder-3/x": "777",
    }


def test_permissions_reach_destinations_below_their_object(fleet: Fleet, builder: Builder) -> None:
    app = builder.www
    spec = f"""files:
  - {{source: one, destination: '{app}'}}
  - {{source: two, destination: '{app}/sub/deep'}}
permissions:
  - {{object: '{app}', pattern: "**", except: [{app}/sub/deep/kept, b*], mode: 640, type: [file]}}
  - {{object: '{app.parent}', pattern: "{app.name}", mode: 2750, type: [directory]}}
  - {{object: '{app}', mode: 711, type: [directory]}}
  - {{object: /, except: ['{app}/sub/deep/kept'], owner: {getpass.getuser()}}}
"""
    files = dict.fromkeys(["one/a", "one/b", "two/b", "two/kept", "two/er/c"], "")
    result = deploy_one(fleet, builder.build("1.0.0", files, spec=spec))
    assert (result.outcome, result.error) == ("deployed", "")
    assert modes_below(app.parent) == {
        app.name: "2750",
        **{f"{app.name}/{name}": "711" for name in ("sub", "sub/deep", "sub/deep/er")},
        **{f"{app.name}/a": "640", f"{app.name}/b": "644"},
        **{f"{app.name}/sub/deep/{name}": mode for name, mode in (("b", "640"), ("kept", "644"), ("er/c", "640"))},
    }


def test_folders_that_releases_made_are_as_the_release_says_and_others_stay(
    fleet: Fleet, machine: SshdHost, builder: Builder
) -> None:
    theirs = builder.www / "theirs"
    theirs.mkdir(parents=True)
    theirs.chmod(0o700)
    files = ["web/ours/deep/x", "web/theirs/x", "web/plain/x"]

    def deploy_with(version: str, *modes: str) -> Deployment:
        lines = [f"  - {{object: '{builder.www}', {mode}, type: [directory]}}\n" for mode in modes]
        spec = f"permissions:\n{''.join(lines)}" if lines else ""
        release = builder.build(version, dict.fromkeys(files, version), spec=spec)
        result = deploy_one(fleet, release)
        assert (result.outcome, result.error) == ("deployed", "")
        return release

    def modes() -> list[str]:
        return [modes_below(builder.www)[name] for name in ("ours", "ours/deep", "theirs", "plain")]

    first = deploy_with("1.0.0")
    assert modes() == ["755", "755", "700", "755"]
    second = deploy_with("1.1.0", "pattern: ours, mode: 2750")
    assert modes() == ["2750", "755", "700", "755"]
    (builder.www / "plain").chmod(0o777)
    deploy_with("1.2.0", "except: [plain], mode: 750")
    assert modes() == ["750", "750", "700", "777"], "what permissions say nothing of stays as somebody set it"
    for release, expected in ((second, ["2750", "755", "700", "777"]), (first, ["755", "755", "700", "777"])):
        back_out(fleet, release, {machine.address: release.release})
        assert modes() == expected


def test_many_files_are_placed_with_few_processes(fleet: Fleet, machine: SshdHost, builder: Builder) -> None:
    count = builder.folder / "count"
    (builder.folder / "bin").mkdir()
    for name in ("grep", "mv", "rm", "cp", "chmod", "mkdir"):
        tool = builder.folder / "bin" / name
        tool.write_text(f'#!/bin/sh\necho {name} >>{count}\nexec /bin/{name} "$@"\n')
        tool.chmod(0o755)
    machine.stop()
    machine.limits = f"export PATH='{builder.folder}/bin':$PATH &&"
    machine.start()
    spec = (
        "file_exists_behavior: OVERWRITE\npermissions:\n"
        f"  - {{object: '{builder.www}', mode: 640, type: [file]}}\n  - {{object: '{builder.www}', mode: 750}}\n"
    )
    files = {f"web/{number % 20}/file {number}": "x" for number in range(1500)}
    theirs = [name.removeprefix("web/") for name in files if name.startswith("web/7/")]
    for name in theirs:
        (builder.www / name).parent.mkdir(parents=True, exist_ok=True)
        (builder.www / name).write_text("theirs")
    old = builder.build("1.0.0", files, spec=spec)
    for release in (old, builder.build("1.1.0", {**files, "web/0/more": "x"}, spec=spec)):
        result = deploy_one(fleet, release)
        assert (result.outcome, result.error) == ("deployed", "")
    assert set(builder.placed().values()) == {"x"}
    back_out(fleet, old, {machine.address: None})
    assert builder.placed() == dict.fromkeys(theirs, "theirs")
    assert Counter(count.read_text().split()).total() < len(theirs) + 400


def test_the_hooks_of_an_event_have_an_hour_together(
    fleet: Fleet, machine: SshdHost, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_EVENT_SECONDS", 9)  # one and a half of them, however busy this machine is
    hooks = "hooks: {AfterInstall: [{location: note}, {location: note}, {location: note}]}\n"
    result = deploy_one(fleet, builder.build("1.0.0", {}, hooks=hooks, script=f"{NOTE}sleep 6\n"))
    assert result.outcome == "failed"
    assert "the hook AfterInstall (note)" in result.error
    assert "seconds and was killed" in result.error
    assert (machine.root / "shared/events").read_text().count("AfterInstall") == 2


def test_two_sources_for_one_file_are_refused_when_the_bundle_is_built(builder: Builder) -> None:
    spec = f"files:\n  - {{source: a, destination: '{builder.www}'}}\n  - {{source: b, destination: '{builder.www}'}}\n"
    with pytest.raises(BuildFailed, match=f"a/y and b/y have the same destination {builder.www}/y"):
        builder.build("1.0.0", {"a/x": "1", "a/y": "1", "b/y": "2"}, spec=spec)


def test_hooks_around_traffic_are_in_codedeploys_order(fleet: Fleet, machine: SshdHost, builder: Builder) -> None:
    balance = Balance()
    for version in ("1.0.0", "1.1.0"):
        assert deploy_one(fleet, builder.build(version, {}, hooks=on(*EVENTS)), balance).outcome == "deployed"
    second = (machine.root / "shared/events").read_text().splitlines()[-9:]
    assert [line.split()[0] for line in second] == EVENTS
    assert [line.split()[1] for line in second] == ["1.0.0"] * 3 + ["1.1.0"] * 6


@pytest.mark.parametrize("event", ["BeforeBlockTraffic", "AfterBlockTraffic"])
def test_a_broken_hook_of_the_release_that_runs_keeps_no_later_one_out(
    fleet: Fleet, machine: SshdHost, builder: Builder, event: str
) -> None:
    balance = Balance()
    deploy_one(fleet, builder.build("1.0.0", {}, hooks=on(event), script=FAIL), balance)
    refused = deploy_one(fleet, replace(builder.build("1.1.0", {}), on_stop_failure="refuse"), balance)
    assert (refused.outcome, balance.serving) == ("failed", {machine.host.instance_id})
    result = deploy_one(fleet, builder.build("1.2.0", {}), balance)
    assert (result.outcome, result.error, balance.serving) == ("deployed", "", {machine.host.instance_id})
    assert f"the hook {event} (note)" in " ".join(result.warnings)


def test_a_failing_hook_after_traffic_takes_the_host_back_out_of_service(
    fleet: Fleet, machine: SshdHost, builder: Builder
) -> None:
    balance = Balance()
    old = builder.build("1.0.0", {})
    deploy_one(fleet, old, balance)
    balance.told.clear()
    result = deploy_one(fleet, builder.build("1.1.0", {}, hooks=on("AfterAllowTraffic"), script=FAIL), balance)
    assert (result.outcome, result.after, machine.current) == ("failed", old.release, old.release)
    assert balance.told == ["drain", "restore", "drain", "restore"]
    assert balance.serving == {machine.host.instance_id}


@dataclass
class Stumbling(Balance):
    """A balancer that, from some restore on, fails for some calls: by then the host may be in service."""

    fails: int = 0

    async def drain(self, instance_id: str, timeout: timedelta) -> None:
        await super().drain(instance_id, timeout)
        self._stumble()

    async def restore(self, instance_id: str) -> None:
        await super().restore(instance_id)
        if len(self.told) > 2:
            self._stumble()

    def _stumble(self) -> None:
        if len(self.told) > 3 and self.fails:
            self.fails -= 1
            raise TransientError("The load balancer does not answer.")


@pytest.mark.parametrize("fails", [1, 2], ids=["the restore fails", "and the drain after it"])
def test_a_host_that_may_be_in_service_is_drained_on_its_way_back(
    fleet: Fleet, machine: SshdHost, builder: Builder, fails: int
) -> None:
    balance = Stumbling()
    old = builder.build("1.0.0", {})
    deploy_one(fleet, old, balance)
    balance.fails = fails
    result = deploy_one(fleet, builder.build("1.1.0", {}), balance)
    assert (result.outcome, result.after, machine.current) == ("failed", old.release, old.release)
    assert balance.told[2:] == ["drain", "restore", "drain", "restore"]
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
