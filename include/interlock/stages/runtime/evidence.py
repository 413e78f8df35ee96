"""What tasks record in the chain of their release in the ledger.

A task that runs again with the same result does not record it twice. A different result is recorded too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from airflow.sdk import get_current_context

from interlock.adapters.permits.issuer import Admission
from interlock.adapters.signing.witness import as_worded, only_worded
from interlock.domain.canonical import Sha256, sha256_of
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry, release_chain
from interlock.domain.ledger.kinds import FINDING, QUESTION_WORDED, SEVERAL, held_by
from interlock.domain.ledger.witness import question_digest, refuse_unworded, worded
from interlock.domain.permits.ended_releases import refuse_ended
from interlock.domain.permits.withdrawal import refuse_called_off
from interlock.domain.records import Record, RolloutPlan
from interlock.domain.trains.manifest import Manifest

from . import resources

AfterEnd = Literal["refuse", "way_back", "go_on"]
"""After the release has ended, a task refuses to run, runs only to restore a failed release, or runs as before."""


def this_chain() -> str:
    """Return the name of the running release's chain."""
    dag_run: Any = get_current_context()["dag_run"]
    return release_chain(dag_run.dag_id, dag_run.run_id)


def this_task() -> str:
    """Return the running task as the ledger names it: Dag, task, and map index."""
    ti: Any = get_current_context()["ti"]
    mapped = f"[{ti.map_index}]" if (ti.map_index or 0) > 0 else ""
    return f"{ti.dag_id}/{ti.task_id}{mapped}"


def this_try() -> int:
    """Return the number of the current try of the running task."""
    ti: Any = get_current_context()["ti"]
    return int(ti.try_number)


def record(kind: str, what: Record | Mapping[str, Any], *, actor: str = "", seal: bool = False) -> Entry:
    """Record an entry in the release's chain.

    :param kind: such as ``board.decided``.
    :param actor: the person who did it; default: the running task.
    :param seal: sign the head of the chain afterwards.
    """
    payload = what.to_xcom() if isinstance(what, Record) else dict(what)
    if isinstance(what, RolloutPlan | Manifest):
        payload["digest"] = what.digest
    task = this_task()
    with resources.ledger() as ledger:
        entry = ledger.append(
            this_chain(), kind, payload, actor=actor or task, key=f"{kind}/{task}/{sha256_of(payload)[:32]}"
        )
        if seal:
            ledger.sign_head(this_chain(), resources.signer(), seals=entry)
    return entry


def under(admission: Admission) -> dict[str, Any]:
    """Return the fields that a record of a change has: the place that its task had entered, and the token."""
    entered = admission.entered
    return {"entered": entered.model_dump(mode="json")} if entered else {}


def record_worded(asks: str, questions: Sequence[Mapping[str, Any]]) -> None:
    """Record the signed digests of the questions that a task will ask: no other question is asked or counted.

    :param asks: the task that asks.
    :param questions: as :func:`people.question` makes them.
    """
    digests = [_digest_of(one["subject"], one["body"], one["assigned_users"]) for one in questions]
    if digests:
        payload = as_worded(this_chain(), asks, digests, resources.signer())
        task, said = this_task(), sha256_of({"questions": digests})[:32]
        with resources.ledger() as ledger:
            if ledger.find(this_chain(), key := f"{QUESTION_WORDED}/{task}/{asks}/{said}") is None:
                ledger.append(this_chain(), QUESTION_WORDED, payload, actor=task, key=key)


def refuse_other_words(task_id: str, asked: Sequence[tuple[str, str, Sequence[str]]], entries: Sequence[Entry]) -> None:
    """Refuse questions that differ from the recorded ones, and record a finding.

    With another signing key than the installation's, this task can prove nothing about a release, so it accuses nobody.

    :param asked: subject, body, and the user names of the people who may answer.
    :param entries: the chain of the run that asks.
    :raises PolicyViolation: a text, or the people who may answer, changed after it was recorded.
    """
    known = only_worded(entries, resources.signer().public_key)
    for subject, body, assigned in asked:
        digest = question_digest(subject, body, assigned)
        try:
            refuse_unworded(task_id, digest, known, entries)
        except PolicyViolation as error:
            if known or digest not in worded(task_id, entries):
                record(FINDING, {"what": error.what}, seal=True)
            raise


def _digest_of(subject: str, body: str, assigned: Sequence[Mapping[str, str]]) -> Sha256:
    return question_digest(subject, body, [user["id"] for user in assigned])


def refuse_void(given: Iterable[Record], *, after_end: AfterEnd = "refuse") -> None:
    """Refuse to run with records that the ledger does not have, and after the release has ended or was called off.

    XComs can be edited, so a record has to be the last of its kind in the release's chain, or the last of its kind and
    environment; some kinds may have several. A task that runs again after the end would change a closed release and its
    evidence.

    :raises PolicyViolation: the ledger does not have a record, which is also a finding; or the release has ended or was
        withdrawn or overtaken.
    """
    entries = chain_entries()
    _refuse_unrecorded(given, entries)
    if after_end != "go_on":
        refuse_ended(this_task(), entries, way_back=after_end == "way_back")
    if after_end == "refuse":
        refuse_called_off(entries)


def _refuse_unrecorded(records: Iterable[Record], entries: Sequence[Entry]) -> None:
    known = [*{held_by(entry.kind, entry.payload): entry.payload for entry in entries}.values()]
    known += [entry.payload for entry in entries if entry.kind in SEVERAL]
    for one in records:
        plain = one.to_xcom()
        if not any(plain.items() <= payload.items() for payload in known):
            what = f"{this_task()} received a {type(one).__name__} that differs from the record in the ledger."
            record(FINDING, {"what": what, "given": sha256_of(plain)}, seal=True)
            raise PolicyViolation(
                what,
                rule="a task only accepts results that the ledger recorded; an edited XCom is void",
                who="this cannot be changed: the finding stays in the ledger",
                next_step="have an auditor find out in the audit log who edited it, then trigger the release again",
            )


def chain_entries() -> tuple[Entry, ...]:
    """Return the release's chain, verified."""
    with resources.ledger() as ledger:
        return ledger.entries(this_chain())
