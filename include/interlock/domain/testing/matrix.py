"""The test matrix: each ticket of a release, the test cases that prove it, and their results in each environment.

A ticket that no case proves has a row, too, and so has a case that nobody ran: the matrix shows what was not tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from interlock.domain.canonical import Model

from .attachments import Attachment
from .planning import PlannedCase
from .results import CaseResult, Verdict
from .takers import Taker

State = Verdict | Literal["not_run", "not_demanded", "no_case"]
"""The result of a case; or that nobody ran it, that it did not have to be run, or that there is no case."""


_WORST: tuple[State, ...] = ("no_case", "not_run", "failed", "blocked")


class MatrixRow(Model):
    """A ticket, a test case that proves it, and its result in an environment."""

    ticket: str = Field(description="A ticket of the release; empty: the case proves none of them")
    case: str = Field("", description="Empty: no case proves the ticket")
    title: str = ""
    proves: tuple[str, ...] = ()
    environment: str = ""
    state: State
    because: tuple[str, ...] = Field((), description="Why it had to be run")
    testers: tuple[str, ...] = Field((), description="User names of those who may run it")
    taker: Taker | None = Field(None, description="Who is at it, until there is a result; null: nobody says so")
    by: str = ""
    at: datetime | None = None
    comment: str = ""
    evidence: str = ""
    files: tuple[Attachment, ...] = Field((), description="What the tester attached")
    step: str = Field("", description="If it failed: the text of the step")
    defect: str = Field("", description="If it failed: the open defect that the tester saw again")
    artifact: str = Field("", description="SHA-256 of the bundle on which it was run")


def matrix(
    tickets: Iterable[str],
    planned: Mapping[str, Sequence[PlannedCase]],
    results: Iterable[CaseResult],
    takers: Mapping[tuple[str, str], Taker] | None = None,
) -> tuple[MatrixRow, ...]:
    """Return the matrix of a release: the rows of its tickets, then the cases that prove none of them.

    :param planned: environment: its cases.
    :param results: of all environments; of several of one case in an environment, the last one.
    :param takers: environment and case: who is at it.
    """
    at = takers or {}
    found = {(result.environment, result.case): result for result in results}
    every = [(environment, one) for environment, cases in planned.items() for one in cases]
    rows: list[MatrixRow] = []
    named = tuple(dict.fromkeys(tickets))
    for ticket in named:
        own = [_row(ticket, environment, one, found, at) for environment, one in every if _proves(one, ticket)]
        rows += own or [MatrixRow(ticket=ticket, state="no_case")]
    others = [(environment, one) for environment, one in every if not any(_proves(one, ticket) for ticket in named)]
    rows += [_row("", environment, one, found, at) for environment, one in others]
    return tuple(rows)


def worst_first(rows: Iterable[MatrixRow]) -> list[MatrixRow]:
    """Return the rows for those who decide: what was not tested, then what failed or was blocked, then the rest."""
    return sorted(rows, key=lambda row: _WORST.index(row.state) if row.state in _WORST else len(_WORST))


def untested(rows: Iterable[MatrixRow]) -> Iterator[str]:
    """Yield what nobody tested, in words: tickets without a result, and cases that had to be run."""
    by_ticket: dict[str, list[MatrixRow]] = {}
    for row in rows:
        if row.ticket:
            by_ticket.setdefault(row.ticket, []).append(row)
        if row.state == "not_run" and not row.ticket:
            yield f"{row.case} in {row.environment}: {row.title}"
    for ticket, own in by_ticket.items():
        if all(row.state == "no_case" for row in own):
            yield f"{ticket}: no test case proves it"
        else:
            yield from (f"{ticket}: {row.case} in {row.environment} was not run" for row in own if _is_open(row))


def _is_open(row: MatrixRow) -> bool:
    return row.state in ("not_run", "not_demanded")


def _proves(planned: PlannedCase, ticket: str) -> bool:
    return ticket.casefold() in {one.casefold() for one in planned.case.proves}


def _row(
    ticket: str,
    environment: str,
    planned: PlannedCase,
    found: Mapping[tuple[str, str], CaseResult],
    takers: Mapping[tuple[str, str], Taker],
) -> MatrixRow:
    case, result = planned.case, found.get((environment, planned.case.id))
    about = {
        "ticket": ticket,
        "case": case.id,
        "title": case.title,
        "proves": case.proves,
        "environment": environment,
        "because": planned.because,
        "testers": planned.testers,
    }
    if result is None:
        taker = takers.get((environment, case.id))
        return MatrixRow(**about, state="not_run" if planned.demanded else "not_demanded", taker=taker)
    return MatrixRow(
        **about,
        state=result.result,
        by=result.by,
        at=result.at,
        comment=result.comment,
        evidence=result.evidence,
        files=result.files,
        step=result.step,
        defect=result.defect,
        artifact=result.artifact,
    )
