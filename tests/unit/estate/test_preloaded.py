import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from interlock.estate.stack.preloaded import BY_DAG_FILES, BY_TASKS

PROJECT = Path(__file__).parents[3]
ALREADY_THERE = {"airflow", "interlock", "__future__"}


def test_everything_that_tasks_import_of_others_is_loaded_before_they_are_forked() -> None:
    rooms = [*PROJECT.glob("include/interlock/stages/**/*.py"), *PROJECT.glob("include/interlock/adapters/**/*.py")]
    used = {package for room in rooms for package in imported(ast.parse(room.read_text()))}

    assert used - sys.stdlib_module_names - ALREADY_THERE - {name.partition(".")[0] for name in BY_TASKS} == set()


def test_what_is_loaded_is_installed_where_no_tests_are_run() -> None:
    locked = {
        canonicalize_name(line.partition("==")[0])
        for line in (PROJECT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    brought_by = packages_distributions()
    names = {name.partition(".")[0] for name in (*BY_DAG_FILES, *BY_TASKS)}
    assert [name for name in names if not locked & set(map(canonicalize_name, brought_by[name]))] == []


LOOK = """
import importlib.util, pathlib, sys
import airflow.dag_processing.processor
from interlock.estate.stack.preloaded import preload
preload("dag-processor")
before = {name.partition(".")[0] for name in sys.modules}
for path in pathlib.Path("dags").glob("*.py"):
    spec = importlib.util.spec_from_file_location(f"parsed_{path.stem}", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print("new:", *{name.partition(".")[0] for name in sys.modules} - before)
"""


def test_everything_that_dag_files_import_of_others_is_loaded_before_one_is_parsed() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=PROJECT, capture_output=True, text=True, check=True)
    new = set(done.stdout.splitlines()[-1].removeprefix("new:").split())
    assert new - sys.stdlib_module_names - ALREADY_THERE == set()


def imported(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found
