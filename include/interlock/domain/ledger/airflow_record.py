"""What contradicts the ledger in Airflow's records, and in the chain of a release itself.

Each check compares what was found with what a release's chain says, and yields findings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model, sha256_of
from interlock.domain.dag_names import Home, Place, stranger
from interlock.domain.records import Decision, PolicyInForce, Vote

from .chain import INSTALLATION, Entry
from .findings import Finding
from .kinds import (
    DECISIONS,
    KINDS,
    MOVES,
    PERMIT_USED,
    POLICY_RESOLVED,
    RELEASE_CLOSED,
    STEP_ENDED,
    TRAFFIC_RESTORED,
    held_by,
    left_by,
)


class Task(Model):
    """A task instance as Airflow has it."""

    task_id: str
    map_index: int = -1
    state: str | None = None
    tries: tuple[str | None, ...] = ()

    @property
    def name(self) -> str:
        """Return the task's name with its map index, if it has one."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


class HandedOn(Model):
    """The result of a task as Airflow has it."""

    task_id: str
    map_index: int
    value: Any


class RunSeen(Model):
    """A release as Airflow has it; its rows were read before the ledger was."""

    dag_id: str
    run_id: str
    state: str | None = Field("running", description="None: Airflow has no such run")
    tasks: tuple[Task, ...] = ()
    answered: frozenset[tuple[str, int]] = Field(frozenset(), description="Questions with an answer: task, map index")
    votes: tuple[Vote, ...] = Field((), description="The answers")
    handed_on: tuple[HandedOn, ...] = ()
    bundles: tuple[str, ...] = Field((), description="From where Airflow had the Dag, each time that tasks of it ran")
    at: AwareDatetime


def check_run(seen: RunSeen, entries: Sequence[Entry], asking: Callable[[str], bool]) -> Iterator[Finding]:
    """Yield what contradicts the chain of a release in Airflow's record of its run.

    :param asking: tells whether a task asks people.
    """
    if seen.state is None:
        yield Finding(
            kind="run_gone",
            what=f"The run {seen.run_id} of {seen.dag_id} was deleted in Airflow.",
            evidence={"dag_id": seen.dag_id, "run_id": seen.run_id},
        )
        return
    yield from _find_unanswered(seen, asking)
    yield from _find_unrecorded(seen, entries)
    yield from _find_cleared_tasks(seen)
    yield from _find_edited_results(seen, entries)
    yield from _find_removed_answers(seen, entries)
    yield from _find_open_release(seen, entries)


def describe_failed_check(dag_id: str, run_id: str, error: Exception) -> Finding:
    """Return the finding that a release cannot be compared with Airflow's record of it."""
    return Finding(
        kind="not_looked_at",
        what=f"The run {run_id!r} of {dag_id} cannot be compared with the ledger: {str(error)[:500]}",
        evidence={"dag_id": dag_id, "run_id": run_id, "problem": type(error).__name__},
        chain=INSTALLATION,
    )


def check_replaced_dags(seen: Mapping[str, Place], home: Home, runs: Collection[tuple[str, str]]) -> Iterator[Finding]:
    """Yield the Dags with the name of an Interlock Dag that Interlock does not define.

    :param seen: Dag, and where Airflow has it from.
    :param home: where Interlock's are made.
    :param runs: Dag and run of the releases that are looked at: none of such a Dag gets a permit.
    """
    for dag_id, place in seen.items():
        if not (what := stranger(dag_id, place, home)):
            continue
        evidence = {"dag_id": dag_id, "bundle": place.bundle, "file": place.file}
        yield Finding(kind="dag_replaced", what=what, evidence=evidence, chain=INSTALLATION)
        for run in (run_id for one, run_id in runs if one == dag_id):
            yield Finding(kind="dag_replaced", what=what, evidence={**evidence, "run_id": run}, chain=INSTALLATION)


def check_bundles(seen: RunSeen, home: Home) -> Iterator[Finding]:
    """Yield the bundles of others from which tasks of a run were taken, also if Interlock's own is back by now."""
    for bundle in sorted(set(seen.bundles) - {home.bundle}):
        yield Finding(
            kind="dag_replaced",
            what=f"Tasks of the run {seen.run_id} of {seen.dag_id} came from a Dag of the bundle {bundle}, but "
            f"Interlock's Dags are in {home.bundle}: another Dag used its name.",
            evidence={"dag_id": seen.dag_id, "run_id": seen.run_id, "bundle": bundle},
        )


def _find_unanswered(seen: RunSeen, asking: Callable[[str], bool]) -> Iterator[Finding]:
    """Yield the questions whose task succeeded without an answer, although their time was not over."""
    for task in seen.tasks:
        if asking(task.task_id) and task.state == "success" and (task.task_id, task.map_index) not in seen.answered:
            yield Finding(
                kind="question_marked",
                what=f"{task.name} is marked as success, but Airflow has no answer to its question.",
                evidence={"task": task.name},
            )


