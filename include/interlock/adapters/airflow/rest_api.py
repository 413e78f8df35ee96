"""Airflow's public REST API, with an account of its own: the primary record of who answered what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from operator import not_
from typing import Any, NoReturn, Protocol, Self
from urllib.parse import quote, urlsplit

import httpx
from pydantic import Field

from interlock.domain.canonical import Model
from interlock.domain.dag_names import Place
from interlock.domain.errors import AssetMissing, ReleaseError, TransientError
from interlock.domain.ledger.interventions import AuditRow, audit_row, done_by_hand
from interlock.domain.records import Vote

from ._tls import authorities
from .results import parsed_result, stored_result

OLD_TOKEN = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
"""What Airflow answers to a token that has expired, or that it signed before its secret was changed."""
AMBIGUOUS = ("", ".", "..", "~")
"""Names with a special meaning in a URL: the empty name, ``.``, ``..``, and Airflow's wildcard ``~``."""
PASSING = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS)
"""Refusals that another try may not meet; all other answers from 300 to 499 are final."""


class Login(Protocol):
    """The fields of an Airflow connection that name a server and an account."""

    host: str | None
    port: int | None
    schema: str | None
    login: str | None
    password: str | None


class Answer(Model):
    """One human-in-the-loop request as Airflow stored it, answered or not."""

    task_id: str
    map_index: int
    subject: str
    body: str
    assigned: tuple[str, ...]
    answered: bool
    user: str | None
    choice: str | None
    comment: str
    conditions: str = ""
    evidence: str = Field("", exclude_if=not_, description="Only answers to test cases have it; so have the next two")
    step: str = Field("", exclude_if=not_)
    defect: str = Field("", exclude_if=not_)
    at: datetime | None
    asked_at: datetime | None = Field(None, exclude=True, description="For the wait; no part of what is kept")
    options: tuple[str, ...] = Field((), exclude=True, description="For closing it; no part of what is kept")
    state: str | None = Field(None, exclude=True, description="Of its task instance; no part of what is kept")

    def vote(self) -> Vote:
        """Return the answer as a vote of the person who answered, if the question was assigned to that person."""
        assigned = self.user if self.user in self.assigned else next(iter(self.assigned), "nobody")
        return Vote(
            user=self.user,
            assigned=assigned,
            choice=self.choice or "",
            comment=self.comment,
            conditions=self.conditions,
            evidence=self.evidence,
            step=self.step,
            defect=self.defect,
            at=self.at,
        )


class DagSeen(Model):
    """A Dag as Airflow lists it."""

    is_paused: bool
    is_stale: bool = Field(False, description="Its file was removed, or no longer defines it")
    place: Place


class TaskState(Model):
    """The state of a task instance, by Airflow's own record."""

    task_id: str
    map_index: int
    state: str | None
    start: datetime | None
    end: datetime | None


