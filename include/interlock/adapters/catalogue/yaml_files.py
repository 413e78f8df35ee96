"""YAML files that people edit: read strictly, and every mistake named with its line.

What a file may hold is plain data: no anchors, no tags, no key twice. Scalars are read as YAML 1.2 has them, as editors
do: ``no`` and ``on`` are text. Lines are only looked up once something is wrong.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from interlock.domain.errors import CatalogueError

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_QUOTE_LENGTH = 100

Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """An invalid value in a file.

    :param found: as people see it in the file; empty if the sentence in ``allowed`` says it.
    """

    place: Place
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"found {self.found}; allowed: {self.allowed}" if self.found else self.allowed


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
            found = _problems(error.errors(include_url=False), self.value, model)
            rest = [problem for problem in found if not any(problem.place[: len(place)] == place for place in known)]
            raise self.error([*self.problems, *rest]) from None
        if self.problems:
            raise self.error(self.problems)
        return parsed

    def error(self, problems: Iterable[Problem]) -> CatalogueError:
        """Return the error that names each problem with its line and its key."""
        lines = _Builder(self.text, with_lines=True).lines
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


def read_yaml(path: Path, *, shown: str) -> YamlFile:
    """Read a file of plain data.

    :param shown: how messages call the file.
    :raises CatalogueError: it cannot be read, or is not YAML.
    """
    text = _text(path, shown)
    try:
        built = _Builder(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _unreadable(shown, mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _unreadable(shown, line, f"not YAML: found {chr(error.character)!a}; {error.reason}") from None
    return YamlFile(shown, text, built.value, tuple(built.problems))


def dotted(place: Place) -> str:
    """Return a place as people write it, such as ``environments.test.count``."""
    return ".".join(map(str, place)) or "the whole file"


def quoted(value: object) -> str:
    """Return a value as it would be written in a file, shortened."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_QUOTE_LENGTH else f"{text[:MAX_QUOTE_LENGTH]}…"


