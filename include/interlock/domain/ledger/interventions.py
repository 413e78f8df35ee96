"""What people did to a release by hand, according to Airflow's audit log.

The audit log has a row for each request that would change something, and does not say whether the request was executed
or refused. Refused requests are in the ledger as ``attempt.refused``, so a row without such an entry was executed. An
unknown event counts as a change.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime

from interlock.domain.canonical import Model

MAX_CLOCK_SKEW = timedelta(seconds=5)
"""Maximum difference between the clocks of Airflow's and the ledger's machines."""
WINDOW = timedelta(seconds=60)
"""How long the guard counts refused attempts of one kind together, after the first (console/record/attempts.py)."""
SEVERAL = "(several)"
"""Written in place of names when one user attempts too many kinds of things (console/record/attempts.py)."""

_HARMLESS = frozenset(
    {
        "update_hitl_detail",  # an answer
        "trigger_dag_run",
        "favorite_dag",
        "unfavorite_dag",
        "reparse_dag_file",
        "generate_token",
        "enqueue_connection_test",
        "create_default_connections",  # of Airflow's own, and only those that are not there
        "cli_dag_trigger",
        "cli_connections_get",
        "cli_connections_list",
        "cli_connections_export",
        "cli_connections_test",
    }
)
_ENTITIES = {
    "task_instance": "TASK_INSTANCE",
    "task_group": "TASK_INSTANCE",
    "task_state": "TASK_INSTANCE",
    "xcom": "XCOM",
    "dag_run": "RUN",
    "backfill": "RUN",
    "asset": "ASSET",
    "dag": "DAG",
}
"""Part of an event's name: what it changes, in the guard's words; the first that fits."""
_WORDS = {
    "patch_task_instance": "marked {task}",
    "patch_task_group_instances": "marked a group of tasks",
    "post_clear_task_instances": "cleared {task}",
    "patch_dag_run": "marked the run",
    "bulk_dag_runs": "marked or deleted runs",
    "clear_dag_run": "cleared the run",
    "clear_dag_runs": "cleared runs",
    "delete_dag_run": "deleted the run",
    "update_xcom_entry": "edited an XCom of {task}",
    "create_xcom_entry": "wrote an XCom of {task}",
    "delete_xcom_entry": "deleted an XCom of {task}",
    "patch_dag": "paused the Dag",
    "delete_dag": "deleted the Dag",
    "patch_connection": "edited the connection {connection}",
    "post_connection": "wrote the connection {connection}",
    "delete_connection": "deleted the connection {connection}",
    "bulk_connections": "wrote connections",
}


class AuditRow(Model):
    """One row of Airflow's audit log."""

    id: int
    at: AwareDatetime
    event: str
    user: str
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    details: dict[str, Any] = {}

    @property
    def is_asked(self) -> bool:
        """Tell whether a person requested it; Airflow itself caused all other rows."""
        return self.event.startswith("cli_") or "method" in self.details

    @property
    def changes(self) -> bool:
        """Tell whether it would change something of a release, its Dag or a connection."""
        reads = self.event.startswith("get_") or self.details.get("method") == "GET"
        unpauses = self.event == "patch_dag" and self.details.get("is_paused") is False
        return self.is_asked and not reads and not unpauses and self.event not in _HARMLESS

    @property
    def entity(self) -> str | None:
        """Return what it changes in the guard's words; None: unknown event."""
        return next((entity for part, entity in _ENTITIES.items() if part in self.event), None)

    def __str__(self) -> str:
        """Describe who changed what, and when."""
        tasks = [self.task_id] if self.task_id else _texts(self.details.get("task_ids"))
        words = _WORDS.get(self.event, f"did {self.event}").format(
            task=", ".join(tasks) or "tasks", connection=", ".join(sorted(connections_of(self))) or "of some name"
        )
        return f"{self.user} {words} at {self.at:%Y-%m-%d %H:%M:%S} UTC"


