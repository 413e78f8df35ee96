"""Test cases that people run: the files that hold them, and what a service says about them.

A file of cases lies in the service's repository, or in ``cases/`` of the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from interlock.domain.canonical import Model

from .problem import Problem
from .values import Duration, Email, Identifier, Line, People, RelativePath, each_once, named_twice

Severity = Literal["minor", "major", "critical", "blocker"]
"""How much it matters if a case fails, the least first."""
SEVERITIES: tuple[Severity, ...] = ("minor", "major", "critical", "blocker")
CaseDemand = Literal["none", "affected", "all"]
"""Which cases a release must run, the fewest first: none, those that it may affect, or all."""
CASE_DEMANDS: tuple[CaseDemand, ...] = ("none", "affected", "all")
MAX_CASES = 1000
"""In all files of a service. Airflow asks at most 1,024 questions at once."""

_TEXT = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]*$"
Step = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=_TEXT),
    Field(description="What the tester does"),
]
Reference = Annotated[
    str,
    StringConstraints(pattern=r"^#?[A-Za-z0-9][A-Za-z0-9._/#-]{0,63}$"),
    Field(description="A ticket or a requirement, such as SHOP-41 or #12"),
]


class Case(Model):
    """A test case: what a tester does, and what must happen."""

    id: Identifier = Field(description="Its name, which never changes: results and defects of all releases refer to it")
    title: Line
    proves: Annotated[tuple[Reference, ...], AfterValidator(each_once)] = Field(
        (), max_length=20, description="Tickets or requirements that it proves"
    )
    component: Identifier | None = Field(
        None, description="A component of the service's file; default: the case concerns every release"
    )
    environment: Identifier = Field("test", description="The environment in which it is run")
    role: Identifier = Field(description="A role of cases.testers in the service's file")
    severity: Severity = Field("major", description="Severity of the defect if the case fails")
    steps: tuple[Step, ...] = Field(min_length=1, max_length=30)
    expected: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=_TEXT)]


class CaseFile(Model):
    """A file of test cases."""

    owner: Line | None = Field(None, description="Owner of this file, who is named in refusals")
    cases: tuple[Case, ...] = Field(min_length=1, max_length=MAX_CASES)

    @model_validator(mode="after")
    def _each_id_once(self) -> Self:
        if twice := named_twice(case.id for case in self.cases):
            raise ValueError(f"cases: the id {twice} is used twice")
        return self


Glob = Annotated[
    str,
    StringConstraints(pattern=r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$", max_length=1024),
    Field(description="A pattern of paths in the repository, such as shop/basket*; * also matches /"),
]


class CaseRules(Model):
    """Where the test cases of a service are, and who runs them: ``cases`` of a service's file."""

    repository: Annotated[tuple[RelativePath, ...], AfterValidator(each_once)] = Field(
        (), description="Files of test cases in the repository, read at the released commit"
    )
    catalogue: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] = Field(
        (), description="Files of test cases in cases/ of the catalogue, without .yaml"
    )
    components: dict[Identifier, Annotated[tuple[Glob, ...], Field(min_length=1)]] = Field(
        {}, description="Component: its files. A release that changes one of them must run the cases of the component"
    )
    testers: dict[Identifier, Annotated[People, Field(min_length=1)]] = Field(
        min_length=1, description="Role of testers: people who run the cases of this role"
    )
    within: Duration = Field(timedelta(days=3), description="Time for all test cases of a release")
    defects_to: tuple[Email, ...] = Field(
        (), description="E-mail addresses of the development team, which gets new defects"
    )

    @model_validator(mode="after")
    def _names_a_file(self) -> Self:
        if not self.repository and not self.catalogue:
            raise ValueError("cases needs a file: name it under repository or catalogue")
        return self


def faults_of_cases(file: CaseFile, rules: CaseRules, environments: Mapping[str, object]) -> Iterator[Problem]:
    """Yield which names in a file of cases the service's file does not have.

    :param environments: those of the service in which cases are run.
    """
    known: dict[str, list[str]] = {
        "component": sorted(rules.components),
        "environment": sorted(environments),
        "role": sorted(rules.testers),
    }
    for index, case in enumerate(file.cases):
        for key, names in known.items():
            value = getattr(case, key)
            if value is not None and value not in names:
                one_of = f"one of {', '.join(names)}" if names else "none, because none is defined"
                yield Problem(("cases", index, key), f'"{value}"', f"{one_of}, as the service's file has them")
