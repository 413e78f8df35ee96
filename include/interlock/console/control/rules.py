"""Which Dags are under release control, and what is refused to every role.

A release is decided by records of people's answers. A person who marks a ballot as done, clears it, edits a result or
deletes the run would bypass the board. So no role may do that, not even an administrator; break-glass access is the
only exception. Triggering a Dag and answering a question need the permission of a role, as always.

Under control are the Dags that Interlock made (``own_dags``), and all Dags with a name of Interlock.
"""

from __future__ import annotations

from interlock.domain.dag_names import RELEASES, ROLLBACKS, TRAINS, file_of

from .current_request import CurrentRequest, Reading
from .own_dags import made
from .routes import RequestKind

BREAK_GLASS = "break_glass"
RELEASE_MANAGER = "release_manager"
ROOTS = frozenset(
    {
        "interlock_airflow",
        "interlock_board_clerk",
        "interlock_conductor",
        "interlock_ledger",
        "interlock_signing_key",
    }
)
"""The connections on which all proof rests: where answers are read, where they are recorded, and what signs."""

READ = "GET"
STAYS_OPEN = {("POST", "RUN"), ("PUT", "HITL_DETAIL"), ("PUT", None)}
"""Trigger a release, answer a question, pause or unpause the Dag: each still needs its permission.

In Airflow's words: its methods, where PUT is every change, and its ``DagAccessEntity``, where none is the Dag itself.
"""
OPEN_KINDS = {
    *(RequestKind.TRIGGER, RequestKind.ANSWER, RequestKind.ATTACH, RequestKind.TAKE),
    *(RequestKind.LIST, RequestKind.OWN, RequestKind.PARSE),
}
"""What is allowed, with the permission of a role, on any Dag under control."""
PAUSES = {RequestKind.PAUSE, RequestKind.PAUSE_MANY}
NEVER = {RequestKind.START, RequestKind.ASSET} | PAUSES
"""What break-glass access does not allow either: no repair needs it."""


def is_controlled(dag_id: str | None) -> bool:
    """Tell whether a Dag is under release control."""
    return dag_id is not None and made().has(dag_id)


def may_be_controlled(dag_id: str) -> bool:
    """Tell whether a Dag has a name that Interlock gives; without looking anything up, for requests of others."""
    return file_of(dag_id.lower()) is not None


def is_release(dag_id: str) -> bool:
    """Tell whether a Dag releases a service."""
    return dag_id.lower().startswith(RELEASES) and is_controlled(dag_id)


def is_train(dag_id: str) -> bool:
    """Tell whether a Dag is a release train."""
    return dag_id.lower().startswith(TRAINS) and is_controlled(dag_id)


def goes_round(method: str, entity: str | None, dag_id: str | None) -> bool:
    """Tell whether this would bypass the decisions on a release; an action that is not known would."""
    return is_controlled(dag_id) and method != READ and (method, entity) not in STAYS_OPEN


def is_refused(method: str, entity: str | None, dag_id: str, asked: CurrentRequest | Reading | None) -> bool:
    """Tell whether this is refused to every role, by what Airflow asks and by what the request does.

    :param asked: the current request; None: it is not known, because it did not pass the middleware.
    """
    if not is_controlled(dag_id):
        return False
    if isinstance(asked, CurrentRequest):
        return not is_open(asked, dag_id) or goes_round(method, entity, dag_id)
    if asked is None and method != READ and (method, entity) != ("PUT", "HITL_DETAIL"):
        return True
    return goes_round(method, entity, dag_id)


def is_open(asked: CurrentRequest, dag_id: str) -> bool:
    """Tell whether a request does only what is allowed on a Dag under control; an unknown request does not."""
    if asked.request_kind in PAUSES:
        return is_release(dag_id) or asked.unpauses
    return asked.request_kind in OPEN_KINDS


def refusal(entity: str | None, dag_id: str, request_kind: RequestKind | None = None) -> str:
    """Return the refusal of a request that would bypass the decisions on a release."""
    if request_kind in PAUSES and is_train(dag_id):
        return f"{dag_id} is under release control: {_TRAIN_PAUSED}"
    if request_kind in NEVER:
        return f"{dag_id} is under release control: {_NEVER[request_kind]}"
    what = f"the {entity.lower().replace('_', ' ')}s" if entity else "the history"
    return (
        f"{dag_id} is under release control: users, including administrators, cannot mark, clear, edit or delete "
        f"{what} of a release. Rule: only the approvers decide on a release. "
        f"Who can: holders of the role {BREAK_GLASS} who have a current grant in break_glass.yaml of the catalogue. "
        "Next: let the release continue or fail, and trigger it again."
    )


_PAUSED = (
    "it cannot be paused. Rule: Dags that stop or monitor releases must always be able to run. "
    "Next: pause the release Dag of a single service, or stop all rollouts with emergency_stop."
)
_TRAIN_PAUSED = (
    "a train cannot be paused. Rule: Airflow starts a run of a paused Dag only after it is unpaused, so triggering a "
    "paused train would start its schedule, too. Who can change its schedule: the owner of the train's file. "
    "Next: set on_schedule: false in the file, or stop all departures with emergency_stop."
)
_NEVER = {
    RequestKind.START: "runs are started with the trigger form only. Backfills, asset materialisations and other "
    "Dags cannot start them. Next: trigger the Dag with its form.",
    RequestKind.ASSET: "only its runs can change its assets, because they show which version an "
    "environment runs. Next: release the version that the environment should run.",
    RequestKind.PAUSE: _PAUSED,
    RequestKind.PAUSE_MANY: _PAUSED,
}


def is_root(connection_id: str) -> bool:
    """Tell whether all proof rests on a connection."""
    return connection_id.lower() in ROOTS


def refusal_of_root(connection_id: str) -> str:
    """Return the refusal to change a connection on which all proof rests."""
    return (
        f"The connection {connection_id} protects the release process: users, including administrators, cannot change "
        "it here. Rule: a changed connection could redirect votes or signatures and bypass the board. "
        "Who can: the people who deploy Airflow. Next: change it in the configuration of the deployment "
        "(airflow_settings.yaml, environment variables, or the secrets backend)."
    )


def service_of(dag_id: str) -> str:
    """Return the name of the service that a Dag releases or rolls back."""
    name = dag_id.lower()
    return name.removeprefix(ROLLBACKS if name.startswith(ROLLBACKS) else RELEASES).replace("_", "-")
