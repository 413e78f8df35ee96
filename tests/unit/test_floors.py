"""The house has floors, and imports only go down (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "include" / "interlock"
MAY_IMPORT = {
    "domain": {"domain"},
    "adapters": {"adapters", "domain"},
    "stages": {"stages", "adapters", "domain"},
    "console": {"console", "adapters", "domain"},
    "installation": {"installation", "console", "adapters", "domain"},
    "estate": {"estate", "installation", "console", "adapters", "domain"},
    "dags": {"stages", "console", "adapters", "domain"},
    "cli": {"cli", "estate", "installation", "console", "adapters", "domain"},
    "__main__": {"cli"},
    "dag_bundle": {"stages", "adapters", "domain"},
    "plugin": {"stages", "console", "adapters", "domain"},
    "airflow_settings": {"console"},
    "plugins": {"plugin", "airflow_settings"},
}
BESIDE = {"locations"}
"""What has no floor: where the package's own files lie."""
MOST_MODULES = 14
"""In one folder: a reader looks through all of them."""
BANNED_IN_DOMAIN = {
    "airflow",
    "boto3",
    "botocore",
    "asyncssh",
    "great_expectations",
    "httpx",
    "requests",
    "sqlalchemy",
    "socket",
    "subprocess",
}


def modules(floor: str) -> list[Path]:
    if (HOUSE / f"{floor}.py").exists():
        return [HOUSE / f"{floor}.py"]
    folder = ROOT / floor if floor in ("dags", "plugins") else HOUSE / floor
    return sorted(folder.rglob("*.py"))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Return every module that a file imports, absolutely."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    if package[0] == "include":
        package = package[1:]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join((*base, *((node.module or "").split(".") if node.module else ())))
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("floor", MAY_IMPORT)
def test_a_floor_imports_only_from_itself_and_below(floor: str) -> None:
    paths = modules(floor)
    assert paths, f"{floor} is empty: this test would prove nothing"
    for path in paths:
        above = (
            {name.split(".")[1] for name in imported(path) if name.startswith("interlock.")}
            - MAY_IMPORT[floor]
            - BESIDE
        )
        assert not above, f"{path.relative_to(ROOT)} imports from {', '.join(sorted(above))}"


def test_the_domain_imports_nothing_of_the_outside_world() -> None:
    for path in modules("domain"):
        outside = {name.split(".")[0] for name in imported(path)} & BANNED_IN_DOMAIN
        assert not outside, f"{path.relative_to(ROOT)} imports {', '.join(sorted(outside))}"


def test_nothing_above_knows_of_the_estate() -> None:
    for floor in MAY_IMPORT.keys() - {"estate", "cli"}:
        for path in modules(floor):
            assert not any(name.startswith("interlock.estate") for name in imported(path)), path


def test_a_room_does_not_import_the_insides_of_another() -> None:
    """A module whose name begins with an underscore is for its own room: the others use what that one offers."""
    for path in [path for floor in MAY_IMPORT for path in modules(floor)]:
        room = ".".join(("interlock", *path.parent.relative_to(HOUSE).parts)) if HOUSE in path.parents else ""
        for name in imported(path):
            parts = name.split(".")
            inside = next((k for k, part in enumerate(parts) if k and part.startswith("_")), None)
            if parts[0] == "interlock" and inside is not None:
                assert ".".join(parts[:inside]) == room, f"{path.relative_to(ROOT)} imports {name}"


def test_every_room_says_what_lives_there() -> None:
    for path in HOUSE.rglob("*.py"):
        room = path.parent / "__init__.py"
        assert room.exists(), f"{path.parent.relative_to(ROOT)} does not say what lives there"
        assert ast.get_docstring(ast.parse(room.read_text())), room.relative_to(ROOT)


def test_no_room_is_too_full_to_be_looked_through() -> None:
    found = Counter(path.parent for path in HOUSE.rglob("*.py") if path.name != "__init__.py")
    assert {str(room.relative_to(HOUSE)): count for room, count in found.items() if count > MOST_MODULES} == {}
