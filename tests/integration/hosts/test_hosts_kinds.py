"""Every kind of thing at a place where a release puts another kind, each way to treat it, and a failure at each step.

Whatever fails, the host serves the old release or the new one, is in service, and the next release finds a clean
record.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from interlock.domain.records import HostResult
from tests.local_host import LocalHost, LocalRelease, make, make_local_release, tree_of

BEHAVIOURS = ("OVERWRITE", "DISALLOW", "RETAIN")
STANDING: dict[str, Mapping[str, str | None]] = {
    "none": {},
    "file": {"a": "{0}"},
    "folder": {"a/b": "{0}", "a/deep/c": "{0}"},
    "link": {"a": "-> {0}"},
}
NEW = {name: {path: text and text.format("new") for path, text in there.items()} for name, there in STANDING.items()}
FAILURES = ("AfterInstall", "ValidateService")


def release(
    host: LocalHost,
    version: str,
    web: Mapping[str, str | None],
    behaviour: str,
    *,
    fails: str = "",
    more: str = "",
    script: str = "",
) -> LocalRelease:
    files = {f"web/{name}": text for name, text in {**web, "keep": version}.items()}
    spec = f"files: [{{source: web, destination: '{host.www}'}}]\nfile_exists_behavior: {behaviour}\n{more}"
    return make_local_release(host.folder, version, files, spec, fails=fails, script=script)


def standing(host: LocalHost, owner: str, kind: str) -> LocalRelease:
    """Have a release run, and something stand at ``a``: its own, or somebody's."""
    there = {path: text and text.format("old") for path, text in STANDING[kind].items()}
    old = release(host, "1.0.0", there if owner == "release" else {}, "DISALLOW")
    result = host.deploy(old)
    assert (result.outcome, result.error) == ("deployed", "")
    if owner == "somebody":
        for path, text in there.items():
            (host.www / path).parent.mkdir(parents=True, exist_ok=True)
            make(host.www / path, text)
    return old


def expected(owner: str, kind: str, new: str, behaviour: str) -> str:
    """Say what is to become of a place: "new", "old" if it is retained, or "refused"."""
    if owner == "release" or "none" in (kind, new):
        return "new"
    if "folder" not in (kind, new) or kind == new:
        return {"OVERWRITE": "new", "DISALLOW": "refused", "RETAIN": "old"}[behaviour]
    return "old" if behaviour == "RETAIN" and kind == "folder" else "refused"


def is_whole(host: LocalHost, serves: LocalRelease, result: HostResult, what: str) -> None:
    """Check that the host serves a release, is in service, and that nothing half done is left."""
    version = serves.contents.version
    assert (host.current, result.after) == (serves.contents.release, serves.contents.release), f"{what}: {result.error}"
    assert host.balance.serving == {"i-00000000000000001"}, what
    (last,) = [event for event in host.events if event.startswith("Application")][-1:]
    assert last == f"ApplicationStart {version}", f"{what}: {result.error}"
    left = [str(path) for path in host.folder.rglob(".interlock-new")]
    left += [name for name in ("journal", "pairs", "started") if (host.root / ".interlock" / name).exists()]
    assert left == [], f"{what}: {result.error}"


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize(
    ("owner", "kind"),
    [("nobody", "none"), *itertools.product(["release", "somebody"], ["file", "folder", "link"])],
    ids=lambda value: value,
)
def test_each_kind_in_the_place_of_each_other(tmp_path: Path, owner: str, kind: str, behaviour: str) -> None:
    host = LocalHost(tmp_path)
    old = standing(host, owner, kind)
    before = tree_of(host.www)
    # One after the other on one host: each finds what the one before left. Of the two hooks that fail, each new kind
    # meets one here, and the other one with another behaviour.
    first = BEHAVIOURS.index(behaviour)
    tries = [(new, fails) for turn, new in enumerate(NEW, first) for fails in (FAILURES[turn % 2], "")]
    for number, (new, fails) in enumerate(tries):
        then = expected(owner, kind, new, behaviour)
        if then == "refused" and fails:
            continue  # before a hook runs, so which of them would fail makes no difference
        what = f"{owner}'s {kind}, then {new}, {behaviour}, failing {fails or 'nowhere'}"
        host.balance.told.clear()
        next_one = release(host, f"1.1.{number}", NEW[new], behaviour, fails=fails)
        result = host.deploy(next_one)
        if then == "refused":
            assert result.outcome == "failed", what
            assert "drain" not in host.balance.told, what
        elif fails:
            assert result.outcome == "failed", what
        else:
            assert (result.outcome, result.error) == ("deployed", ""), what
            is_whole(host, next_one, result, what)
            stays = {} if owner == "release" else before
            comes = NEW[new] if then == "new" else {}
            assert tree_of(host.www) == {**stays, **comes, "keep": next_one.contents.version}, what
            result = host.back_out(old)
            assert (result.outcome, result.error) == ("backed_out", ""), what
        is_whole(host, old, result, what)
        assert tree_of(host.www) == before, f"{what}: {result.error}"
    last = release(host, "1.2.0", {}, "DISALLOW")
    result = host.deploy(last)
    assert (result.outcome, result.error) == ("deployed", "")
    is_whole(host, last, result, "the last one")
    assert tree_of(host.www) == {**(before if owner == "somebody" else {}), "keep": "1.2.0"}


