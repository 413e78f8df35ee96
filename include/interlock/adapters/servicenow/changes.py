"""Changes of ServiceNow as records of releases: found by correlation id, made, and told each statement once.

``correlation_display`` says up to where a change was told. It is written in one request with the work note and the last
state, so a work note whose answer was lost is not written again. The states are those that the catalogue names, and a
change only goes where ``nextstates`` of the instance says that it may go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from interlock.adapters.outbox.web import WebApi
from interlock.domain.errors import ConditionUnmet, DeliveryRefused
from interlock.domain.outbox.delivery import Cursor, Remote
from interlock.domain.outbox.facts import Change, Statement
from interlock.domain.outbox.systems_file import ServiceNow
from interlock.domain.outbox.way import next_state, states_ahead

from .instance import ATTACHMENTS, CHANGES, ChangeRow, NamedFile, NextStates, TaskRow

MAX_SHORT = 160
"""Characters of a short description, as instances have it."""
MAX_TEXT = 4000


class Changes:
    """The changes of an instance."""

    gathers = True

    def __init__(self, api: WebApi, described: ServiceNow) -> None:
        self.api, self._described = api, described

    def close(self) -> None:
        """Close its connections."""
        self.api.close()

    def find(self, correlation: str) -> Sequence[Remote]:
        """Return the changes with a correlation id, the oldest first."""
        query = f"correlation_id={correlation}^ORDERBYnumber"
        found = self.api.read(CHANGES, {"sysparm_query": query, "sysparm_limit": "50"})
        rows = found.get("result") if isinstance(found, dict) else None
        changes = [self.api.parsed(ChangeRow, row, f"GET {CHANGES}") for row in rows or ()]
        # Some instances ignore a query with a field that the account may not read, and return all changes.
        return tuple(self._remote(row) for row in changes if row.correlation_id == correlation)

    def create(self, correlation: str, statement: Statement) -> Remote:
        """Make a change of the release's type."""
        change = statement.change
        path = self._path_of(change)
        model = self._described.models.get(change.change_type)
        body = {
            **self._described.fields,
            **({"chg_model": model} if model else {}),
            **self._fields(change),
            "correlation_id": correlation,
            "correlation_display": told_text(Cursor(), change),
        }
        made = self._remote(self._row(self.api.send("POST", path, json=body), f"POST {path}"))
        return made.model_copy(update={"is_new": True})

    def change(self, remote: Remote, statement: Statement) -> Remote:
        """Attach documents, bring tasks and state to what the statement says, then write it as a work note."""
        self._attach(remote, statement)
        self._bring_tasks(remote, statement)
        last = {
            **self._fields(statement.change),
            "work_notes": statement.text[:MAX_TEXT],
            "correlation_display": told_text(statement.told, statement.change),
        }
        for state, is_last in self._way(remote, statement):
            moved = {"state": state, **self._closing(state, statement.change)} if state else {}
            if is_last:
                return self._patch(remote, {**last, **moved})
            self._patch(remote, moved)
        raise AssertionError("a way has a last step")

    def withdraw(self, duplicate: Remote, original: Remote) -> None:
        """Cancel a duplicate, so that people see why it is there; it is not found again."""
        text = f"Made twice by a repeated request. The record of the release is {original.number}."
        self._patch(
            duplicate,
            {
                "correlation_id": f"duplicate-of-{original.reference}",
                "state": self._described.states.cancelled[-1],
                "close_notes": text,
                "work_notes": text,
            },
        )

    def _path_of(self, change: Change) -> str:
        if self._described.models.get(change.change_type):
            return CHANGES
        if change.change_type != "standard":
            return f"{CHANGES}/{quote(change.change_type)}"
        template = self._described.templates.get(change.template or "")
        if template is None:
            raise DeliveryRefused(
                f"The template {change.template} of the policy has no standard change template of ServiceNow.",
                rule="templates of the system in systems.yaml",
                who="the owner of systems.yaml",
                next_step=f"add {change.template} to templates, then trigger the Dag retry_deliveries",
            )
        return f"{CHANGES}/standard/{template}"

    def _fields(self, change: Change) -> dict[str, str]:
        described = self._described
        item = described.configuration_items.get(change.service)
        waves = "\n".join(f"{one.title}: {one.text}" for one in change.waves)
        return {
            "short_description": change.title[:MAX_SHORT],
            "description": change.description[:MAX_TEXT],
            "justification": change.summary[:MAX_TEXT],
            "start_date": utc(change.planned_start),
            "end_date": utc(change.planned_start + described.expected),
            **({"implementation_plan": waves[:MAX_TEXT]} if waves else {}),
            **({"backout_plan": change.back_out[:MAX_TEXT]} if change.back_out else {}),
            **({"work_start": utc(change.began)} if change.began else {}),
            **({"work_end": utc(change.ended)} if change.ended and change.began else {}),
            **({"cmdb_ci": item} if item else {}),
            **({"assignment_group": described.assignment_group} if described.assignment_group else {}),
        }

    def _closing(self, state: str, change: Change) -> dict[str, str]:
        if change.outcome is None or state not in (
            self._described.states.closed[-1],
            self._described.states.cancelled[-1],
        ):
            return {}
        codes = self._described.close_codes
        code = {"deployed": codes.deployed, "backed_out": codes.backed_out}.get(change.outcome, codes.failed)
        notes = f"{change.outcome.replace('_', ' ').capitalize()}. {change.reason}"
        return {"close_code": code, "close_notes": notes[:MAX_TEXT]}

    def _way(self, remote: Remote, statement: Statement) -> Iterator[tuple[str, bool]]:
        """Yield the states that the change goes through, and whether each is the last; one empty: it stays."""
        at, seen = remote.state, {remote.state}
        while ahead := states_ahead(self._described.states, statement.change.phase, at):
            path = f"{CHANGES}/{remote.reference}/nextstates"
            found = self.api.read(path)
            next_states = self.api.parsed(NextStates, (found or {}).get("result"), f"GET {path}")
            step = next_state(ahead, next_states.may_go_to, seen)
            if not step and statement.is_late:
                break
            if not step:
                raise self._kept(remote, next_states, at, ahead)
            yield step, step == ahead[-1]
            if step == ahead[-1]:
                return
            at = step
            seen.add(step)
        yield "", True

    def _kept(
        self, remote: Remote, found: NextStates, at: str, ahead: Sequence[str]
    ) -> ConditionUnmet | DeliveryRefused:
        unmet = tuple(dict.fromkeys(name for state in ahead for name in found.unmet(state)))
        what = f"{remote.number} cannot go from {found.label(at)} to {found.label(ahead[-1])} in ServiceNow"
        if unmet:
            return ConditionUnmet(
                f"{what} yet. Conditions that are not met: {', '.join(unmet)}.",
                rule="the transitions of its change model",
                who="the people who fulfil these conditions in ServiceNow",
                next_step="Interlock tries again by itself",
            )
        possible = ", ".join(map(found.label, found.available_states)) or "none"
        return DeliveryRefused(
            f"{what}: there is no transition. Possible: {possible}.",
            rule="the transitions of its change model, and states of the system in systems.yaml",
            who="the administrator of ServiceNow, and the owner of systems.yaml",
            next_step="correct one of them, or move the change there; then trigger the Dag retry_deliveries",
        )

    def _attach(self, remote: Remote, statement: Statement) -> None:
        if not statement.documents:
            return
        query = f"table_name=change_request^table_sys_id={remote.reference}"
        asked = {"sysparm_query": query, "sysparm_limit": "200"}
        rows = () if remote.is_new else self.api.read(ATTACHMENTS, asked).get("result", ())
        there = {self.api.parsed(NamedFile, row, f"GET {ATTACHMENTS}").file_name for row in rows}
        for document in statement.documents:
            if document.name not in there:
                about = {"table_name": "change_request", "table_sys_id": remote.reference, "file_name": document.name}
                self.api.send(
                    "POST",
                    f"{ATTACHMENTS}/file",
                    params=about,
                    content=document.content,
                    headers={"Content-Type": document.media_type},
                )

    def _bring_tasks(self, remote: Remote, statement: Statement) -> None:
        """Make the tasks of waves when the plan is frozen; close each when its wave is done, or will not be done.

        A change that is cancelled gets no new ones.
        """
        is_over = statement.change.phase in ("review", "closed", "cancelled")
        if not statement.change.waves or not (is_over or {"frozen", "wave"} & {*statement.before, statement.event}):
            return
        path = f"{CHANGES}/{remote.reference}/task"
        found = () if remote.is_new else self.api.read(path, {"sysparm_limit": "500"}).get("result", ())
        rows = [self.api.parsed(TaskRow, row, f"GET {path}") for row in found]
        there = {row.correlation_id: row for row in sorted(rows, key=lambda row: row.number, reverse=True)}
        for part in statement.change.waves:
            correlation = f"{remote.reference}-{part.name}"
            task = there.get(correlation)
            state = self._described.task_states["closed" if part.done and not part.failed else "failed"]
            ended = {"state": state, "close_notes": (part.text if part.done else "It was not done.")[:MAX_TEXT]}
            ends = part.done or is_over
            if task is None and statement.change.phase == "cancelled":
                continue
            if task is None:
                made = self.api.send(
                    "POST",
                    path,
                    json={
                        "short_description": f"{statement.change.title}: {part.title}"[:MAX_SHORT],
                        "description": part.text[:MAX_TEXT],
                        "correlation_id": correlation,
                        "change_task_type": "implementation",
                        **(ended if ends else {}),
                    },
                )
                task = self.api.parsed(TaskRow, _result(made), f"POST {path}")
            for other in rows:  # of a repeated request
                if other.correlation_id == correlation and other.sys_id != task.sys_id:
                    twice = {"state": self._described.task_states["failed"], "close_notes": "Made twice."}
                    self._end_task(path, other, twice)
            if ends:  # some instances do not make tasks that are closed
                self._end_task(path, task, ended)

    def _end_task(self, path: str, task: TaskRow, ended: dict[str, str]) -> None:
        if task.state != ended["state"]:
            self.api.send("PATCH", f"{path}/{task.sys_id}", json=ended)

    def _patch(self, remote: Remote, fields: dict[str, str]) -> Remote:
        path = f"{CHANGES}/{remote.reference}"
        return self._remote(self._row(self.api.send("PATCH", path, json=fields), f"PATCH {path}"))

    def _row(self, answer: Any, asked: str) -> ChangeRow:
        return self.api.parsed(ChangeRow, _result(answer), asked)

    def _remote(self, row: ChangeRow) -> Remote:
        return Remote(
            reference=row.sys_id,
            number=row.number,
            told=Cursor.read(row.correlation_display),
            state=row.state,
            url=f"{self.api.base_url}/nav_to.do?uri=change_request.do%3Fsys_id%3D{row.sys_id}",
        )


def told_text(told: Cursor, change: Change) -> str:
    """Return what ``correlation_display`` says: the plan that the change is about, and up to where it was told."""
    return f"Interlock {f'sha256:{change.plan} ' if change.plan else ''}{told}"


def plan_in(display: str) -> str:
    """Return the digest of the plan in ``correlation_display``; empty: none."""
    found = next((word for word in display.split() if word.startswith("sha256:")), "")
    return found.removeprefix("sha256:")


def utc(at: datetime) -> str:
    """Return an instant as the API reads it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _result(answer: Any) -> Any:
    result = answer.get("result") if isinstance(answer, dict) else None
    return result[0] if isinstance(result, list) and result else result