class AirflowApi:
    """A client of the public REST API with one account; it logs in at its first request, and when its token expires.

    Its paths are below ``/api/v2/``.

    :param url: of Airflow's API server.
    :param timeout: seconds for each request.
    :param trust_env: whether requests go through the proxy that the environment names.
    :param follow: returns the result for which a reference of Airflow's XCom backend stands.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        timeout: float = 20,
        trust_env: bool = True,
        follow: Callable[[Any], Any] = stored_result,
    ) -> None:
        self.url, self.user, self._password, self._follow = url, user, password, follow
        self._client = httpx.Client(
            base_url=f"{url}/api/v2/", timeout=timeout, trust_env=trust_env, verify=authorities(trust_env)
        )

    @classmethod
    def of(cls, connection: Login) -> Self:
        """Return the client of an Airflow connection: host, port, schema (http or https), login, password and path."""
        if not (connection.host and connection.login and connection.password):
            raise ReleaseError(
                "The Airflow connection to the REST API lacks its host, login or password.",
                who="the platform engineer",
                next_step="set them in the connection that the release uses to read its votes",
            )
        return cls(url_of(connection), connection.login, connection.password)

    def __enter__(self) -> Self:
        """Log in."""
        try:
            return self.log_in()
        except ReleaseError:
            self.close()
            raise

    def log_in(self) -> Self:
        """Get a token for the account."""
        with _explained(f"log in to Airflow's API at {self.url} as {self.user}"):
            self._client.headers.pop("Authorization", None)
            account = {"username": self.user, "password": self._password}
            answer = self._client.post(f"{self.url}/auth/token", json=account).raise_for_status()
            self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request and return the answer, also a refusal."""
        if "Authorization" not in self._client.headers:
            self.log_in()
        return self._client.request(method, path, **content)

    def get(self, path: str, **wanted: Any) -> Any:
        """Return what Airflow has at a path."""
        with _explained(f"read {path}"):
            return self._read(path, **wanted).json()

    def pages(self, path: str, key: str, **wanted: Any) -> Iterator[dict[str, Any]]:
        """Yield all rows of a list, however long it is."""
        seen = 0
        while True:
            page = self._read(path, **wanted, limit=100, offset=seen).json()
            yield from page[key]
            seen += len(page[key])
            if not page[key] or seen >= page["total_entries"]:
                return

    def answers(
        self, dag_id: str, run_id: str, task_id: str | None = None, *, answered: bool | None = None
    ) -> tuple[Answer, ...]:
        """Return the human-in-the-loop requests of a run, or of one of its tasks, in the order of their map index.

        :param answered: only those that are answered, or only those that are not.
        """
        # Airflow leaves out what is not wanted: to describe a request takes it long.
        wanted = {"task_id": task_id, "response_received": answered}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        with _explained(f"read the answers given in {dag_id}, run {run_id}"):
            path = f"{run_path(dag_id, run_id)}/hitlDetails"
            found = read_answers(self.pages(path, "hitl_details", **wanted))
        return tuple(answer for answer in found if task_id in (None, answer.task_id))

    def waiting_questions(self) -> tuple[tuple[str, str, Answer], ...]:
        """Return each human-in-the-loop request that waits for an answer, with its Dag and run."""
        with _explained("read the questions that wait"):
            wanted = {"response_received": False, "state": "awaiting_input"}
            rows = self.pages("dags/~/dagRuns/~/hitlDetails", "hitl_details", **wanted)
            return tuple(
                (row["task_instance"]["dag_id"], row["task_instance"]["dag_run_id"], _answer(row)) for row in rows
            )

    def task_states(self, dag_id: str, run_id: str) -> tuple[TaskState, ...]:
        """Return the state of each task instance of a run."""
        with _explained(f"read the task states of {dag_id}, run {run_id}"):
            return tuple(
                TaskState(
                    task_id=row["task_id"],
                    map_index=row["map_index"],
                    state=row["state"],
                    start=row["start_date"],
                    end=row["end_date"],
                )
                for row in self.pages(f"{run_path(dag_id, run_id)}/taskInstances", "task_instances")
            )

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run as Airflow stored it; AssetMissing if Airflow does not have it, or no longer has it."""
        with _explained(f"read {dag_id}, run {run_id}"):
            return dict(self._read(run_path(dag_id, run_id)).json())

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run as Airflow stored them, in the order of task and map index."""
        with _explained(f"read the tasks of {dag_id}, run {run_id}"):
            rows = list(self.pages(f"{run_path(dag_id, run_id)}/taskInstances", "task_instances"))
            return sorted(rows, key=lambda row: (row["task_id"], row["map_index"]))

    def log(self, dag_id: str, run_id: str, task_id: str, map_index: int, number: int) -> str:
        """Return what a try of a task logged, a JSON object in each line."""
        path = f"{run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}/logs/{number}"
        params = {"map_index": map_index, "full_content": True}
        with _explained(f"read the log of {task_id}, try {number}"):
            reply = self._send("GET", path, params=params, headers={"Accept": "application/x-ndjson"})
            return "" if reply.status_code == httpx.codes.NOT_FOUND else reply.raise_for_status().text

    def interventions(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return what people asked Airflow to do to a run, by its audit log; done or refused, it does not say."""
        with _explained(f"read the audit log of {dag_id}, run {run_id}"):
            return list(self.pages("eventLogs", "event_logs", dag_id=dag_id, run_id=run_id))

    def changed_by_hand(self, dag_id: str, run_id: str) -> tuple[AuditRow, ...]:
        """Return what people did to a run of a Dag that is not under release control, by its audit log."""
        return done_by_hand(map(audit_row, self.interventions(dag_id, run_id)), (), dag_id=dag_id, run_id=run_id)

    def audit_log(self, after: datetime, **wanted: str) -> tuple[AuditRow, ...]:
        """Return the rows of the audit log since an instant, the oldest first.

        :param wanted: such as ``dag_id`` or ``event_pattern``.
        """
        with _explained("read the audit log"):
            rows = self.pages("eventLogs", "event_logs", after=after.isoformat(), order_by="event_log_id", **wanted)
            return tuple(audit_row(row) for row in rows)

    def page(self, path: str, **wanted: str | Sequence[str]) -> Any:
        """Return what a page of Interlock's plugin says."""
        with _explained(f"read the page {path}"):
            return self._read(f"{self.url}/interlock/{path}", **wanted).json()

    def followed(self, value: Any) -> Any:
        """Return the result of a task, given as Airflow's database has it."""
        return self._follow(parsed_result(value))

    def runs(self, dag_prefix: str, since: datetime) -> tuple[tuple[str, str], ...]:
        """Return Dag and run of every run since an instant of the Dags whose names begin so."""
        with _explained(f"read the runs of {dag_prefix}…"):
            rows = self.pages(
                "dags/~/dagRuns", "dag_runs", dag_id_prefix_pattern=dag_prefix, run_after_gte=since.isoformat()
            )
            return tuple((row["dag_id"], row["dag_run_id"]) for row in rows)

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """Return the state of a run, such as running or success; None: Airflow has no such run."""
        run = self.run_if_any(dag_id, run_id)
        return None if run is None else str(run["state"])

    def run_if_any(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """Return a run as Airflow stored it; None: Airflow has no such run."""
        with _explained(f"read {dag_id}, run {run_id}"):
            reply = self._send("GET", run_path(dag_id, run_id))
            if reply.status_code == httpx.codes.NOT_FOUND:
                return None
            reply.raise_for_status()
            found = dict(reply.json())
            _ = found["state"]  # or it is none of Airflow's
            return found

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any], note: str = "") -> bool:
        """Start a run with its form; False: a run with this id already exists."""
        with _explained(f"start {dag_id}, run {run_id}"):
            body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf), "note": note}
            return self._unless_conflict(self._send("POST", f"{dag_path(dag_id)}/dagRuns", json=body))

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> tuple[str | None, ...]:
        """Return the state in which each try of a task ended, the first one first."""
        task = f"{run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}"
        path = f"{task}/{map_index}/tries" if map_index >= 0 else f"{task}/tries"
        with _explained(f"read the tries of {task_id}"):
            rows = list(self.pages(path, "task_instances"))
            return tuple(row["state"] for row in sorted(rows, key=lambda row: row["try_number"]))

    def result(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, *, key: str = "return_value") -> Any:
        """Return the result of a task, or what it left under another key; None: there is nothing."""
        path = f"{run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}/xcomEntries/{_part(key)}"
        with _explained(f"read the result of {task_id}"):
            reply = self._send("GET", path, params={"map_index": map_index})
            if reply.status_code == httpx.codes.NOT_FOUND:
                return None
            reply.raise_for_status()
            return self.followed(reply.json()["value"])

    def dags(self) -> dict[str, DagSeen]:
        """Return every Dag that this account may see, including a Dag whose file was removed."""
        with _explained("read the Dags"):
            rows = self.pages("dags", "dags", exclude_stale="false", order_by="dag_id")
            return {
                row["dag_id"]: DagSeen(
                    is_paused=row["is_paused"],
                    is_stale=row["is_stale"],
                    place=Place(bundle=row["bundle_name"], file=row["relative_fileloc"]),
                )
                for row in rows
            }

    def is_paused(self, dag_id: str) -> bool:
        """Tell whether a Dag is paused; a Dag that Airflow does not know is not."""
        with _explained(f"read the Dag {dag_id}"):
            reply = self._send("GET", dag_path(dag_id))
            if reply.status_code in (httpx.codes.NOT_FOUND, httpx.codes.FORBIDDEN):
                return False
            reply.raise_for_status()
            return bool(reply.json()["is_paused"])

    def close_question(self, dag_id: str, run_id: str, answer: Answer, *, choice: str, comment: str) -> bool:
        """Answer an open request; False if another answer came first."""
        path = f"{run_path(dag_id, run_id)}/taskInstances/{_part(answer.task_id)}/{answer.map_index}/hitlDetails"
        with _explained(f"answer {answer.task_id}[{answer.map_index}] as {self.user}"):
            body = {"chosen_options": [choice], "params_input": {"comment": comment}}
            return self._unless_conflict(self._send("PATCH", path, json=body))

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request; if the token may be too old for it, log in again and send it once more."""
        reply = self.request(method, path, **content)
        if reply.status_code in OLD_TOKEN:
            self.log_in()
            reply = self.request(method, path, **content)
        return reply

    def _read(self, path: str, **wanted: Any) -> httpx.Response:
        return self._send("GET", path, params=wanted).raise_for_status()

    @staticmethod
    def _unless_conflict(reply: httpx.Response) -> bool:
        return reply.status_code != httpx.codes.CONFLICT and reply.raise_for_status().is_success


def url_of(connection: Login) -> str:
    """Return the address of the API server that an Airflow connection names, without a slash at its end.

    An Airflow whose ``[api] base_url`` has a path answers log-ins, tasks and pages only below that path. The extra
    ``path`` of the connection says another one.
    """
    from airflow.sdk.configuration import conf  # not at the top: reads Airflow's configuration

    port = f":{connection.port}" if connection.port else ""
    said = getattr(connection, "extra_dejson", {}).get("path")
    path = said if said is not None else urlsplit(str(conf.get("api", "base_url", fallback="") or "")).path
    below = f"/{str(path).strip('/')}".rstrip("/")
    return f"{connection.schema or 'http'}://{connection.host}{port}{below}"


def dag_path(dag_id: str) -> str:
    """Return the path of a Dag."""
    return f"dags/{_part(dag_id)}"


def run_path(dag_id: str, run_id: str) -> str:
    """Return the path of a run."""
    return f"{dag_path(dag_id)}/dagRuns/{_part(run_id)}"


def _part(name: str) -> str:
    """Return a name as a part of a path; refuse a name with a special meaning in a path."""
    if name in AMBIGUOUS:
        raise ReleaseError(
            f"Airflow's API cannot be called with the name {name!r}, which has a special meaning in a URL.",
            rule=f"the name of a run or a Dag must not be one of {', '.join(AMBIGUOUS)} (adapters/airflow/rest_api.py)",
            who="the person who chose the name",
            next_step="delete it in Airflow, and trigger a new run with another name or without one",
        )
    return quote(name, safe="")


def read_answers(details: Iterable[dict[str, Any]]) -> tuple[Answer, ...]:
    """Return human-in-the-loop requests as Airflow's API describes them, in the order of task and map index."""
    return tuple(sorted(map(_answer, details), key=lambda answer: (answer.task_id, answer.map_index)))


