"""A tester's open test cases in a release: which they are, and who is at one.

A tester takes a case, so that the others see that somebody is at it, and since when. It stops nobody: whoever may give
the result of the case gives it, and the first result stands. Only these people take the case, give it back, or take it
over from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, status
from pydantic import Field

from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.signing.witness import as_witnessed, witness_signer
from interlock.adapters.testing.matrices import asked_cases, plans_of
from interlock.console.control.break_glass import OpenLedger
from interlock.console.control.lookups import OpenQuestion, open_questions
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.questions import ask_testers
from interlock.domain.board.voting import listed
from interlock.domain.canonical import Model, Sha256
from interlock.domain.catalogue import UserName
from interlock.domain.errors import RequestRefused
from interlock.domain.ledger.chain import Book, Entry, instant, release_chain
from interlock.domain.ledger.kinds import CASE_GIVEN_BACK, CASE_TAKEN
from interlock.domain.paths import question_page
from interlock.domain.testing.attachments import MAX_BYTES, Attachment, attachments_in
from interlock.domain.testing.planning import PlannedCase, TestPlan
from interlock.domain.testing.takers import Taker, Taking, takers_in

from .questions import is_for

Place = tuple[str, str, str, int]
"""Of a question: Dag, run, task and map index."""
T = TypeVar("T")


class OwnCase(Model):
    """A test case that waits for the reader's result."""

    case: str = Field(description="The id of the case")
    title: str
    environment: str
    task_id: str
    map_index: int
    path: str = Field(description="The page of its question, below Airflow's address")
    files: tuple[Attachment, ...] = Field(description="What the reader has attached to it")
    taker: Taker | None = Field(None, description="Who is at it; null: nobody says so")


class CaseCollection(Model):
    """The test cases of a release that wait for the reader's result, in the order of their questions."""

    cases: tuple[OwnCase, ...]
    total_entries: int
    most_bytes: int = Field(MAX_BYTES, description="Of a file")
    user: str = Field(description="The user name of the reader")


class Takeover(Model):
    """From whom a tester takes a case over."""

    instead_of: UserName | None = Field(
        None, description="Who is at it, as the tester has seen it; null: nobody. If it is another by now: 409"
    )


class CaseTaker(Model):
    """Who is at a test case."""

    taker: Taker | None = Field(description="null: nobody says so")


@dataclass(frozen=True, slots=True)
class AskedCase:
    """An open question, and the case and plan that it is about."""

    question: OpenQuestion
    plan: TestPlan
    planned: PlannedCase

    @property
    def binds(self) -> Sha256:
        """What the result will be bound to: the case and the bundle."""
        return self.planned.digest(self.plan.artifact)


