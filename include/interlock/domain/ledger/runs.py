"""Which Dag and which run the chain of a release belongs to."""

from __future__ import annotations

from interlock.domain.dag_names import RELEASES, ROLLBACKS

CHAINS = "release/"


def dag_of(service: str) -> str:
    """Return the Dag that releases a service."""
    return RELEASES + service.replace("-", "_")


def dags_of(service: str) -> tuple[str, str]:
    """Return the Dags that change what hosts run of a service: the one that releases it, and the one that goes back."""
    return dag_of(service), ROLLBACKS + service.replace("-", "_")


def run_of(chain: str) -> tuple[str, str] | None:
    """Return the Dag and the run of a release's chain; None: it is the chain of something else."""
    dag_id, _, run_id = chain.removeprefix(CHAINS).partition("/")
    return (dag_id, run_id) if chain.startswith(CHAINS) and run_id else None
