"""The trains in ``trains/``: YAML files, read and checked against the services, the boards and the policy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from interlock.adapters.calendars.holidays import unknown_holidays
from interlock.domain.catalogue import BoardBook, Policy
from interlock.domain.catalogue.train_file import Train
from interlock.domain.errors import CatalogueError

from .problems import Problem, quoted
from .yaml_files import YamlFile, names_in, read_yaml, refused

_MAX_LISTED_NAMES = 30


@dataclass(frozen=True, slots=True)
class Timetable:
    """The trains that there are; a broken file is in ``broken`` and nowhere else."""

    trains: Mapping[str, Train] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def carrying(self, service: str) -> tuple[Train, ...]:
        """Return the trains that a service may be on."""
        return tuple(train for train in self.trains.values() if service in train.services)


@dataclass(frozen=True, slots=True)
class Named:
    """What a train may name; none: not looked at."""

    services: Collection[str] | None = None
    boards: Collection[str] | None = None
    people: Collection[str] | None = None
    questions: Collection[str] | None = None

    @classmethod
    def by(cls, policy: Policy, book: BoardBook, services: Collection[str]) -> Named:
        """Return the names that a catalogue has."""
        people = [person.user for person in book.people]
        return cls(services, book.boards.keys(), people, [question.key for question in policy.risk.questions])


def load_trains(folder: Path, policy: Policy, book: BoardBook) -> Timetable:
    """Read all trains of a catalogue; what was read and has not changed is not read again."""
    named = Named.by(policy, book, service_names(folder))
    trains: dict[str, Train] = {}
    broken: dict[str, str] = {}
    for path in _files(folder):
        try:
            train = _load(path, named)
            trains[train.name] = train
        except CatalogueError as error:
            broken[path.stem] = str(error)
    return Timetable(trains, broken)


def load_train(folder: Path, policy: Policy, book: BoardBook, name: str) -> Train:
    """Read one train; CatalogueError if its file is wrong, or there is none."""
    path = folder / "trains" / f"{name}.yaml"
    if path not in _files(folder):
        known = ", ".join(one.stem for one in _files(folder)) or "none"
        raise CatalogueError(
            f"The catalogue has no train {quoted(name)}. Available: {known}.",
            rule="a train is a file trains/<name>.yaml",
            who="the owner of the trains",
            next_step="add the file, or use an existing train",
        )
    return _load(path, Named.by(policy, book, service_names(folder)))


def faults_of_trains(folder: Path, named: Named) -> Iterator[str]:
    """Yield everything that is wrong with the trains of a catalogue."""
    for path in _files(folder):
        try:
            _load(path, named)
        except CatalogueError as error:
            yield str(error)


def service_names(folder: Path) -> tuple[str, ...]:
    """Return the services that have a file."""
    return tuple(name.removesuffix(".yaml") for name in names_in(folder / "services", ".yaml"))


def _files(folder: Path) -> list[Path]:
    """Return the files of trains, also those with the wrong ending."""
    return [folder / "trains" / name for name in names_in(folder / "trains", ".yaml", ".yml")]


def _load(path: Path, named: Named) -> Train:
    shown = f"trains/{path.name}"
    if path.suffix != ".yaml":
        listed = [f"line 1: found a file named {path.name}; allowed: {path.stem}.yaml"]
        raise refused(shown, listed, who="its author")
    try:
        found = path.stat()
    except OSError as error:
        raise refused(shown, [f"line 1: cannot be read: {error.strerror}"], who="its author") from None
    file, train = _read(path, found.st_mtime_ns, found.st_size)
    if problems := [*_other_name(train, path.stem), *_strangers(train, named), *_unknown_holidays(train)]:
        raise file.error(problems)
    return train


@lru_cache(maxsize=1024)
def _read(path: Path, *stamp: int) -> tuple[YamlFile, Train]:
    file = read_yaml(path, shown=f"trains/{path.name}")
    return file, file.parse(Train)


def _other_name(train: Train, stem: str) -> Iterator[Problem]:
    if train.name != stem:
        yield Problem(("name",), quoted(train.name), f"the name of the file without .yaml, {stem}")


def _strangers(train: Train, named: Named) -> Iterator[Problem]:
    if train.board is not None:
        yield from _unknown(("board",), train.board, named.boards, "a board of board.yaml")
    for index, one in enumerate(train.passengers):
        place = ("passengers", index)
        yield from _unknown((*place, "service"), one.service, named.services, "an existing service")
        for key in one.risk:
            yield from _unknown((*place, "risk", key), key, named.questions, "a risk question of policy.yaml")
        if one.named is not None:
            yield from _unknown((*place, "named", "by"), one.named.by, named.people, "a person listed in board.yaml")


def _unknown(place: tuple[str | int, ...], name: str, known: Collection[str] | None, what: str) -> Iterable[Problem]:
    if known is not None and name not in known:
        shown = ", ".join(sorted(known)[:_MAX_LISTED_NAMES]) or "none is defined"
        yield Problem(place, quoted(name), f"{what}: {shown}")


def _unknown_holidays(train: Train) -> Iterator[Problem]:
    holidays = train.target.holidays if train.target else None
    if train.target is None or holidays is None:
        return
    yield from unknown_holidays(("target", "holidays"), holidays.country, holidays.region, int(train.target.at[:4]))