def _answer(detail: dict[str, Any]) -> Answer:
    by = detail.get("responded_by_user")
    chosen = detail.get("chosen_options") or [None]
    return Answer(
        task_id=detail["task_instance"]["task_id"],
        map_index=detail["task_instance"]["map_index"],
        subject=detail["subject"],
        body=detail.get("body") or "",
        assigned=tuple(user["id"] for user in detail.get("assigned_users") or ()),
        answered=detail["response_received"],
        user=by["name"] if by else None,
        choice=chosen[0],
        comment=_words(detail.get("params_input"), "comment"),
        conditions=_words(detail.get("params_input"), "conditions"),
        evidence=_words(detail.get("params_input"), "evidence"),
        step=_words(detail.get("params_input"), "step"),
        defect=_words(detail.get("params_input"), "defect"),
        at=detail.get("responded_at"),
        asked_at=detail.get("created_at"),
        options=tuple(detail.get("options") or ()),
        state=detail["task_instance"].get("state"),
    )


def _words(form: Any, field: str) -> str:
    """Return a text of an answer's form; Airflow does not validate answers by REST against the form's schema."""
    words = form.get(field) if isinstance(form, dict) else None
    return words if isinstance(words, str) else ""


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn HTTP failures into sentences: what Airflow refuses is final, all others may pass."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        _refused(what, error)
    except httpx.RequestError as error:
        raise TransientError(f"Could not {what}: {str(error) or type(error).__name__}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # Something between us and Airflow answered in its place: a proxy's page, say.
        message = f"Could not {what}: the answer is not one of Airflow's API ({type(error).__name__}: {error})"
        raise TransientError(message[:1000]) from error


def _refused(what: str, error: httpx.HTTPStatusError) -> NoReturn:
    status = error.response.status_code
    message = f"Could not {what}: Airflow answered {status} {error.response.text[:300]}"
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in PASSING:
        raise TransientError(message) from error
    raise (AssetMissing if status == httpx.codes.NOT_FOUND else ReleaseError)(
        message,
        who="the platform engineer",
        next_step="check address, account and password of the Airflow connection, and the account's role",
    ) from error
