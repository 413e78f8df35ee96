"""The table of roles: who may see and do what in Airflow, as FAB's permissions.

What a role may do to every Dag, to pages and to the installation stands in :data:`ROLES`; what it may do to the Dags of
releases is :func:`dag_access`, which each of these Dags takes as its ``access_control``. Nothing here lets
anybody mark, clear or edit a release but :data:`~.control.BREAK_GLASS`.

``interlock roles`` prints it for people.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from interlock.console.control.rules import BREAK_GLASS, RELEASE_MANAGER
from interlock.domain.change.pipelines import PIPELINE
from interlock.domain.errors import ReleaseError
from interlock.domain.trains.manifest import CONDUCTOR

log = logging.getLogger(__name__)

Permission = tuple[str, str]
"""FAB's action and resource."""

READ, CREATE, EDIT, DELETE, MENU = "can_read", "can_create", "can_edit", "can_delete", "menu_access"
DAGS, RUNS, QUESTIONS = "DAGs", "DAG Runs", "HITL Detail"


def _all(action: str, *resources: str) -> frozenset[Permission]:
    return frozenset((action, resource) for resource in resources)


WEBSITE = _all(READ, "Website")
"""Airflow gives this to every role by itself."""
RECORDS = _all(READ, RUNS, "Task Instances", QUESTIONS, "Task Logs", "XComs")
"""Airflow's records of a release."""
PAGES = (
    RECORDS
    | WEBSITE
    | _all(READ, "Plugins", "DAG Code", "DAG Versions", "DAG Dependencies", "DAG Warnings", "Assets")
    | _all(READ, "Asset Aliases", "Backfills", "Cluster Activity", "ImportError", "Jobs", "Pools")
    | _all(READ, "My Profile", "My Password")
    | _all(EDIT, "My Profile", "My Password")
    | _all(MENU, DAGS, "Browse", QUESTIONS, RUNS, "Task Instances", "Assets", "XComs", "Docs", "Documentation")
)
"""What everybody who logs in sees: what Airflow's own Viewer sees, of the Dags that they may read, and our pages."""
ANSWERS = PAGES | _all(EDIT, QUESTIONS)

ROLES: dict[str, frozenset[Permission]] = {
    RELEASE_MANAGER: ANSWERS,
    "board_member": ANSWERS,
    "functional_approver": ANSWERS,
    "senior_management": ANSWERS,
    "support": ANSWERS,
    "tester": ANSWERS,
    "auditor": PAGES
    | _all(READ, DAGS, "Audit Logs", "All Audit Logs", "All Import Errors", "Providers", "Triggers")
    | _all(MENU, "Audit Logs", "Admin", "Pools", "Plugins", "Providers", "Jobs", "Cluster Activity"),
    "operator": PAGES
    | _all(READ, DAGS, "All Import Errors", "Providers", "Triggers")
    | _all(EDIT, DAGS)
    | _all(MENU, "Admin", "Pools", "Plugins", "Providers", "Jobs", "Cluster Activity"),
    BREAK_GLASS: PAGES
    | _all(EDIT, DAGS, RUNS, "Task Instances", "XComs")
    | _all(CREATE, "XComs")
    | _all(DELETE, RUNS, "Task Instances", "XComs")
    | _all(READ, DAGS, "Audit Logs"),
    "interlock_reader": WEBSITE | RECORDS | _all(READ, "Audit Logs", "DAG Code"),
    "board_clerk": WEBSITE | _all(READ, QUESTIONS) | _all(EDIT, QUESTIONS),
    CONDUCTOR: WEBSITE,
    PIPELINE: WEBSITE | _all(READ, RUNS),
}
SERVICE_ACCOUNTS = ("interlock_reader", "board_clerk", CONDUCTOR)
"""User names of Interlock's own, each with the role of its name."""
FROM_CATALOGUE = frozenset(
    {"board_member", "tester", "functional_approver", "senior_management", "support", PIPELINE, *SERVICE_ACCOUNTS}
)
"""Roles that the catalogue gives; an administrator gives the others."""
RELEASED_BY = (RELEASE_MANAGER, CONDUCTOR, PIPELINE)
"""The roles that trigger releases. The conductor triggers only those of passengers of trains, and the account of a
pipeline only those of its services: the middleware and the first task of a release refuse any other."""


