"""Which Dag and which run the chain of a release belongs to."""

from __future__ import annotations

CHAINS = "release/"


def of_dag(dag_id: str) -> str:
    """Return how the names of the chains of a Dag's runs begin."""
    return f"{CHAINS}{dag_id}/"


def run_of(chain: str) -> tuple[str, str] | None:
    """Return the Dag and the run of a release's chain; None: it is the chain of something else."""
    dag_id, _, run_id = chain.removeprefix(CHAINS).partition("/")
    return (dag_id, run_id) if chain.startswith(CHAINS) and run_id else None
