from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from include.interlock.estate import bootstrap
from include.interlock.estate.settings import PROJECT

REQUIREMENTS = [
    Requirement(line.partition(" #")[0])
    for line in (PROJECT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def pins() -> dict[str, set[str]]:
    """Return the versions that the lock has of each package; more than one if Pythons differ."""
    found: dict[str, set[str]] = {}
    lock = (PROJECT / "requirements.lock").read_text()
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", lock, re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def test_old_python_can_read_the_file_that_tells_it_so() -> None:
    ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 6))


def test_too_old_python_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bootstrap, "suits", lambda python: False)
    with pytest.raises(SystemExit, match=r"needs Python 3\.11, 3\.12 or 3\.13.*make up PYTHON="):
        bootstrap.use_a_suitable_python()


@pytest.mark.parametrize(("answer", "suits"), [(0, True), (1, False)])
def test_python_says_itself_whether_it_suits(tmp_path: Path, answer: int, suits: bool) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {answer}\n")
    python.chmod(0o755)
    assert bootstrap.suits(str(python)) is suits
    assert bootstrap.suits(sys.executable)
    assert not bootstrap.suits(str(tmp_path / "nothing"))


def test_missing_git_is_told_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bootstrap.CannotInstall, match="git is missing"):
        bootstrap.check_machine()


def test_half_made_environment_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(bootstrap, "UNFINISHED", tmp_path / "unfinished")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    assert bootstrap.installed() == ""
    (tmp_path / "stamp").write_text("digest\n")
    assert bootstrap.installed() == "digest"
    (tmp_path / "unfinished").touch()
    assert bootstrap.installed() == ""


def test_installer_is_pinned_with_its_hashes() -> None:
    lines = bootstrap.pinned("uv").splitlines()
    assert lines[0].startswith("uv==")
    assert any("--hash=sha256:" in line for line in lines)
    assert not any(re.match(r"[a-z].*==", line) for line in lines[1:])


def test_lock_pins_every_direct_dependency_within_its_range() -> None:
    locked = pins()
    assert REQUIREMENTS
    for requirement in REQUIREMENTS:
        versions = locked[canonicalize_name(requirement.name)]
        assert versions, requirement
        assert all(version in requirement.specifier for version in versions), requirement


def test_lock_has_a_hash_for_everything() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", (PROJECT / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block.partition("\n")[0])