WATCHERS = ("operator", "auditor", BREAK_GLASS, "interlock_reader")
"""Who reads the Dag that checks every few minutes. Airflow's Home counts the runs of each Dag that its reader may read.
For people who release and approve, hundreds of successful checks a day would hide the releases that failed."""


def dag_access(
    triggered_by: Collection[str] = (RELEASE_MANAGER,),
    paused_by: Collection[str] = (),
    read_by: Collection[str] = tuple(ROLES),
) -> dict[str, dict[str, set[str]]]:
    """Return the ``access_control`` of a Dag under release control: some roles read it, some of them trigger it.

    :param paused_by: roles that may pause it, too, and let it run again; what else editing a Dag allows is refused.
    :param read_by: roles that read it: normally all.
    """
    access = {role: {DAGS: {READ, EDIT} if role in paused_by else {READ}} for role in read_by}
    return {role: {**held, RUNS: {CREATE}} if role in triggered_by else held for role, held in access.items()}


_WHAT: dict[str, Permission] = {
    "Runs and records": (READ, RUNS),
    "Other Dags": (READ, DAGS),
    "Audit log": (READ, "Audit Logs"),
    "Answer": (EDIT, QUESTIONS),
    "Pause": (EDIT, DAGS),
}


def roles_table() -> str:
    """Return the table of roles for people, in Markdown, as it stands in docs/platform-engineer.md."""
    access = dag_access(RELEASED_BY)
    rows = [("Role", *_WHAT, "Trigger releases", "Mark, clear, edit releases")]
    for role, permissions in ROLES.items():
        triggers = "yes" if CREATE in access[role].get(RUNS, ()) else ""
        edits = "with a grant" if (EDIT, "Task Instances") in permissions else ""
        does = ("yes" if permission in permissions else "" for permission in _WHAT.values())
        rows.append((f"`{role}`", *does, triggers, edits))
    rows.insert(1, ("---",) * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |") for row in rows)


class SecurityManager(Protocol):
    """The part of FAB's security manager that roles need."""

    def add_role(self, name: str) -> Any: ...  # noqa: D102
    def create_permission(self, action_name: str, resource_name: str) -> Any: ...  # noqa: D102
    def add_permission_to_role(self, role: Any, permission: Any) -> None: ...  # noqa: D102
    def remove_permission_from_role(self, role: Any, permission: Any) -> None: ...  # noqa: D102


def sync_roles(security_manager: SecurityManager) -> None:
    """Make FAB's roles what the table says, however often: what is missing is added, what is too much is taken away.

    What a role may do to a single Dag is left alone: Airflow keeps that from the Dag's own ``access_control``.
    """
    for name, wanted in ROLES.items():
        role = security_manager.add_role(name)
        held = {(one.action.name, one.resource.name): one for one in role.permissions}
        for action, resource in sorted(wanted - held.keys()):
            security_manager.add_permission_to_role(role, security_manager.create_permission(action, resource))
        for excess in sorted(_not_of_one_dag(held.keys() - wanted)):
            log.warning("The role %s loses %s on %s, which the table of roles does not give it", name, *excess)
            security_manager.remove_permission_from_role(role, held[excess])
        _check(name, {(one.action.name, one.resource.name) for one in role.permissions})


def differences(security_manager: Any) -> list[str]:
    """Return in sentences what :func:`sync_roles` would change."""
    found = []
    for name, wanted in ROLES.items():
        role = security_manager.find_role(name)
        if role is None:
            found.append(f"create the role {name}")
            continue
        held = {(one.action.name, one.resource.name) for one in role.permissions}
        found += [f"give the role {name} the permission {action} on {what}" for action, what in sorted(wanted - held)]
        excess = sorted(_not_of_one_dag(held - wanted))
        found += [f"take the permission {action} on {what} from the role {name}" for action, what in excess]
    return found


def _check(name: str, held: Collection[Permission]) -> None:
    """Refuse to go on with a role that is not as it should be: FAB logs what it could not store, and goes on."""
    if set(_not_of_one_dag(held)) != ROLES[name]:
        raise ReleaseError(
            f"The permissions of the role {name} could not be updated to the role table.",
            who="the platform engineer",
            next_step="find the error of FAB in the log of the API server",
        )


def _not_of_one_dag(permissions: Iterable[Permission]) -> list[Permission]:
    return [(action, resource) for action, resource in permissions if not resource.startswith(("DAG:", "DAG Run:"))]
