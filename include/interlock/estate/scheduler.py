"""Airflow's scheduler with what tasks import already in memory: ``python -m include.interlock.estate.scheduler``.

The local executor forks its workers from the scheduler, and each task from a worker. What the scheduler has imported,
no task imports again: about a second for each task on one core, and five more for each that asks Great Expectations.
Only other people's modules are loaded here: a change to Interlock's own code is seen by the next task.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module

PRELOADED = (
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.providers.smtp.hooks.smtp",
    "airflow.providers.standard.operators.hitl",
    "airflow.providers.standard.sensors.date_time",
    "alembic",
    "asyncssh",
    "boto3",
    "botocore.config",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cyclonedx.output.json",
    "cyclonedx.validation.json",
    "defusedxml.ElementTree",
    "great_expectations",
    "holidays",
    "httpx",
    "icalendar",
    "jinja2.sandbox",
    "junitparser",
    "markdown_it",
    "markupsafe",
    "packageurl",
    "packaging.utils",
    "pandas",
    "psutil",
    "pydantic",
    "pydantic_core",
    "recurring_ical_events",
    "rich",
    "securesystemslib.signer",
    "semver",
    "sqlalchemy",
    "yaml",
)


def preload() -> None:
    """Import what tasks will need."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    for name in PRELOADED:
        import_module(name)


def main() -> None:
    """Load, then be Airflow's scheduler."""
    from airflow.__main__ import main as airflow

    preload()
    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    airflow()


if __name__ == "__main__":
    main()
