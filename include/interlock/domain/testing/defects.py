"""Defects: what a test case found, kept in a chain of its service until a later release proves that it is fixed.

A defect is opened when a case fails, once for as long as it is open, whichever release fails it again. It is closed
when a release is deployed in which the case passed in the same environment. People whom the policy lets waive the
failure accept it as known, until the waiver ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Sha256
from interlock.domain.catalogue.cases_file import SEVERITIES, Severity
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import DEFECT_ACCEPTED, DEFECT_CLOSED, DEFECT_OPENED
from interlock.domain.records import DefectLine, FailedExpectation, Record

from .results import CaseResult


class Defect(Record):
    """A defect that a test case found."""

    id: str = Field(description="The case, and a number; it never changes")
    service: str
    case: str
    title: str
    environment: str
    severity: Severity
    owner: str = Field(description="The team that is responsible for the service")
    version: str = Field(description="The version in which it was found")
    release: str = Field(description="The chain of the release that found it")
    artifact: Sha256
    found_by: str
    at: AwareDatetime
    comment: str = ""
    evidence: str = ""


class ClosedDefect(Record):
    """A defect that a deployed release proved to be fixed."""

    id: str
    version: str = Field(description="The version that fixes it")
    release: str = Field(description="The chain of the release whose results prove it")
    artifact: Sha256


class AcceptedDefect(Record):
    """A defect that a person accepted as known, until a date."""

    id: str
    by: str
    reason: str
    until: AwareDatetime
    release: str = Field(description="The chain of the release whose failure was waived")


@dataclass(frozen=True, slots=True)
class OpenDefect:
    """A defect that is open.

    :param accepted: until when it is accepted as known; none: it is not.
    """

    defect: Defect
    accepted: datetime | None = None


def chain_of_defects(service: str) -> str:
    """Return the name of the chain with the defects of a service."""
    return f"defects/{service}"


def open_defects(entries: Iterable[Entry]) -> tuple[OpenDefect, ...]:
    """Return the defects of a service that are open, the oldest first.

    :param entries: of the chain of its defects.
    """
    found: dict[str, OpenDefect] = {}
    for entry in entries:
        if entry.kind == DEFECT_OPENED:
            defect = Defect.model_validate(entry.payload, extra="ignore")
            found[defect.id] = OpenDefect(defect)
        elif entry.kind == DEFECT_CLOSED:
            found.pop(str(entry.payload["id"]), None)
        elif entry.kind == DEFECT_ACCEPTED and (known := found.get(str(entry.payload["id"]))):
            accepted = AcceptedDefect.model_validate(entry.payload, extra="ignore")
            found[known.defect.id] = OpenDefect(known.defect, accepted.until)
    return tuple(found.values())


def by_case(defects: Iterable[OpenDefect], environment: str) -> dict[str, list[str]]:
    """Return the open defects of each case in an environment: a release must run these cases."""
    found: dict[str, list[str]] = {}
    for one in defects:
        if one.defect.environment == environment:
            found.setdefault(one.defect.case, []).append(one.defect.id)
    return found


def new_defects(
    entries: Sequence[Entry],
    results: Iterable[CaseResult],
    *,
    service: str,
    owner: str,
    version: str,
    release: str,
) -> tuple[Defect, ...]:
    """Return a defect for each case that failed and has no open defect in its environment.

    :param entries: of the chain of the service's defects; what a try of the task before has opened is not new.
    :param release: the chain of the release.
    """
    opened = [entry.payload for entry in entries if entry.kind == DEFECT_OPENED]
    known = {(one.defect.case, one.defect.environment) for one in open_defects(entries)}
    return tuple(
        Defect(
            id=f"{result.case}-{1 + sum(one.get('case') == result.case for one in opened)}",
            service=service,
            case=result.case,
            title=result.title,
            environment=result.environment,
            severity=result.severity,
            owner=owner,
            version=version,
            release=release,
            artifact=result.artifact,
            found_by=result.by,
            at=result.at,
            comment=result.comment,
            evidence=result.evidence,
        )
        for result in results
        if result.result == "failed" and (result.case, result.environment) not in known
    )


def lines_of(
    defects: Iterable[OpenDefect],
    passed: frozenset[tuple[str, str]],
    *,
    release: str,
    target: str,
    stopped_by: Mapping[str, Severity],
    now: datetime,
) -> tuple[DefectLine, ...]:
    """Return what a release fixes, what it brings along, and what is open from before.

    :param passed: case and environment: the cases that passed in this release.
    :param release: the chain of the release.
    :param target: the environment to which the release goes.
    :param stopped_by: environment: the severity from which on open defects stop a release to it.
    """
    limit = stopped_by.get(target)
    return tuple(_line(one, passed, release, target, limit, now) for one in defects)


def _line(
    one: OpenDefect,
    passed: frozenset[tuple[str, str]],
    release: str,
    target: str,
    limit: Severity | None,
    now: datetime,
) -> DefectLine:
    defect = one.defect
    accepted = one.accepted if one.accepted and now < one.accepted else None
    about = {
        "id": defect.id,
        "title": defect.title,
        "severity": defect.severity,
        "environment": defect.environment,
        "version": defect.version,
    }
    if (defect.case, defect.environment) in passed:
        return DefectLine(**about, state="fixed")
    if defect.release == release:
        return DefectLine(**about, state="new")
    stops = limit is not None and SEVERITIES.index(defect.severity) >= SEVERITIES.index(limit)
    why = f"the policy stops releases to {target} by open defects from {limit} on" if stops else ""
    if accepted:
        return DefectLine(**about, state="accepted", until=accepted, stops=why)
    return DefectLine(**about, state="open", stops=why)


def accepted_with(failure: FailedExpectation, lines: Iterable[DefectLine]) -> tuple[str, ...]:
    """Return the defects that people accept when they waive a failure: those that made the expectation fail."""
    if failure.suite == "defects":
        return tuple(line.id for line in lines if line.stops and line.state == "open")
    if failure.suite == "cases" and "failed" in failure.expected:
        return tuple(line.id for line in lines if line.state in ("new", "open"))
    return ()
