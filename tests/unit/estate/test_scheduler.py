import ast
import sys
from pathlib import Path

from include.interlock.estate.scheduler import PRELOADED

PROJECT = Path(__file__).parents[3]
ALREADY_THERE = {"airflow", "include", "__future__"}


def test_everything_that_tasks_import_of_others_is_loaded_before_they_are_forked() -> None:
    rooms = [*PROJECT.glob("include/interlock/stages/**/*.py"), *PROJECT.glob("include/interlock/adapters/**/*.py")]
    used = {package for room in rooms for package in imported(ast.parse(room.read_text()))}

    assert used - sys.stdlib_module_names - ALREADY_THERE - {name.partition(".")[0] for name in PRELOADED} == set()


def imported(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found
