"""The test cases of a service, from its repository at a commit and from the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.adapters.catalogue.yaml_files import YamlFile, file_bytes, names_in, parse_yaml
from interlock.domain.canonical import Sha256, sha256_of
from interlock.domain.catalogue import Service
from interlock.domain.catalogue.cases_file import MAX_CASES, Case, CaseFile, faults_of_cases
from interlock.domain.catalogue.problem import Problem
from interlock.domain.errors import CatalogueError

FOLDER = "cases"
"""The folder of the catalogue with files of test cases."""


@dataclass(frozen=True, slots=True)
class CasesRead:
    """The test cases of a service.

    :param cases: each with the file in which it is written.
    :param digests: file: its SHA-256.
    """

    cases: tuple[tuple[str, Case], ...]
    digests: Mapping[str, Sha256]


def read_cases(
    service: Service, catalogue: Path, read: Callable[[str], bytes], environments: Sequence[str]
) -> CasesRead:
    """Read all test cases of a service.

    :param catalogue: the catalogue's folder.
    :param read: returns the bytes of a file of the repository at the released commit.
    :param environments: those of the service in which cases are run.
    :raises CatalogueError: a file is wrong, an id is used twice, or there are too many cases.
    """
    if service.cases is None:
        return CasesRead((), {})
    named = [(shown_in_catalogue(name), catalogue / FOLDER / f"{name}.yaml") for name in service.cases.catalogue]
    cases: list[tuple[str, Case]] = []
    digests: dict[str, Sha256] = {}
    for shown, data in (
        *((path, read(path)) for path in service.cases.repository),
        *((shown, file_bytes(path, shown)) for shown, path in named),
    ):
        found = _parsed(shown, data, service, environments, cases)
        cases += [(shown, case) for case in found.cases]
        digests[shown] = sha256_of(data)
    return CasesRead(tuple(cases), digests)


def shown_in_catalogue(name: str) -> str:
    """Return how messages call a file of test cases of the catalogue."""
    return f"{FOLDER}/{name}.yaml"


def faults_of_case_files(folder: Path) -> Iterator[str]:
    """Yield the errors of each file of test cases of a catalogue, by itself."""
    for name in names_in(folder / FOLDER, ".yaml", ".yml"):
        shown = f"{FOLDER}/{name}"
        try:
            parse_yaml(file_bytes(folder / FOLDER / name, shown), shown=shown).parse(CaseFile)
        except CatalogueError as error:
            yield str(error)


def _parsed(
    shown: str, data: bytes, service: Service, environments: Sequence[str], before: Sequence[tuple[str, Case]]
) -> CaseFile:
    assert service.cases is not None
    try:
        file = parse_yaml(data, shown=shown)
        found = file.parse(CaseFile)
        _refuse(
            file,
            [
                *faults_of_cases(found, service.cases, dict.fromkeys(environments)),
                *_used_before(found, before),
                *_too_many(found, before),
            ],
        )
    except CatalogueError as error:
        if shown not in service.cases.repository:
            raise
        raise CatalogueError(
            error.what,
            rule="the schema of test cases, include/catalogue/schemas/cases.schema.json, and cases of "
            f"services/{service.name}.yaml",
            who=service.owner,
            next_step="correct the file in the repository, and release a new commit",
        ) from error
    return found


def _used_before(found: CaseFile, before: Sequence[tuple[str, Case]]) -> Iterator[Problem]:
    known = {case.id: file for file, case in before}
    for index, case in enumerate(found.cases):
        if case.id in known:
            allowed = f"an id that no other file uses; {known[case.id]} has this one"
            yield Problem(("cases", index, "id"), f'"{case.id}"', allowed)


def _too_many(found: CaseFile, before: Sequence[tuple[str, Case]]) -> Iterator[Problem]:
    number = len(before) + len(found.cases)
    if number > MAX_CASES:
        yield Problem(("cases",), f"{number} cases in all files of the service", f"at most {MAX_CASES}")


def _refuse(file: YamlFile, problems: Sequence[Problem]) -> None:
    if problems:
        raise file.error(problems)
