"""What ServiceNow found that a change clashes with: it looks when configuration item or planned dates are set."""

from __future__ import annotations

from pydantic import Field

from interlock.adapters.outbox.web import WebApi

from .instance import TABLES, Row

CONFLICTS = f"{TABLES}/conflict"
MOST = 20
"""Conflicts of a change that are read."""
_FIELDS = "sys_id,type,configuration_item.name,conflicting_change.number,schedule.name"


class ConflictRow(Row):
    """A conflict of a change."""

    type: str
    item: str = Field("", alias="configuration_item.name")
    other: str = Field("", alias="conflicting_change.number")
    schedule: str = Field("", alias="schedule.name")

    def __str__(self) -> str:
        """Say it as ServiceNow does: CI Already Scheduled (Bike shop; CHG0030007)."""
        about = "; ".join(filter(None, (self.item, self.other, self.schedule)))
        return f"{self.type}{f' ({about})' if about else ''}"


def read_conflicts(api: WebApi, reference: str) -> tuple[str, ...]:
    """Return the conflicts of a change in words, each once.

    It asks once: nothing that waits for it should wait for long.

    :param reference: sys_id of the change.
    :raises ReleaseError: there is no answer, or the account may not read them.
    """
    asked = {
        "sysparm_query": f"change={reference}",
        "sysparm_fields": _FIELDS,
        "sysparm_display_value": "true",
        "sysparm_limit": str(MOST),
    }
    rows = (api.send("GET", CONFLICTS, params=asked) or {}).get("result") or []
    found = (str(api.parsed(ConflictRow, row, f"GET {CONFLICTS}")) for row in rows)
    return tuple(dict.fromkeys(" ".join(one.split())[:300] for one in found))
