"""YAML files that people edit: read strictly, and every mistake named with its line.

What a file may hold is plain data: no anchors, no tags, no key twice. Scalars are read as YAML 1.2 has them, as editors
do: ``no`` and ``on`` are text. Lines are only looked up once something is wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from interlock.domain.catalogue.problem import Place, Problem
from interlock.domain.errors import CatalogueError

from ._plain_data import PlainData
from .problems import dotted, problems_of

MAX_FILE_BYTES = 256 * 1024

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A file that was read: its plain data, and how messages call it."""

    shown: str
    text: str
    value: Any
    problems: tuple[Problem, ...] = ()

    @property
    def owner(self) -> str:
        """Who can change the file: its own ``owner``, if it has one."""
        owner = self.value.get("owner") if isinstance(self.value, dict) else None
        return owner if isinstance(owner, str) and owner else f"the owner of {self.shown}"

    def parse(self, model: type[M]) -> M:
        """Return the file as a model; CatalogueError with everything that is wrong."""
        try:
            parsed = model.model_validate_json(json.dumps(self.value), strict=True)
        except ValidationError as error:
            known = [problem.place for problem in self.problems]
            found = problems_of(error.errors(include_url=False), self.value, model)
            rest = [problem for problem in found if not any(problem.place[: len(place)] == place for place in known)]
            raise self.error([*self.problems, *rest]) from None
        if self.problems:
            raise self.error(self.problems)
        return parsed

    def error(self, problems: Iterable[Problem]) -> CatalogueError:
        """Return the error that names each problem with its line and its key."""
        lines = PlainData(self.text, with_lines=True).lines
        numbered = sorted((_line(lines, problem.place), problem.place, problem) for problem in problems)
        listed = [f"line {line}, {dotted(place)}: {problem}" for line, place, problem in numbered]
        return refused(self.shown, listed, who=self.owner)


def refused(shown: str, listed: list[str], *, who: str) -> CatalogueError:
    """Return the error of a file, with a line for each thing that is wrong."""
    if len(listed) == 1:
        what = f"{shown}, {listed[0]}."
    else:
        what = "\n  ".join([f"{shown} has {len(listed)} errors:", *listed]) + "\n"
    return CatalogueError(
        what,
        rule="the catalogue's schemas, in include/catalogue/schemas/",
        who=who,
        next_step="correct the file, then run: interlock catalogue check",
    )


def refuse_other_ending(path: Path, shown: str) -> None:
    """Raise a CatalogueError for a file with the ending .yml, which would be overlooked."""
    if path.suffix != ".yaml":
        listed = [f"line 1: found a file named {path.name}; allowed: {path.stem}.yaml"]
        raise refused(shown, listed, who="its author")


def stamp_of(path: Path, shown: str) -> tuple[int, int]:
    """Return what changes when a file does; CatalogueError if there is no such file."""
    try:
        found = path.stat()
    except OSError as error:
        raise refused(shown, [f"line 1: cannot be read: {error.strerror}"], who="its author") from None
    return found.st_mtime_ns, found.st_size


def read_yaml(path: Path, *, shown: str) -> YamlFile:
    """Read a file of plain data.

    :param shown: how messages call the file.
    :raises CatalogueError: it cannot be read, or is not YAML.
    """
    return parse_yaml(file_bytes(path, shown), shown=shown)


def parse_yaml(data: bytes, *, shown: str) -> YamlFile:
    """Read the bytes of a file of plain data.

    :param shown: how messages call the file.
    :raises CatalogueError: it is too large, or is not YAML.
    """
    text = _text(data, shown)
    try:
        built = PlainData(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _unreadable(shown, mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _unreadable(shown, line, f"not YAML: found {chr(error.character)!a}; {error.reason}") from None
    return YamlFile(shown, text, built.value, tuple(built.problems))


def file_bytes(path: Path, shown: str) -> bytes:
    """Return the bytes of a file, up to what is too large; CatalogueError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(shown, 1, f"cannot be read: {error.strerror}") from None


def _text(data: bytes, shown: str) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise _unreadable(shown, 1, f"found a larger file; allowed: {MAX_FILE_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _unreadable(shown, line, f"found the byte 0x{data[error.start]:02x}; allowed: text in UTF-8") from None


def _unreadable(shown: str, line: int, why: str) -> CatalogueError:
    return refused(shown, [f"line {line}: {why}"], who=f"the owner of {shown}")


def names_in(folder: Path, *endings: str) -> list[str]:
    """Return the names of a folder's files with a suffix, in order, without hidden files of editors."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(endings) and not name.startswith("."))


def _line(lines: Mapping[Place, int], place: Place) -> int:
    """Return the line of a place, or of the closest surrounding place."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)
