"""Which Dags are under release control, and what nobody may do to them.

A release is decided by records of people's answers; whoever could mark a ballot as done, clear it, edit what a stage
handed on or delete the run could go round the board. Hence no role may, an administrator's included; ``break_glass`` is
the one exception. Triggering a release and answering what one is asked stay open to those whose role has them.
"""

from __future__ import annotations

PREFIX = "release_"
BREAK_GLASS = "break_glass"

READ = "GET"
STAYS_OPEN = {("POST", "RUN"), ("PUT", "HITL_DETAIL"), ("PUT", None)}
"""Trigger a release, answer a question, pause or unpause the Dag: each still needs its permission.

In Airflow's words: its methods, where PUT is every change, and its ``DagAccessEntity``, where none is the Dag itself.
"""


def is_controlled(dag_id: str | None) -> bool:
    """Tell whether a Dag is under release control."""
    return dag_id is not None and dag_id.startswith(PREFIX)


def goes_round(method: str, entity: str | None, dag_id: str | None) -> bool:
    """Tell whether this would go round the decisions of a release; what Airflow has not thought of yet would, too."""
    return is_controlled(dag_id) and method != READ and (method, entity) not in STAYS_OPEN


def refusal(entity: str | None, dag_id: str) -> str:
    """Say why what goes round the decisions of a release is refused."""
    what = f"the {entity.lower().replace('_', ' ')}s" if entity else "the history"
    return (
        f"{dag_id} is under release control: nobody marks, clears, edits or deletes {what} of a release, "
        "administrators included. Rule: a release is decided by the people who were asked. "
        f"Who can: holders of the role {BREAK_GLASS}. "
        "Next: let the release go on or fail, and trigger it again."
    )


def service_of(dag_id: str) -> str:
    """Return the name of the service that a release Dag releases."""
    return dag_id.removeprefix(PREFIX).replace("_", "-")
