"""A component of Airflow with what its children import already in memory: ``python -m … scheduler | dag-processor``.

The local executor forks its workers from the scheduler, and each task from a worker; the Dag processor forks a process
for each file that it parses. What they have imported, no child imports again: about a second for each task on one core,
and five more for each that asks Great Expectations. Only other people's modules are loaded here: a change to
Interlock's own code is seen by the next task, and the next time that a file is parsed.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module

BY_DAG_FILES = (
    "airflow.providers.standard.operators.hitl",
    "airflow.providers.standard.sensors.date_time",
    "boto3",
    "botocore.config",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "defusedxml.ElementTree",
    "markdown_it",
    "packageurl",
    "packaging.utils",
    "securesystemslib.signer",
    "semver",
    "yaml",
)
BY_TASKS = (
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
    "markdown_it",
    "markupsafe",
    "packageurl",
    "packaging.utils",
    "pandas",
    "psutil",
    "pydantic",
    "pydantic_core",
    "rich",
    "securesystemslib.signer",
    "semver",
    "sqlalchemy",
    "yaml",
)


PRELOADED = {"scheduler": BY_TASKS, "dag-processor": BY_DAG_FILES}
"""Component: what its children import."""


def preload(component: str) -> None:
    """Import what a component's children will need."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    for name in PRELOADED[component]:
        import_module(name)


def main() -> None:
    """Load, then be the component of Airflow that the arguments name."""
    from airflow.__main__ import main as airflow

    preload(sys.argv[1])
    sys.argv[0] = "airflow"
    airflow()


if __name__ == "__main__":
    main()
