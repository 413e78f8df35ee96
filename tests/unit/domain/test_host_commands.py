from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.errors import DeployError
from interlock.domain.hosts.appspec import AppSpec, Event, parse_appspec
from interlock.domain.hosts.commands import (
    Contents,
    HostState,
    InstalledRelease,
    Site,
    ask_command,
    event_seconds,
    longest,
    named,
    parse_state,
    placing_seconds,
    session_command,
    spec_lines,
)
from interlock.domain.permits.on_hosts import ShownPermit

SITE = Site(
    service="shop",
    environment="production",
    deployment_id="release_shop/manual__1",
    deploy_root="srv/shop",
    health=None,
    drain_timeout=timedelta(0),
)
DIGEST = "0123456789ab" + "c" * 52
CONTENTS = Contents(release="1.1.0-0123456789ab", version="1.1.0", commit="f" * 40, sha256=DIGEST, size=7)
OLD, NEW = "1.0.0-aaaaaaaaaaaa", "1.1.0-bbbbbbbbbbbb"
APPSPEC = """version: 0.0
os: linux
hooks:
  ApplicationStop: [{location: stop.sh, timeout: 1}]
  BeforeInstall: [{location: before.sh, timeout: 10}]
  AfterInstall: [{location: after.sh, timeout: 100}]
  ApplicationStart: [{location: start it.sh, timeout: 1000}]
  ValidateService: [{location: check.sh, timeout: 2000}]
"""


def test_a_session_is_opened_with_one_quoted_command() -> None:
    words = shlex.split(session_command("the program", "h", SITE, CONTENTS, patience=30, token=7, visit="v1"))
    assert words[:6] == ["env", "INTERLOCK_VISIT=v1", "sh", "-c", "the program", "interlock"]
    assert words[6:13] == ["session", "srv/shop", "shop", "production", "release_shop/manual__1", "7", "30"]
    assert words[13:16] == [CONTENTS.release, DIGEST, "7"]
    assert json.loads(words[16]) == {
        "service": "shop",
        "release": "1.1.0-0123456789ab",
        "version": "1.1.0",
        "commit": "f" * 40,
        "sha256": DIGEST,
    }


def test_a_session_may_be_about_a_release_on_the_host_or_about_none() -> None:
    assert shlex.split(session_command("", "h", SITE, OLD, patience=1, token=0, visit="v1"))[-4:] == [OLD, "", "0", ""]
    assert shlex.split(session_command("", "h", SITE, None, patience=1, token=0, visit="v1"))[-4:] == ["-", "", "0", ""]


def test_a_permit_is_shown_after_everything_else() -> None:
    shown = ShownPermit("interlock-permit 1\nhost h\n", "the signature\n")
    words = shlex.split(session_command("", "h", SITE, OLD, patience=1, token=7, visit="v1", permit=shown))
    assert words[-6:] == [OLD, "", "0", "", shown.text, shown.signature]
    assert parse_state(["verified"], OLD).has_verified
    assert not parse_state([], OLD).has_verified


@given(st.text(), st.text())
def test_no_value_becomes_shell_or_a_line(deployment: str, root: str) -> None:
    site = replace(SITE, deployment_id=deployment, deploy_root=root)
    words = shlex.split(session_command("program", "h", site, None, patience=1, token=0, visit="v1"))
    assert (words[7], len(words)) == (root, 17)
    assert "\n" not in words[10]
    assert len(words[10]) == len(deployment)


@pytest.mark.parametrize("name", ["", "-rf", "../etc", "a b", "a\nb", ".new", "a/b", "ä", "x" * 201])
def test_a_name_that_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(DeployError, match="not a valid name of a release"):
        named(name)


def test_releases_that_are_asked_about_are_arguments() -> None:
    assert shlex.split(ask_command("program", "srv", [OLD, None, NEW]))[4:] == ["ask", "srv", OLD, NEW]


def test_hooks_become_lines() -> None:
    spec = parse_appspec(APPSPEC)
    assert spec_lines({OLD: AppSpec(), NEW: spec}) == (
        f"{NEW} ApplicationStop 1 - 3600 stop.sh",
        f"{NEW} BeforeInstall 10 - 3600 before.sh",
        f"{NEW} AfterInstall 100 - 3600 after.sh",
        f"{NEW} ApplicationStart 1000 - 3600 start it.sh",
        f"{NEW} ValidateService 2000 - 3600 check.sh",
    )