def _text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(shown, 1, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _unreadable(shown, 1, f"found a larger file; allowed: {MAX_FILE_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _unreadable(shown, line, f"found the byte 0x{data[error.start]:02x}; allowed: text in UTF-8") from None


def _unreadable(shown: str, line: int, why: str) -> CatalogueError:
    return refused(shown, [f"line {line}: {why}"], who=f"the owner of {shown}")


_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_MAY_BE_A_NUMBER = frozenset("+-.0123456789")


def _scalar(text: str) -> Any:
    """Return what a scalar without quotes is in YAML 1.2's core schema (octal and hexadecimal numbers stay text)."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] in _MAY_BE_A_NUMBER:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


class _Builder:
    """Builds plain data from the events of a YAML document, in one pass.

    :ivar value: the data.
    :ivar problems: what is YAML and yet not plain data.
    :ivar lines: the line of each place, if asked for.
    """

    def __init__(self, text: str, *, with_lines: bool = False) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[Place, int] = {}
        self._with_lines = with_lines
        self._events: Iterator[Any] = yaml.parse(text, yaml.CSafeLoader)
        self.value = self._document()

    def _document(self) -> Any:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._node(next(self._events), (), 0)
        next(self._events)
        if not isinstance(end := next(self._events), yaml.StreamEndEvent):
            raise yaml.MarkedYAMLError(problem="a second document begins; allowed: one", problem_mark=end.start_mark)
        return value

    def _node(self, event: Any, place: Place, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            self.problems.append(Problem(place, f"the alias *{event.anchor}", "the value itself, without an alias"))
            return None
        if event.tag is not None:
            self.problems.append(Problem(place, f"the tag {event.tag}", "the value without a tag"))
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(place, depth)
        return self._mapping(place, depth)

    def _sequence(self, place: Place, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            at = (*place, len(items))
            self._note(at, event)
            items.append(self._node(event, at, depth + 1))
        return items

    def _mapping(self, place: Place, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise yaml.MarkedYAMLError(problem="a key that is not text", problem_mark=event.start_mark)
            key = event.value
            at = (*place, key)
            if key in found:
                self.problems.append(Problem(at, f"the key {key} a second time", "each key once"))
            self._note(at, event)
            found[key] = self._node(next(self._events), at, depth + 1)
        return found

    def _note(self, place: Place, event: Any) -> None:
        if self._with_lines:
            self.lines[place] = event.start_mark.line + 1


_ALLOWED = {
    "bool_type": "true or false",
    "string_type": "text; put it in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list, such as [a, b]",
    "list_type": "a list, such as [a, b]",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}


def names_in(folder: Path, *endings: str) -> list[str]:
    """Return the names of a folder's files with a suffix, in order, without hidden files of editors."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(endings) and not name.startswith("."))


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _problems(errors: Iterable[ErrorDetails], value: Any, model: type[BaseModel]) -> list[Problem]:
    """Return one problem for each place, because each member of a union is one alternative."""
    schema = _schema_of(model)
    by_place: dict[Place, list[Problem]] = {}
    for error in errors:
        problem = _problem(error, value, schema)
        by_place.setdefault(problem.place, []).append(problem)
    return [
        Problem(place, found[0].found, " or ".join(_alternatives(problem.allowed for problem in found)))
        for place, found in by_place.items()
    ]


def _alternatives(allowed: Iterable[str]) -> list[str]:
    each = list(dict.fromkeys(allowed))
    return [one for one in each if one != _ALLOWED["int_type"] or _ALLOWED["float_type"] not in each]


def _problem(error: ErrorDetails, value: Any, schema: dict[str, Any]) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    place = _place(error["loc"], value, keep_last=kind == "missing")
    node = _node_of(schema, place)
    hint = f" ({said.rstrip('.')})" if (said := node.get("description")) else ""
    if kind == "missing":
        return Problem(place, "nothing", f"a value is needed{hint}")
    if kind == "extra_forbidden":
        return Problem(place, "an unknown key", _known_keys(_node_of(schema, place[:-1]), str(place[-1])))
    if kind == "value_error":
        found = "" if isinstance(error["input"], dict) else f"found {quoted(error['input'])}; "
        return Problem(place, "", f"{found}{context['error']}")
    if kind == "string_pattern_mismatch":
        return Problem(place, quoted(error["input"]), f"text that matches {context['pattern']}{hint}")
    expected = _ALLOWED.get(kind) or context.get("expected") or error["msg"].removeprefix("Input should be ")
    return Problem(place, quoted(error["input"]), f"{expected}{hint}")


def _place(location: Place, value: Any, *, keep_last: bool) -> Place:
    """Return the part of pydantic's location that is in the file; the rest names members of unions and the like."""
    place: list[str | int] = []
    for key in location:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return (*place, location[-1]) if keep_last else tuple(place)
        place.append(key)
    return tuple(place)


def _known_keys(node: Mapping[str, Any], key: str) -> str:
    known = list(node.get("properties", ()))
    close = get_close_matches(key, known, n=1)
    return f"{', '.join(known)}" + (f" (did you mean {close[0]}?)" if close else "")


def _node_of(schema: dict[str, Any], place: Place) -> Mapping[str, Any]:
    """Return the part of a JSON schema for a place; empty if it has none."""
    node: Mapping[str, Any] = schema
    for key in place:
        node = _child(_resolved(schema, node), key)
    return {**_resolved(schema, node), **{key: said for key, said in node.items() if key == "description"}}


def _resolved(schema: dict[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        node = options[0]
    reference = node.get("$ref", "")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else node


def _child(node: Mapping[str, Any], key: str | int) -> Mapping[str, Any]:
    if isinstance(key, int):
        found = node.get("items", {})
    elif key in node.get("properties", {}):
        found = node["properties"][key]
    else:
        found = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
    return found if isinstance(found, dict) else {}


def _line(lines: Mapping[Place, int], place: Place) -> int:
    """Return the line of a place, or of the closest surrounding place."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)