class Refusal(Model):
    """Attempts of one kind that the guard refused, by the ledger."""

    user: str
    entity: str
    dag_id: str
    run_id: str | None = None
    task_id: str | None = None
    first_at: AwareDatetime
    at: AwareDatetime

    def accounts_for(self, row: AuditRow) -> bool:
        """Tell whether a row of the audit log is of one of these attempts.

        While the guard counts attempts of one kind, their number is not in the ledger yet; they are refused as well.
        """
        if (
            self.user != row.user
            or not self.first_at - MAX_CLOCK_SKEW <= row.at <= max(self.at, self.first_at + WINDOW) + MAX_CLOCK_SKEW
        ):
            return False
        if self.dag_id == SEVERAL:
            return row.entity not in (None, "DAG")
        same_kind = (self.dag_id, self.entity) == (row.dag_id, row.entity)
        return same_kind and _agree(self.run_id, row.run_id) and _agree(self.task_id, row.task_id)


def audit_row(row: Mapping[str, Any]) -> AuditRow:
    """Read a row as Airflow's API has it."""
    return AuditRow(
        id=row["event_log_id"],
        at=row["when"],
        event=row["event"],
        user=row.get("owner") or "nobody",
        dag_id=row.get("dag_id"),
        run_id=row.get("run_id"),
        task_id=row.get("task_id"),
        details=_details(row.get("extra")),
    )


def refusal(payload: Mapping[str, Any]) -> Refusal:
    """Read an entry of the kind ``attempt.refused``, or ``break_glass.used``, which names the same things."""
    named = {name: payload.get(name) for name in ("user", "entity", "dag_id", "run_id", "task_id")}
    return Refusal(**named, first_at=payload.get("first_at") or payload["at"], at=payload["at"])


def done_by_hand(
    rows: Iterable[AuditRow], accounted: Collection[Refusal], *, dag_id: str, run_id: str
) -> tuple[AuditRow, ...]:
    """Return what was done by hand to a run or to its Dag; the oldest first.

    :param accounted: what was refused, or is on record otherwise.
    """
    done = (
        row
        for row in rows
        if row.changes
        and row.dag_id == dag_id
        and row.run_id in (run_id, None)
        and not any(one.accounts_for(row) for one in accounted)
    )
    return tuple(sorted(done, key=lambda row: (row.at, row.id)))


def connections_edited(rows: Iterable[AuditRow], names: Collection[str]) -> tuple[AuditRow, ...]:
    """Return the edits of connections with these names, and those that do not say which; the oldest first.

    Airflow keeps no row of an edit that it refused.
    """
    edits = (row for row in rows if row.changes and "connection" in row.event)
    ours = (row for row in edits if not (of := connections_of(row)) or of & set(names))
    return tuple(sorted(ours, key=lambda row: (row.at, row.id)))


def connections_of(row: AuditRow) -> set[str]:
    """Return the connections that a row names; none: it does not say."""
    entities = [
        entity
        for action in _listed(row.details.get("actions"))
        for entity in _listed(action.get("entities") if isinstance(action, dict) else None)
    ]
    found = [row.details, *entities]
    names = [one.get("connection_id") if isinstance(one, dict) else one for one in found]
    return {name for name in names if isinstance(name, str)}


def _agree(one: str | None, other: str | None) -> bool:
    return one is None or other in (one, None)


def _details(extra: Any) -> dict[str, Any]:
    try:
        found = json.loads(extra) if isinstance(extra, str) else extra
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    """Return the names in a list of tasks; a task may be listed with its map index."""
    found = [one[0] if isinstance(one, list) and one else one for one in _listed(value)]
    return [one for one in found if isinstance(one, str)]


def may_be_refused_yet(rows: Iterable[AuditRow], now: datetime) -> bool:
    """Tell whether one of these rows is so young that the guard may still be recording that it refused it."""
    return any(row.at > now - 2 * MAX_CLOCK_SKEW for row in rows)


def settled(rows: Iterable[AuditRow], now: datetime) -> tuple[AuditRow, ...]:
    """Return the rows that are old enough for the guard to have written what it refused."""
    return tuple(row for row in rows if row.at < now - WINDOW - 2 * MAX_CLOCK_SKEW)
