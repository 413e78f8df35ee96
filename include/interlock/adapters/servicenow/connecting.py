"""What an instance really has: its rights, states, close codes; and a test change that is made and cancelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interlock.adapters.outbox.web import WebApi
from interlock.domain.errors import DeliveryRefused

from .approvals import APPROVALS
from .conflicts import CONFLICTS
from .instance import CHANGES, TABLES

_PHASES: Mapping[str, tuple[str, ...]] = {
    "planned": ("new",),
    "assessed": ("assess", "authorize"),
    "scheduled": ("scheduled",),
    "implementing": ("implement",),
    "review": ("review",),
    "closed": ("closed",),
    "cancelled": ("canceled", "cancelled"),
}
"""Phase: labels of states that mean it in instances as they are delivered; an instance may have others."""
_TASKS: Mapping[str, tuple[str, ...]] = {
    "open": ("open",),
    "closed": ("closed", "closed complete"),
    "failed": ("canceled", "cancelled", "closed incomplete"),
}


def checked(api: WebApi) -> Iterator[str]:
    """Read what Interlock reads, and yield a sentence for each that the account may read.

    :raises DeliveryRefused: the account may not read changes, or their approvals.
    """
    for what, path in (("changes", CHANGES), ("approvals of changes", APPROVALS)):
        api.read(path, {"sysparm_limit": "1"})
        yield f"The account may read {what}."
    try:
        api.read(CONFLICTS, {"sysparm_limit": "1"})
        yield "The account may read conflicts of changes."
    except DeliveryRefused as error:
        yield (
            f"The account may not read conflicts of changes: {error.what} Boards will not see what a change clashes "
            "with there. Who can change it: the administrator of ServiceNow. Next: give a role of the account the "
            "right to read the table conflict (an access control of the type record, with the operation read), then "
            "run this again."
        )


def proposal(api: WebApi, connection: str) -> dict[str, Any]:
    """Return the part of systems.yaml for an instance, from the choices that it has.

    :raises DeliveryRefused: a phase has no state that is called as in instances as they are delivered.
    """
    states, tasks = _choices(api, "change_request", "state"), _choices(api, "change_task", "state")
    codes = _choices(api, "change_request", "close_code")
    found = {phase: _values(states, labels) for phase, labels in _PHASES.items()}
    of_tasks = {name: _values(tasks, labels)[:1] for name, labels in _TASKS.items()}
    missing = [name for name, values in {**found, **of_tasks}.items() if not values]
    if missing:
        raise DeliveryRefused(
            f"The instance has no state that is called as usual for {', '.join(missing)}. It has for changes: "
            f"{_shown(states)}; for tasks: {_shown(tasks)}.",
            rule="Interlock proposes states by their labels in English",
            who="the administrator of ServiceNow",
            next_step="write states and task_states into systems.yaml by hand, as docs/change-records.md shows",
        )
    good = next((value for value in codes if value.startswith("successful")), "")
    bad = next((value for value in codes if value.startswith("unsuccessful")), "")
    return {
        "kind": "servicenow",
        "connection": connection,
        "states": {phase: values[0] if len(values) == 1 else values for phase, values in found.items()},
        "task_states": {name: values[0] for name, values in of_tasks.items()},
        **({"close_codes": {"deployed": good, "backed_out": bad, "failed": bad}} if good and bad else {}),
    }


def _choices(api: WebApi, table: str, element: str) -> dict[str, str]:
    """Return the choices of a field: value and label."""
    query = f"name={table}^element={element}^inactive=false^language=en^ORDERBYsequence"
    asked = {"sysparm_query": query, "sysparm_fields": "element,value,label", "sysparm_limit": "200"}
    rows = (api.read(f"{TABLES}/sys_choice", asked) or {}).get("result") or []
    return {str(row["value"]): str(row["label"]) for row in rows if isinstance(row, dict) and "value" in row}


def _values(choices: Mapping[str, str], labels: Sequence[str]) -> list[str]:
    by_label = {label.strip().lower(): value for value, label in reversed([*choices.items()])}
    return [by_label[label] for label in labels if label in by_label]


def _shown(choices: Mapping[str, str]) -> str:
    return ", ".join(f"{label} ({value})" for value, label in choices.items()) or "none"
