"""The glossary and the table of rooms name code that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "include" / "interlock"
FLOORS = ("domain", "adapters", "stages", "console", "estate")


def rows(page: str, columns: int) -> list[list[str]]:
    """Return the rows of a page's tables with so many columns, without heads."""
    lines = re.findall(r"^\| (.+) \|$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    found = [line.split(" | ") for line in lines if not line.startswith("---")]
    return [cells for cells in found if len(cells) == columns]


def defined(path: Path) -> set[str]:
    """Return the names of a module's classes, functions and constants."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            names |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)} if target else set()
    return names


TERMS = rows("glossary.md", 3)[1:]


@pytest.mark.parametrize(("term", "code"), [(row[0], row[2]) for row in TERMS], ids=[row[0] for row in TERMS])
def test_a_term_names_code_that_exists(term: str, code: str) -> None:
    assert re.fullmatch(r"(((`\w+`, )*`\w+` in )?`[\w/.]+/[\w.]*`(; )?)+", code), f"{term}: cannot be read: {code}"
    for named in code.split("; "):
        *names, module = re.findall(r"`([^`]+)`", named)
        path = next((base / module for base in (PACKAGE, ROOT) if (base / module).exists()), None)
        assert path, f"{term}: there is no {module}"
        missing = set(names) - (defined(path) if names else set())
        assert not missing, f"{term}: {module} does not define {', '.join(sorted(missing))}"


def test_each_term_stands_once_and_in_order() -> None:
    terms = [row[0].casefold() for row in TERMS]
    assert len(terms) > 50
    assert terms == sorted(set(terms))


def test_the_table_of_rooms_is_the_folders() -> None:
    table: dict[str, set[str]] = {}
    for row in rows("architecture.md", 3):
        name, floors = re.fullmatch(r"`(\w+)`", row[0]), set(re.findall(r"`(\w+)`", row[2]))
        if name and floors and floors <= {*FLOORS} and name[1] not in FLOORS:
            table[name[1]] = floors
    folders: dict[str, set[str]] = {}
    for floor in FLOORS:
        for room in (PACKAGE / floor).glob("*/__init__.py"):
            folders.setdefault(room.parent.name, set()).add(floor)
    assert table == folders
