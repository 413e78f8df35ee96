"""A component of Airflow with what its children import already in memory: ``python -m … scheduler``.

The local executor forks its workers from the scheduler, and Celery (``celery worker``) its own; each task is forked
from a worker, and the Dag processor (``dag-processor``) forks a process for each file that it parses. Children do not
import again what is in memory: this saves most of a second for each task and each file, and five more for each task
that asks Great Expectations. A child that finds Interlock's own code changed since then imports it anew, so that a
change is seen by the next task, and the next time that a file is parsed.
"""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import interlock

BY_DAG_FILES = ("interlock.console.auth.roles", "interlock.stages")
BY_TASKS = (
    *BY_DAG_FILES,
    "interlock.adapters",
    "interlock.domain",
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.providers.apprise.hooks.apprise",
    "airflow.providers.slack.hooks.slack",
    "airflow.providers.smtp.hooks.smtp",
    "alembic",
    "apprise",
    "cyclonedx.contrib.license.factories",
    "cyclonedx.model.bom",
    "cyclonedx.model.component",
    "cyclonedx.output.json",
    "cyclonedx.validation.json",
    "great_expectations",
    "holidays",
    "sigstore.errors",
    "sigstore.models",
    "sigstore.verify.verifier",
    "slack_sdk.errors",
)
PRELOADED = {"scheduler": BY_TASKS, "celery": BY_TASKS, "dag-processor": BY_DAG_FILES}
"""Component: the modules that its children import, and the packages of Interlock of which they import all."""

NO_MODULES = "interlock.adapters.ledger.migrations."
"""The scripts below are Alembic's, and run when they are imported."""


def preload(component: str) -> None:
    """Import what a component's children will need."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    code = {path: _changed(path) for path in Path(interlock.__file__).parent.rglob("*.py")}
    for name in PRELOADED[component]:
        module = import_module(name)
        if name.startswith("interlock."):
            _import_below(module.__name__, getattr(module, "__path__", []))
    os.register_at_fork(after_in_child=lambda: _forget_what_changed(code))


def _import_below(package: str, path: list[str]) -> None:
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not module.name.startswith(NO_MODULES):
            import_module(module.name)


def _forget_what_changed(code: dict[Path, int | None]) -> None:
    """Have all modules of Interlock imported anew when a file of them is not what it was."""
    if any(_changed(path) != then for path, then in code.items()):
        for name in [name for name in sys.modules if name.partition(".")[0] == "interlock"]:
            del sys.modules[name]


def _changed(path: Path) -> int | None:
    """Return when a file was changed last, in nanoseconds; None if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def main() -> None:
    """Load, then be the component of Airflow that the arguments name."""
    from airflow.__main__ import main as airflow

    preload(sys.argv[1])
    sys.argv[0] = "airflow"
    airflow()


if __name__ == "__main__":
    main()
