"""Plain data from YAML text, with scalars as in YAML 1.2; anchors, tags and duplicate keys are problems."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from interlock.domain.catalogue.problem import Place, Problem

MAX_DEPTH = 32

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


class PlainData:
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
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark
            )
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