def _find_unrecorded(seen: RunSeen, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield the tasks that are success and did not leave what they leave."""
    if not entries:
        if any(left_by(task.task_id) and task.state == "success" for task in seen.tasks):
            yield Finding(
                kind="chain_gone",
                what=f"Tasks of the run {seen.run_id} of {seen.dag_id} succeeded, but the run has no chain in the "
                "ledger.",
                evidence={"dag_id": seen.dag_id, "run_id": seen.run_id},
            )
        return
    for task in seen.tasks:
        if task.state == "success" and not _has_entry(task, entries):
            yield Finding(
                kind="task_marked",
                what=f"{task.name} succeeded in Airflow, but the ledger does not have its entry.",
                evidence={"task": task.name},
            )


def _has_entry(task: Task, entries: Sequence[Entry]) -> bool:
    if (left := left_by(task.task_id)) is None:
        return True
    kind, about = left
    return any(
        one.kind == kind
        and about.items() <= one.payload.items()
        and (kind not in DECISIONS or one.payload.get("approved") is True)
        and (kind != STEP_ENDED or _is_of(task.task_id, one))
        for one in entries
    )


def _is_of(task_id: str, ended: Entry) -> bool:
    """Tell whether the end of a step of the runbook is that of a task."""
    task = KINDS[STEP_ENDED].tasks[ended.payload.get("direction") == "back"]
    return task.format(number=ended.payload.get("number")) == task_id


def _find_cleared_tasks(seen: RunSeen) -> Iterator[Finding]:
    for task in seen.tasks:
        if "success" in task.tries[:-1]:
            yield Finding(
                kind="task_cleared",
                what=f"{task.name} ran again after it had succeeded: it was cleared.",
                evidence={"task": task.name, "tries": len(task.tries)},
            )


def _find_edited_results(seen: RunSeen, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield the results that no task left: what is in Airflow differs from what is in the ledger."""
    payloads = [entry.payload for entry in entries]
    for handed in seen.handed_on:
        leaves = left_by(handed.task_id)
        for value in handed.value if isinstance(handed.value, list) else [handed.value]:
            is_record = isinstance(value, dict) and "schema_version" in value
            known = isinstance(value, dict) and any(value.items() <= payload.items() for payload in payloads)
            if (is_record or (leaves and value is not None)) and not known:
                yield Finding(
                    kind="xcom_edited",
                    what=f"The result of {handed.task_id} in Airflow was edited: it differs from the ledger.",
                    evidence={"task": handed.task_id, "found": sha256_of({"value": handed.value})},
                )
                break


def _find_removed_answers(seen: RunSeen, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield the votes of a decision that Airflow no longer has, or that differ in Airflow."""
    given = set(map(_key_of_vote, seen.votes))
    for entry in entries:
        if entry.kind not in DECISIONS or entry.at >= seen.at or entry.payload.get("train"):
            continue  # what a train's board decided is held against the train's own run
        decision = Decision.model_validate(entry.payload, extra="ignore")
        for vote in (vote for vote in decision.votes if vote.user is not None and _key_of_vote(vote) not in given):
            yield Finding(
                kind="answer_gone",
                what=f"The answer {vote.choice} of {vote.user} ({decision.subject}) is in the ledger, but no longer in "
                "Airflow: it was cleared or edited.",
                evidence={"subject": decision.subject, "vote": vote.model_dump(mode="json")},
            )


def _find_open_release(seen: RunSeen, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield a run that was ended, by its time limit or by force, without a back-out of its changes."""
    kinds = [entry.kind for entry in entries]
    used = (entry.payload["permit"]["purpose"] for entry in entries if entry.kind == PERMIT_USED)
    if seen.state not in ("success", "failed") or RELEASE_CLOSED in kinds or not {*used} - {"inspect"}:
        return
    last = next((kind for kind in reversed(kinds) if kind in MOVES), TRAFFIC_RESTORED)
    moved = "" if last == TRAFFIC_RESTORED else " The load balancer still has the traffic shares of this release."
    yield Finding(
        kind="left_open",
        what=f"The run {seen.run_id} of {seen.dag_id} has ended, but its release was never closed: its changes were "
        f"neither completed nor backed out.{moved}",
        evidence={"dag_id": seen.dag_id, "run_id": seen.run_id, "traffic": last},
    )


def _key_of_vote(vote: Vote) -> tuple[str | None, str, datetime | None]:
    return vote.user, vote.choice, vote.at


def check_decisions(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield a decision that a chain contains several times with different results."""
    decided: dict[tuple[str, object], list[Entry]] = {}
    for entry in (entry for entry in entries if entry.kind in DECISIONS):
        decided.setdefault(held_by(entry.kind, entry.payload), []).append(entry)
    for (kind, _), made in sorted(decided.items(), key=lambda one: DECISIONS.index(one[0][0])):
        if len({(entry.payload.get("digest"), entry.payload.get("approved")) for entry in made}) > 1:
            yield Finding(
                kind="decided_again",
                what=f"{kind.partition('.')[0].capitalize()}: it was decided {len(made)} times with different results.",
                evidence={"kind": kind, "entries": [entry.sequence for entry in made]},
            )


def check_catalogue(entries: Sequence[Entry], changed: Callable[[PolicyInForce], Sequence[str]]) -> Iterator[Finding]:
    """Yield a finding if the rules of a release are no longer those with which it began.

    :param changed: says which rules have changed, in sentences.
    """
    began = next((entry.payload for entry in entries if entry.kind == POLICY_RESOLVED), None)
    if began is None or any(entry.kind == RELEASE_CLOSED for entry in entries):
        return
    if differences := changed(PolicyInForce.from_xcom(began)):
        yield Finding(
            kind="catalogue_changed",
            what=f"The rules of the release changed while it was in progress: {'; '.join(differences)}.",
            evidence={"began_with": began["digest"], "differences": list(differences)},
        )
