"""Setting a Jira up: what the account may do there, and the part of ``systems.yaml`` for a project as it really is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from interlock.adapters.outbox.web import WebApi
from interlock.domain.catalogue import ChangeType
from interlock.domain.errors import DeliveryRefused

from .site import API, Named, Told

_PHASES: Mapping[str, tuple[str, ...]] = {
    "planned": ("open", "planning", "new", "to do", "backlog"),
    "assessed": ("under review", "awaiting cab approval", "awaiting approval", "review"),
    "scheduled": ("awaiting implementation", "scheduled", "selected for development"),
    "implementing": ("implementing", "in progress"),
    "review": ("in review", "pending review", "verifying"),
    "closed": ("completed", "done", "closed", "resolved"),
    "cancelled": ("canceled", "cancelled", "declined"),
}
"""Phase: names of statuses that mean it in Jira and Jira Service Management as they are delivered."""
_INSTEAD = {"assessed": "planned", "scheduled": "assessed", "review": "implementing", "cancelled": "closed"}
"""Phase: the one whose status stands for it, if the workflow has none of its own."""
_TYPES = ("change", "[system] change", "task")


class _Info(Told):
    deploymentType: str = "Server"
    version: str = ""


class _Type(Told):
    name: str
    subtask: bool = False
    statuses: tuple[Named, ...] = ()


def checked(api: WebApi, project: str) -> Iterator[str]:
    """Read what Interlock reads, and yield a sentence for each that the account may read.

    :raises DeliveryRefused: the account may not read it.
    """
    info = _info(api)
    yield f"It is a Jira {info.deploymentType} {info.version}.".replace("Server", "Data Center")
    api.read(f"{API}/myself")
    yield "The account is known."
    api.read(f"{API}/project/{quote(project, safe='')}")
    yield f"The account may read the project {project}."


def proposal(api: WebApi, connection: str, project: str) -> dict[str, Any]:
    """Return the part of systems.yaml for a project, from its types of issues and their statuses.

    :raises DeliveryRefused: it has no type of issue, or no status that is called as usual.
    """
    path = f"{API}/project/{quote(project, safe='')}/statuses"
    types = [api.parsed(_Type, row, f"GET {path}") for row in api.read(path) or ()]
    by_name = {one.name.lower(): one for one in types if not one.subtask}
    kind = next((by_name[name] for name in _TYPES if name in by_name), None)
    if kind is None:
        raise _unusual(f"{project} has no type of issue called Change or Task. It has: {_listed(types)}.")
    known = {one.name.strip().lower(): one.name for one in kind.statuses}
    states: dict[str, str] = {}
    for phase, names in _PHASES.items():
        found = next((known[name] for name in names if name in known), states.get(_INSTEAD.get(phase, ""), ""))
        if not found:
            raise _unusual(f"{kind.name} has no status that is called as usual for {phase}: {_listed(kind.statuses)}.")
        states[phase] = found
    return {
        "kind": "jira",
        "connection": connection,
        **({"cloud": True} if _info(api).deploymentType == "Cloud" else {}),
        "project": project,
        "issue_types": {one.value: kind.name for one in ChangeType},
        "states": states,
    }


def _info(api: WebApi) -> _Info:
    path = f"{API}/serverInfo"
    return api.parsed(_Info, api.read(path), f"GET {path}")


def _unusual(what: str) -> DeliveryRefused:
    return DeliveryRefused(
        what,
        rule="Interlock proposes types and statuses by their names in English",
        who="the administrator of Jira",
        next_step="write issue_types and states into systems.yaml by hand, as docs/change-records.md shows",
    )


def _listed(named: Sequence[Any]) -> str:
    return ", ".join(str(one.name) for one in named) or "none"
