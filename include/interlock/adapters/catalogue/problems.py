"""Problems of a file: invalid values, each with its place and the allowed values; also from errors of pydantic."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from interlock.domain.catalogue.problem import Place, Problem

MAX_QUOTE_LENGTH = 100

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


def dotted(place: Place) -> str:
    """Return a place as people write it, such as ``environments.test.count``."""
    return ".".join(map(str, place)) or "the whole file"


def quoted(value: object) -> str:
    """Return a value as it would be written in a file, shortened."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_QUOTE_LENGTH else f"{text[:MAX_QUOTE_LENGTH]}…"


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def problems_of(errors: Iterable[ErrorDetails], value: Any, model: type[BaseModel]) -> list[Problem]:
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
    node = _node_of(schema, place, value)
    hint = f" ({said.rstrip('.')})" if (said := node.get("description")) else ""
    if kind == "missing":
        return Problem(place, "nothing", f"a value is needed{hint}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = context["discriminator"].strip("'")
        return Problem((*place, key), quoted(context.get("tag")), context.get("expected_tags", "a value is needed"))
    if kind == "extra_forbidden":
        return Problem(place, "an unknown key", _known_keys(_node_of(schema, place[:-1], value), str(place[-1])))
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
        if isinstance(value, dict) and key not in value and key != location[-1] and key in value.values():
            continue  # the name of the member of a union that the file chose by a key of its own
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


def _node_of(schema: dict[str, Any], place: Place, value: Any) -> Mapping[str, Any]:
    """Return the part of a JSON schema for a place; empty if it has none.

    :param value: of the whole file: it chooses between the members of a union.
    """
    node: Mapping[str, Any] = schema
    for key in place:
        node = _child(_resolved(schema, node, value), key)
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
    return {**_resolved(schema, node, value), **{key: said for key, said in node.items() if key == "description"}}


def _resolved(schema: dict[str, Any], node: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    if (chooser := node.get("discriminator")) and isinstance(value, dict):
        chosen = chooser["mapping"].get(value.get(chooser["propertyName"]), "")
        member: Mapping[str, Any] = schema["$defs"].get(chosen.rpartition("/")[2], {})
        return member
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