TOOLS = ("cp", "mv", "rm", "rmdir", "mkdir", "find", "sort", "comm", "xargs", "chmod", "sync", "ln")
MANY: dict[str, str | None] = {"file": "1", "folder/x": "1", "link": "-> keep", "same": "1", "leaves": "1"}
OTHERS: dict[str, str | None] = {"file/y": "2", "folder": "2", "link/z": "2", "same": "2", "theirs": "2", "new/er": "2"}


def with_failing_tools(host: LocalHost, tools: tuple[str, ...], condition: str) -> None:
    """Give a host tools that fail while new files are placed, from the hook before it to the start of a release.

    :param condition: of the shell: whether the call with the number $n fails, when that with the number $at is to.
    """
    folder = host.folder / "tools"
    folder.mkdir()
    for tool in tools:
        (folder / tool).write_text(
            f"#!/bin/sh\nif [ -e '{host.folder}/armed' ]; then\n"
            f"    read -r at <'{host.folder}/armed' && read -r n <'{host.folder}/count'\n"
            f"    n=$((n + 1)) && echo $n >'{host.folder}/count'\n"
            f'    if [ {condition} ]; then echo "{tool}: No space left on device" >&2; exit 1; fi\nfi\n'
            f'exec {shutil.which(tool)} "$@"\n'
        )
        (folder / tool).chmod(0o755)
    host.path = f"{folder}:{host.path}"


@pytest.mark.parametrize(
    ("tools", "condition"),
    [(TOOLS, '"$n" -eq "$at"'), (("cp", "mkdir"), '"$n" -ge "$at"')],
    ids=["one call of a tool", "the disk is full from then on"],
)
def test_a_failure_at_each_step_of_placing_files(tmp_path: Path, tools: tuple[str, ...], condition: str) -> None:
    host = LocalHost(tmp_path)
    with_failing_tools(host, tools, condition)
    permission = f"permissions: [{{object: '{host.www}', mode: 640, type: [file]}}]\n"
    old = release(host, "1.0.0", MANY, "OVERWRITE")
    assert host.deploy(old).outcome == "deployed"
    (host.www / "theirs").write_text("theirs")
    before = tree_of(host.www)
    arm = f"[ $LIFECYCLE_EVENT != BeforeInstall ] || mv '{host.folder}/arm' '{host.folder}/armed'\n"
    arm += f"[ $LIFECYCLE_EVENT != ApplicationStart ] || rm -f '{host.folder}/armed'\n"
    for call in range(1, 200, 2):
        (host.folder / "arm").write_text(f"{call}\n")
        (host.folder / "count").write_text("0\n")
        new = release(host, f"1.1.{call}", OTHERS, "OVERWRITE", more=permission, script=arm)
        result = host.deploy(new)
        if result.outcome == "deployed":
            break
        (host.folder / "armed").unlink(missing_ok=True)
        what = f"call {call}: {result.error}"
        assert "No space left on device" in result.error, what
        is_whole(host, old, result, what)
        if tools == TOOLS:
            assert tree_of(host.www) == before, what
        else:
            assert (host.www / "theirs").read_text() == "theirs", what
    assert (call > 5, result.error) == (True, "")
    is_whole(host, new, result, "the one that nothing fails")
    assert tree_of(host.www) == {**OTHERS, "keep": new.contents.version}
    back = host.back_out(old)
    assert (back.outcome, back.error) == ("backed_out", "")
    assert tree_of(host.www) == before
