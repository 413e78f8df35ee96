"""Defects: what a test case found, kept in a chain of its service until a later release proves that it is fixed.

A defect is opened when a case fails, once for as long as it is open, whichever release shows it again. It is closed
when a release is deployed in which the case passed in the same environment. People whom the policy lets waive the
failure accept it as known, until the waiver ends.

A failure is that of an open defect if the tester says so and the same step failed. Any other one is another defect: the
acceptance of the first one does not cover it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import not_

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Sha256
from interlock.domain.catalogue.cases_file import SEVERITIES, Severity
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import DEFECT_ACCEPTED, DEFECT_CLOSED, DEFECT_OPENED
from interlock.domain.records import DefectLine, FailedExpectation, Record

from .attachments import Attachment
from .results import CaseResult, CaseRow


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
    step: str = Field("", exclude_if=not_, description="The text of the step that failed; empty: not said")
    files: tuple[Attachment, ...] = Field(
        (), exclude_if=not_, description="What the tester attached to the case before the result"
    )


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
    release: str = Field(
        "", description="The chain of the release whose failure was waived; empty: it was not asked for"
    )


@dataclass(frozen=True, slots=True)
class OpenDefect:
    """A defect that is open.

    :param accepted: until when it is accepted as known; none: it is not.
    """

    defect: Defect
    accepted: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """The severity from which on open defects stop a release to an environment."""

    severity: Severity
    environment: str

    @property
    def reason(self) -> str:
        """Why such a defect stops the release."""
        return f"the policy stops releases to {self.environment} by open defects from {self.severity} on"


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
    """Return a defect for each case that failed in another way than an open defect of its environment.

    :param entries: of the chain of the service's defects; what a try of the task before has opened is not new.
    :param release: the chain of the release.
    """
    opened = [entry.payload for entry in entries if entry.kind == DEFECT_OPENED]
    known = [one.defect for one in open_defects(entries)]
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
            step=result.step,
            files=result.files,
        )
        for result in results
        if result.result == "failed"
        and not any(_caused(one, result, result.environment, release=release) for one in known)
    )


def is_same(defect: Defect, failure: CaseResult | CaseRow, environment: str) -> bool:
    """Tell whether a failure is that of a defect: the tester recognised it, and the same step failed.

    :param environment: in which the case failed.
    """
    return (
        (defect.id, defect.case, defect.environment) == (failure.defect, failure.case, environment)
        and bool(defect.step)
        and defect.step == failure.step
    )


def other_than_accepted(defects: Iterable[OpenDefect], failure: CaseRow, environment: str, now: datetime) -> str | None:
    """Say why a failure is not that of the accepted defects of its case.

    :return: empty: there is none; none: it is that of one of them.
    """
    own = (one for one in defects if (one.defect.case, one.defect.environment) == (failure.case, environment))
    accepted = [one.defect for one in own if is_known(one, now)]
    if any(is_same(defect, failure, environment) for defect in accepted):
        return None
    return "; ".join(_other(defect, failure) for defect in accepted)


def _other(defect: Defect, failure: CaseRow) -> str:
    known = f"{defect.id} is accepted as known"
    if failure.defect != defect.id:
        return f"{known}, but the tester did not see it again"
    if not defect.step:
        return f"{known}, but at which step it fails is not on record"
    at = f"at the step “{failure.step}”" if failure.step else "at a step that the tester did not name"
    return f"{known} at the step “{defect.step}”, but this failed {at}"


def _caused(defect: Defect, failure: CaseResult | CaseRow, environment: str, *, release: str) -> bool:
    """Tell whether a failure is that of a defect, or the one by which this release opened it."""
    if (defect.case, defect.environment, defect.release) == (failure.case, environment, release):
        return True
    return is_same(defect, failure, environment)


def lines_of(
    defects: Iterable[OpenDefect],
    results: Mapping[tuple[str, str], CaseRow],
    *,
    release: str,
    limit: Limit | None,
    now: datetime,
) -> tuple[DefectLine, ...]:
    """Return what a release fixes, what it brings along, and what is open from before.

    :param results: case and environment: what came of the case in this release.
    :param release: the chain of the release.
    :param limit: from which severity on open defects stop the release; none: they do not.
    """
    return tuple(_line(one, results, release, limit, now) for one in defects)


def is_known(one: OpenDefect, now: datetime) -> bool:
    """Tell whether a defect is accepted as known now."""
    return one.accepted is not None and now < one.accepted


def judged_in(environment: str, goes: Collection[str], defects: Iterable[OpenDefect]) -> tuple[OpenDefect, ...]:
    """Return the open defects that a release is judged by in an environment, so that each counts once.

    A defect is fixed only where it was found. So it counts there; and on test, if the release does not go there.

    :param goes: the environments before production that the release goes through, test included.
    """
    return tuple(
        one for one in defects if (one.defect.environment if one.defect.environment in goes else FIRST) == environment
    )


def limit_of(stopped_by: Mapping[str, Severity], environments: Iterable[str]) -> Limit | None:
    """Return the lowest severity from which on open defects stop a release to any of some environments."""
    named = [Limit(severity=stopped_by[one], environment=one) for one in environments if one in stopped_by]
    return min(named, key=lambda one: SEVERITIES.index(one.severity), default=None)


def _line(
    one: OpenDefect, results: Mapping[tuple[str, str], CaseRow], release: str, limit: Limit | None, now: datetime
) -> DefectLine:
    defect = one.defect
    row = results.get((defect.case, defect.environment))
    result = row.result if row else ""
    failed = row is not None and result == "failed" and _caused(defect, row, defect.environment, release=release)
    about = {
        "id": defect.id,
        "title": defect.title,
        "severity": defect.severity,
        "environment": defect.environment,
        "version": defect.version,
        "failed": failed,
    }
    if result == "passed":
        return DefectLine(**about, state="fixed")
    if defect.release == release:
        return DefectLine(**about, state="new")
    why = limit.reason if limit and SEVERITIES.index(defect.severity) >= SEVERITIES.index(limit.severity) else ""
    if is_known(one, now):
        again = "its test case failed again" if failed else ""
        return DefectLine(**about, state="accepted", until=one.accepted, stops=why or again)
    return DefectLine(**about, state="open", stops=why)


def accepted_with(failure: FailedExpectation, lines: Iterable[DefectLine]) -> tuple[str, ...]:
    """Return the defects that people accept when they waive a failure: those that made the expectation fail.

    Who waives failed cases has seen these failures. An open defect whose case was not run, or passed, is not accepted
    with them.
    """
    if failure.suite == "defects":
        return tuple(line.id for line in lines if line.stops and line.state == "open")
    if failure.suite == "cases" and "failed" in failure.expected:
        return tuple(line.id for line in lines if line.failed and line.state in ("new", "open"))
    return ()