def own_cases(
    request: Request,
    user: GetUserDep,
    dag_id: str,
    dag_run_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> CaseCollection:
    """Return the test cases of a release that wait for the reader's result, with the files that the reader attached."""
    entries = entries_of(request, dag_id, dag_run_id)
    attached, takers, by = attachments_in(entries), takers_in(entries), str(user.get_name())
    found = _open_cases(dag_id, dag_run_id, entries, request, user)
    return CaseCollection(
        cases=tuple(
            OwnCase(
                case=one.planned.case.id,
                title=one.planned.case.title,
                environment=one.plan.environment,
                task_id=one.question.task_id,
                map_index=one.question.map_index,
                path=question_page(dag_id, dag_run_id, one.question.task_id, one.question.map_index),
                files=tuple(file for file in attached if file.by == by and file.binds == one.binds),
                taker=takers.get(one.binds),
            )
            for one in found[offset : offset + limit]
        ),
        total_entries=len(found),
        user=by,
    )


def take(
    request: Request, user: GetUserDep, dag_id: str, dag_run_id: str, task_id: str, map_index: int, asked: Takeover
) -> CaseTaker:
    """Note that the user is at a test case that waits for their result; again: the same note.

    It is a note for the other testers: it gives no result, and it keeps nobody from giving one.
    """
    by = str(user.get_name())
    with _at_the_case(request, user, (dag_id, dag_run_id, task_id, map_index), "The case was not taken") as case:
        if case.taker and case.taker.user == by:
            return CaseTaker(taker=case.taker)
        case.refuse_unless(asked.instead_of, "The case was not taken")
        return CaseTaker(taker=case.note(CASE_TAKEN, by, asked.instead_of or ""))


def give_back(
    request: Request, user: GetUserDep, dag_id: str, dag_run_id: str, task_id: str, map_index: int
) -> CaseTaker:
    """Note that the user is not at a test case any more; again: the same answer."""
    by = str(user.get_name())
    with _at_the_case(request, user, (dag_id, dag_run_id, task_id, map_index), "The case was not given back") as case:
        if case.taker is None:
            return CaseTaker(taker=None)
        case.refuse_unless(by, "The case was not given back")
        return CaseTaker(taker=case.note(CASE_GIVEN_BACK, by))


@dataclass(frozen=True, slots=True)
class _HeldCase:
    """An open test case while no other tester takes it or gives it back."""

    ledger: Book
    chain: str
    asked: AskedCase
    entries: Sequence[Entry]

    @property
    def taker(self) -> Taker | None:
        """Who is at it."""
        return takers_in(self.entries).get(self.asked.binds)

    def refuse_unless(self, expected: str | None, what: str) -> None:
        """Raise 409 if somebody else is at the case than the tester knows of."""
        found = self.taker
        if (found.user if found else None) != expected:
            who = f"{found.user} is at it since {instant(found.since)}" if found else "nobody is at it"
            raise HTTPException(status.HTTP_409_CONFLICT, f"{what}: {who}. Next: look at the case again.")

    def note(self, kind: str, by: str, instead_of: str = "") -> Taker | None:
        """Record what a tester does; return who is at the case then."""
        made = Taking(
            environment=self.asked.plan.environment,
            case=self.asked.planned.case.id,
            by=by,
            instead_of=instead_of,
            binds=self.asked.binds,
        )
        before = sum(one.kind in (CASE_TAKEN, CASE_GIVEN_BACK) for one in self.entries)
        payload = as_witnessed(kind, self.chain, made, datetime.now(UTC), witness_signer())
        key = f"{CASE_TAKEN}/{self.asked.binds}/{before + 1}"
        entry = self.ledger.append_once(self.chain, kind, payload, actor=by, key=key)
        return takers_in([*self.entries, entry]).get(self.asked.binds)


@contextmanager
def _at_the_case(request: Request, user: Any, place: Place, refused: str) -> Iterator[_HeldCase]:
    """Hold a test case for as long as it is decided who is at it, on all API servers."""
    chain = release_chain(*place[:2])
    with ledger_of(request)() as ledger, ledger.turn(f"{CASE_TAKEN}/{chain}"):
        entries, asked = asked_of(request, user, place, refused)
        yield _HeldCase(ledger, chain, asked, entries)


def asked_of(request: Request, user: Any, place: Place, refused: str) -> tuple[Sequence[Entry], AskedCase]:
    """Return the chain of a release, and the open test case that a request is about.

    :param refused: what was not done, in words.
    :raises HTTPException: 404: there is no such test case; 409: it has a result; 403: it is for other testers.
    """
    dag_id, run_id, task_id, map_index = place
    entries = entries_of(request, dag_id, run_id)
    if task_id not in map(ask_testers, plans_of(entries)):
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, f"{dag_id}, run {run_id}, asks nobody for test cases in {task_id}."
        )
    questions = [one for one in open_questions(dag_id, run_id) if (one.task_id, one.map_index) == place[2:]]
    if not questions:
        raise HTTPException(
            status.HTTP_409_CONFLICT,
            f"{refused}: the test case {map_index} of {task_id} does not wait for a result. Rule: the result stands "
            "as it was given.",
        )
    mine = _open_cases(dag_id, run_id, entries, request, user, questions)
    if not mine:
        people = listed([name for account, name in questions[0].assigned.items() if account != CLERK], "or")
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            f"{refused}: this test case is for {people}. Rule: only those who may give the result of a test case work "
            "on it.",
        )
    return entries, mine[0]


def _open_cases(
    dag_id: str,
    run_id: str,
    entries: Sequence[Entry],
    request: Request,
    user: Any,
    questions: Sequence[OpenQuestion] | None = None,
) -> list[AskedCase]:
    """Return the test cases of a release that wait for the result of a user.

    :param questions: the open ones to look at; none: all of the run.
    """
    plans = {ask_testers(plan.environment): plan for plan in plans_of(entries).values()}
    if not plans:
        return []
    opened = open_questions(dag_id, run_id) if questions is None else questions
    own = [one for one in opened if one.task_id in plans and is_for(user, one.assigned)]
    store = store_of(request)
    cases = {task: asked_cases(plans[task], store) for task in {one.task_id for one in own}}
    found = [
        AskedCase(one, plans[one.task_id], cases[one.task_id][one.map_index])
        for one in own
        if 0 <= one.map_index < len(cases[one.task_id])
    ]
    return [one for one in found if user.get_name() in one.planned.testers]  # whose result would count


def entries_of(request: Request, dag_id: str, run_id: str) -> Sequence[Entry]:
    """Return the chain of a release."""
    with ledger_of(request)() as ledger:
        found: Sequence[Entry] = ledger.entries(release_chain(dag_id, run_id))
    return found


def ledger_of(request: Request) -> OpenLedger:
    """Return what opens the ledger."""
    opener: OpenLedger = request.app.state.open_ledger
    return opener


def store_of(request: Request) -> ArtifactStore:
    """Return the artifact store."""
    store: ArtifactStore = request.app.state.open_artifacts()
    return store


def or_422(check: Callable[[], T]) -> T:
    """Answer with 422 and the reason if a check refuses what was sent."""
    try:
        return check()
    except RequestRefused as error:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, str(error)) from error