def test_files_and_permissions_become_lines() -> None:
    spec = parse_appspec(
        """version: 0.0
os: linux
files: [{source: conf/a b, destination: /etc/shop}]
permissions:
  - {object: /, pattern: "a[1]?*", except: ["x*", /etc/shop/a/b], owner: me, mode: 7, type: [file]}
  - {object: /etc/shop, group: us}
"""
    )
    assert spec_lines({NEW: spec}) == (
        f"{NEW} files DISALLOW - - conf/a b\t/etc/shop",
        f"{NEW} permission chown me file /\ta\\[1\\]\\?*\tx*\tetc/shop/a/b",
        f"{NEW} permission chmod 00007 file /\ta\\[1\\]\\?*\tx*\tetc/shop/a/b",
        f"{NEW} permission chgrp us both /etc/shop\t**",
    )
    assert (placing_seconds(spec), placing_seconds(AppSpec())) == (600, 0)
    assert longest({NEW: spec}, NEW, None) == 600


def test_a_switch_takes_no_longer_than_its_hooks_and_those_of_the_way_back() -> None:
    spec = parse_appspec(APPSPEC)
    assert longest({NEW: spec}, NEW, None) == 3110 + 3001
    assert longest({OLD: spec, NEW: AppSpec()}, NEW, OLD) == 1 + 3001
    assert longest({OLD: spec}, None, None) == 0


def test_the_hooks_of_an_event_take_no_longer_than_an_hour_together() -> None:
    spec = parse_appspec("version: 0.0\nos: linux\nhooks: {AfterInstall: [{location: a}, {location: b, timeout: 9}]}")
    assert event_seconds(spec, Event.AFTER_INSTALL) == 3600
    assert longest({NEW: spec}, NEW, None) == 3600


def test_a_host_is_read_from_its_lines() -> None:
    about = {"version": "1.1.0", "commit": "f" * 40, "sha256": DIGEST}
    lines = [
        f"journal {OLD} {CONTENTS.release}",
        f"release {CONTENTS.release} {json.dumps(about)}",
        f"appspec {CONTENTS.release} version: 0.0",
        f"appspec {CONTENTS.release}   os: linux",
        "something else",
    ]
    state = parse_state(lines, CONTENTS.release)
    assert (state.begun, state.is_settled) == ((OLD, CONTENTS.release), True)
    assert not parse_state([*lines, "unfinished "], CONTENTS.release).is_settled
    assert state.releases == {
        CONTENTS.release: InstalledRelease(CONTENTS.release, "1.1.0", "f" * 40, DIGEST, "version: 0.0\n  os: linux\n")
    }
    assert state.releases[CONTENTS.release].is_whole
    running = state.running("10.0.0.1")
    assert (running.host, running.release, running.version) == ("10.0.0.1", CONTENTS.release, "1.1.0")


def test_an_empty_host_runs_nothing() -> None:
    assert parse_state([], "-") == HostState()
    assert parse_state(["journal - x"], "-").begun == (None, "x")
    assert HostState().running("10.0.0.1").release is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="half"),
        pytest.param("[1]", id="a list"),
        pytest.param('{"version": 1, "sha256": null}', id="other types"),
        pytest.param(json.dumps({"version": "1.1.0", "sha256": "f" * 64}), id="another digest"),
        pytest.param(json.dumps({"version": "1.2.0", "sha256": DIGEST}), id="another version"),
        pytest.param(json.dumps({"sha256": DIGEST}), id="no version"),
    ],
)
def test_a_release_that_does_not_describe_itself_is_not_whole(text: str) -> None:
    state = parse_state([f"release {CONTENTS.release} {text}"], CONTENTS.release)
    assert not state.releases[CONTENTS.release].is_whole
    assert state.running("10.0.0.1").release == CONTENTS.release


@given(st.lists(st.text()), st.text())
def test_no_answer_of_a_host_breaks_the_reading(lines: list[str], current: str) -> None:
    parse_state(lines, current).running("10.0.0.1")
