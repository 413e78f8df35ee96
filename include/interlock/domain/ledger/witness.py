"""Requests and answers on record as they came in at Airflow's API, so that a row written past the API is detected.

Airflow keeps runs and answers as rows of a database, which its owner can write. What comes in at the API is also in the
ledger, from the moment it comes in. A run or an answer that is not in the ledger was not requested or given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import not_
from typing import Any

from pydantic import Field

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.dag_names import RELEASES, ROLLBACKS
from interlock.domain.errors import PolicyViolation

from .chain import INSTALLATION, Entry, release_chain
from .kinds import ANSWER_GIVEN, MANIFEST_FROZEN, QUESTION_WORDED, ROLLOUT_FROZEN, RUN_ASKED

WITNESS_TYPE = "application/vnd.interlock.witness+json"
"""Payload type of the API server's signatures: a request or an answer, its chain and its time."""
WORDED_TYPE = "application/vnd.interlock.questions+json"
"""Payload type of the digests of questions, as the task that worded them signs them."""
ENVELOPE = "envelope"
"""The field of an entry with its signature, which covers all other fields."""
MAX_CLOCK_SKEW = timedelta(minutes=1)
"""Between an answer's entry and its time by Airflow's record: machines' clocks, and a slow database."""


class AskedRun(Model):
    """A person's request for a run of a Dag under release control, with its form."""

    dag_id: str
    run_id: str
    user: str
    conf: Sha256
    """Digest of the submitted form."""

    @property
    def chain(self) -> str:
        """Where it is on record: with its release, or with what concerns the installation."""
        is_releases = self.dag_id.startswith((RELEASES, ROLLBACKS))
        return release_chain(self.dag_id, self.run_id) if is_releases else INSTALLATION

    @property
    def key(self) -> str:
        """What the entry of a run is found by."""
        return f"{RUN_ASKED}/{self.dag_id}/{self.run_id}"


def refuse_unasked(run: AskedRun, entry: Entry | None) -> None:
    """Raise a PolicyViolation unless a person requested exactly this run at the API.

    :param run: by Airflow's record.
    :param entry: what the ledger has of it; none: nothing.
    """
    known = AskedRun.model_validate(told(entry.payload)) if entry else None
    if known == run:
        return
    if known is None:
        problem = f"the ledger has no request for it, but Airflow names {run.user or 'no user'} as its requester"
    elif known.user != run.user:
        problem = f"the ledger names {known.user} as its requester, but Airflow names {run.user or 'no user'}"
    else:
        problem = f"the form that {known.user} submitted differs from the form in Airflow"
    raise PolicyViolation(
        f"The run {run.run_id} of {run.dag_id} was refused: {problem}.",
        rule="a run under release control needs a request of a person, with its form, through Airflow's API",
        who="no user",
        next_step="trigger the Dag with its form; if you did, have an auditor find out who wrote to Airflow's database",
    )


class GivenAnswer(Model):
    """A person's answer to a question of a release."""

    user: str
    task_id: str
    map_index: int
    choice: str
    comment: str = ""
    conditions: str = ""
    evidence: str = Field("", exclude_if=not_)  # answers to other questions have none, nor the next two
    step: str = Field("", exclude_if=not_)
    defect: str = Field("", exclude_if=not_)
    question: Sha256 | None = None
    """Digest of the question at the time of the answer; none: Airflow had no such question."""

    def __str__(self) -> str:
        """Describe the answer: who, what, and to which question."""
        return f"{self.user}'s answer “{self.choice}” to {self.task_id}[{self.map_index}]"


def told(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of an entry, without its signature."""
    return {name: value for name, value in payload.items() if name != ENVELOPE}


def question_digest(subject: str, body: str, assigned: Sequence[str]) -> Sha256:
    """Return the digest of a question: its words, and the user names of those who may answer it."""
    return sha256_of({"subject": subject, "body": body, "assigned": list(assigned)})


def worded(task_id: str, entries: Iterable[Entry]) -> Iterator[Sha256]:
    """Yield the digests of the questions that were worded for a task.

    :param entries: of the release's chain; those of :data:`QUESTION_WORDED` that the installation signed.
    """
    for entry in entries:
        if entry.kind == QUESTION_WORDED and entry.payload.get("task_id") == task_id:
            yield from entry.payload["questions"]


def refuse_unworded(task_id: str, digest: Sha256, entries: Iterable[Entry], on_record: Sequence[Entry] = ()) -> None:
    """Raise a PolicyViolation unless a question is one that was worded for a task.

    :param entries: as :func:`worded` takes them.
    :param on_record: the whole chain; what it has of the question without a valid signature is told apart.
    """
    if digest in worded(task_id, entries):
        return
    if digest in worded(task_id, on_record):
        raise PolicyViolation(
            f"A question of {task_id} does not count: its text and its assignees are those of the ledger, but the "
            "entry does not have a signature of the signing key that this task has. Either the key is another one, or "
            "the entry was not written by the task that worded the question; which of the two is not known here.",
            rule="an answer counts only for the question that the task signed",
            who="the platform engineer (interlock_signing_key)",
            next_step="compare the key of this worker with the installation's, then try again or trigger the release "
            "again",
        )
    raise PolicyViolation(
        f"A question of {task_id} was changed: its text or its assignees differ from the ledger.",
        rule="an answer counts only for the question that the task asked",
        who="no user; the finding stays in the ledger",
        next_step="have an auditor find out in the audit log who changed it, then trigger the release again",
    )


def is_witnessed(answer: GivenAnswer, at: datetime | None, entries: Iterable[Entry], *, digest: Sha256) -> bool:
    """Tell whether exactly this answer came in at the API, at about this time, and after its subject was frozen.

    :param at: when it was given, by Airflow's record.
    :param entries: the release's chain, in order; of the answers, those that the witness signed.
    :param digest: of what it is about; a plan that was frozen after an answer was not what was answered to.
    """
    found = False
    for entry in entries:
        if entry.kind in (ROLLOUT_FROZEN, MANIFEST_FROZEN) and entry.payload.get("digest") == digest:
            found = False
        elif entry.kind == ANSWER_GIVEN and entry.actor == answer.user:
            same = told(entry.payload) == answer.model_dump(mode="json")
            found = found or (same and at is not None and abs(entry.at - at) <= MAX_CLOCK_SKEW)
    return found
