import ast
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from interlock.estate.stack.preloaded import BY_TASKS

PROJECT = Path(__file__).parents[3]
PRELOADED = """
import sys
import airflow.dag_processing.processor, airflow.executors.local_executor, airflow.jobs.scheduler_job_runner
from interlock.estate.stack.preloaded import preload
preload({component!r})
"""


def run(component: str, code: str, *, cwd: Path = PROJECT, path: Path = PROJECT / "include") -> list[str]:
    """Return the lines that a program prints, which begins as a component does."""
    program = PRELOADED.format(component=component) + code
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_everything_that_tasks_import_is_loaded_before_they_are_forked() -> None:
    rooms = [*PROJECT.glob("include/interlock/stages/**/*.py"), *PROJECT.glob("include/interlock/adapters/**/*.py")]
    scripts = PROJECT / "include/interlock/adapters/ledger/migrations"
    used = {name for room in rooms if scripts not in room.parents for name in imported(ast.parse(room.read_text()))}
    loaded = run("scheduler", "for name in sys.modules: print(name)")
    assert sorted(used - set(loaded)) == []


def test_what_is_loaded_is_installed_where_no_tests_are_run() -> None:
    locked = {
        canonicalize_name(line.partition("==")[0])
        for line in (PROJECT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    brought_by = packages_distributions()
    names = {name.partition(".")[0] for name in BY_TASKS} - {"interlock"}
    assert [name for name in names if not locked & set(map(canonicalize_name, brought_by[name]))] == []


def test_everything_that_dag_files_import_is_loaded_before_one_is_parsed() -> None:
    look = """
import importlib.util, pathlib
before = set(sys.modules)
for path in pathlib.Path("dags").glob("*.py"):
    spec = importlib.util.spec_from_file_location(f"parsed_{path.stem}", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
new = set(sys.modules) - before
print("new:", *sorted(name for name in new if name.partition(".")[0] not in {"airflow", *sys.stdlib_module_names}))
"""
    assert run("dag-processor", look)[-1] == "new:"


CHILD = """
import os, pathlib, interlock
names = pathlib.Path(interlock.__file__).parent / "domain/dag_names.py"
def child():
    if os.fork() == 0:
        loaded = "interlock.domain.dag_names" in sys.modules
        from interlock.domain import dag_names
        print(loaded, getattr(dag_names, "ADDED", None), flush=True)
        os._exit(0)
    os.wait()
child()
names.write_text(names.read_text() + "ADDED = 'since'")
child()
"""


def test_a_child_imports_code_anew_that_changed_since_it_was_loaded(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "include/interlock", tmp_path / "interlock", ignore=shutil.ignore_patterns("__pycache__"))
    assert run("dag-processor", CHILD, cwd=tmp_path, path=tmp_path) == ["True None", "False since"]


def imported(tree: ast.Module) -> set[str]:
    """Return the modules that a module imports anywhere, but for those that only a type checker reads."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found - {"__future__"}
