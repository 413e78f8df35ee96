"""Which test cases a release must run in an environment, and why.

The policy says how many are demanded: none, those that the release may affect, or all. A release may affect a case if
it changes a file of the case's component or has a ticket that the case proves; if the case names no component; or if a
defect of the case is open. If the changed files are not known, it may affect every case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import Field

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue import UserName
from interlock.domain.catalogue.cases_file import Case, CaseDemand
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import Blob, Record


class PlannedCase(Model):
    """A test case of an environment, and whether this release must run it."""

    case: Case
    file: str = Field(description="Where it is written")
    because: tuple[str, ...] = Field((), description="Why it must be run; empty: it need not")
    testers: tuple[UserName, ...] = Field((), description="Who may run it, if it must be run")

    @property
    def demanded(self) -> bool:
        """Whether this release must run it."""
        return bool(self.because)

    def digest(self, artifact: Sha256) -> Sha256:
        """Return the digest that a result is bound to: this case, as it is written, on these bytes."""
        return sha256_of({"artifact": artifact, "case": self.case.model_dump(mode="json")})


class TestPlan(Record):
    """The test cases of a release in one environment."""

    __test__ = False  # pytest is not to take it for tests

    environment: str
    version: str
    artifact: Sha256 = Field(description="SHA-256 of the bundle on which the cases are run")
    cases: Blob = Field(description="All cases of the environment, as rows of domain/testing/planning.py")
    files: dict[str, Sha256] = Field(description="File of test cases: its SHA-256")
    demanded: int = Field(ge=0, description="Number of cases that must be run")
    left_out: int = Field(ge=0, description="Number of cases that need not be run")
    unproven: tuple[str, ...] = Field(description="Tickets of the release that no case proves that must be run")


@dataclass(frozen=True, slots=True)
class Change:
    """What a release changes, as far as test cases are concerned.

    :param files: the changed files; none: they are not known.
    :param tickets: of the release.
    :param defects: case: the open defects of it.
    """

    files: frozenset[str] | None
    tickets: tuple[str, ...] = ()
    defects: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Testers:
    """Who runs test cases.

    :param roles: role: the people of this role.
    :param barred: people who do not run cases of this release, each with the reason.
    :param place: the file that names them.
    """

    __test__ = False

    roles: Mapping[str, Sequence[UserName]]
    barred: Mapping[UserName, str]
    place: str

    def of(self, case: Case) -> tuple[UserName, ...]:
        """Return who may run a case; PolicyViolation if nobody may."""
        named = self.roles.get(case.role, ())
        free = tuple(user for user in named if user not in self.barred)
        if free:
            return free
        why = "; ".join(f"{user}: {self.barred[user]}" for user in named) or "the role has no people"
        raise PolicyViolation(
            f"Nobody may run the test case {case.id}, which is for the role {case.role} ({why}).",
            rule="a test case is run by a tester of its role who neither requested nor, by policy, wrote the change "
            f"(cases.testers in {self.place})",
            who=f"the owner of {self.place}",
            next_step=f"add a person to the role {case.role}, or let another person request the release",
        )


def select(
    cases: Iterable[tuple[str, Case]],
    environment: str,
    demand: CaseDemand,
    change: Change,
    components: Mapping[str, Sequence[str]],
    testers: Testers,
) -> tuple[PlannedCase, ...]:
    """Return the cases of an environment, in the order of their files, each with why it must be run.

    :param cases: each with the file in which it is written.
    :raises PolicyViolation: nobody may run a case that must be run.
    """
    changed = _changed(change.files, components)
    own = [(file, case) for file, case in cases if case.environment == environment]
    reasons = [(file, case, tuple(_reasons(case, demand, change, changed))) for file, case in own]
    return tuple(
        PlannedCase(case=case, file=file, because=because, testers=testers.of(case) if because else ())
        for file, case, because in reasons
    )


def unproven(planned: Iterable[PlannedCase], tickets: Iterable[str]) -> tuple[str, ...]:
    """Return the tickets of a release that no case proves that must be run."""
    proven = {ticket.casefold() for one in planned if one.demanded for ticket in one.case.proves}
    return tuple(ticket for ticket in tickets if ticket.casefold() not in proven)


def _changed(files: Collection[str] | None, components: Mapping[str, Sequence[str]]) -> frozenset[str] | None:
    if files is None:
        return None
    return frozenset(
        name for name, globs in components.items() if any(fnmatchcase(file, glob) for file in files for glob in globs)
    )


def _reasons(case: Case, demand: CaseDemand, change: Change, changed: frozenset[str] | None) -> Iterator[str]:
    if demand == "none":
        return
    for defect in change.defects.get(case.id, ()):
        yield f"the defect {defect} is open"
    asked = {ticket.casefold() for ticket in change.tickets}
    for ticket in case.proves:
        if ticket.casefold() in asked:
            yield f"it proves {ticket}"
    if case.component is None:
        yield "it concerns every release"
    elif changed is None:
        yield "what the release changes is not known"
    elif case.component in changed:
        yield f"the release changes {case.component}"
    elif demand == "all":
        yield "the policy demands all cases"
