"""The trains in ``trains/``: YAML files, read and checked against the services, the boards and the policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from interlock.adapters.calendars.holidays import unknown_holidays
from interlock.domain.catalogue import BoardBook, Policy
from interlock.domain.catalogue.problem import Problem
from interlock.domain.catalogue.train_file import Train
from interlock.domain.errors import CatalogueError

from .names import Known, other_name, unknown_name
from .problems import quoted
from .yaml_files import YamlFile, names_in, read_yaml, refuse_other_ending, stamp_of


@dataclass(frozen=True, slots=True)
class Timetable:
    """The trains that there are; a broken file is in ``broken`` and nowhere else."""

    trains: Mapping[str, Train] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def carrying(self, service: str) -> tuple[Train, ...]:
        """Return the trains that a service may be on."""
        return tuple(train for train in self.trains.values() if service in train.services)


def load_trains(folder: Path, policy: Policy, book: BoardBook) -> Timetable:
    """Read all trains of a catalogue; what was read and has not changed is not read again."""
    known = Known.by(policy, book, service_names(folder))
    trains: dict[str, Train] = {}
    broken: dict[str, str] = {}
    for path in _files(folder):
        try:
            train = _load(path, known)
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
    return _load(path, Known.by(policy, book, service_names(folder)))


def faults_of_trains(folder: Path, known: Known) -> Iterator[str]:
    """Yield everything that is wrong with the trains of a catalogue."""
    for path in _files(folder):
        try:
            _load(path, known)
        except CatalogueError as error:
            yield str(error)


def service_names(folder: Path) -> tuple[str, ...]:
    """Return the services that have a file."""
    return tuple(name.removesuffix(".yaml") for name in names_in(folder / "services", ".yaml"))


def _files(folder: Path) -> list[Path]:
    """Return the files of trains, also those with the wrong ending."""
    return [folder / "trains" / name for name in names_in(folder / "trains", ".yaml", ".yml")]


def _load(path: Path, known: Known) -> Train:
    shown = f"trains/{path.name}"
    refuse_other_ending(path, shown)
    file, train = _read(path, *stamp_of(path, shown))
    problems = [*other_name(train.name, path.stem), *_unknown_names(train, known)]
    if train.target is not None:
        problems += unknown_holidays(("target", "holidays"), train.target.holidays, int(train.target.at[:4]))
    if problems:
        raise file.error(problems)
    return train


@lru_cache(maxsize=1024)
def _read(path: Path, *stamp: int) -> tuple[YamlFile, Train]:
    file = read_yaml(path, shown=f"trains/{path.name}")
    return file, file.parse(Train)


def _unknown_names(train: Train, known: Known) -> Iterator[Problem]:
    if train.board is not None:
        yield from unknown_name(("board",), train.board, known.boards, "a board of board.yaml")
    for index, one in enumerate(train.passengers):
        place = ("passengers", index)
        yield from unknown_name((*place, "service"), one.service, known.services, "an existing service")
        for key in one.risk:
            yield from unknown_name((*place, "risk", key), key, known.questions, "a risk question of policy.yaml")
        if one.named is not None:
            by = (*place, "named", "by")
            yield from unknown_name(by, one.named.by, known.people, "a person listed in board.yaml")
