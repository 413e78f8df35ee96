"""iCalendar (RFC 5545) as text: lines, components, values and time zones.

Only what says which events there are, when, and of what kind is read; a property that matters to neither may hold
anything. What is read is read for certain: all errors are ValueErrors that name what was found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from icalendar.parser import Contentline, split_on_unescaped_comma, unescape_backslash

T = TypeVar("T")
MAX_DEPTH = 32
MAX_LINE_LENGTH = 256 * 1024
_READ = frozenset(
    (
        "UID",
        "SUMMARY",
        "DTSTART",
        "DTEND",
        "DURATION",
        "RRULE",
        "RDATE",
        "EXDATE",
        "EXRULE",
        "RECURRENCE-ID",
        "STATUS",
        "CATEGORIES",
        "SEQUENCE",
        "X-WR-TIMEZONE",
        "CALSCALE",
        "METHOD",
        "TZID",
        "TZOFFSETFROM",
        "TZOFFSETTO",
    )
)
"""The properties that matter."""
_FOLD = re.compile(rb"(?:\r\n|\n)[ \t]")
_NAME = re.compile(r"[ \t]*([A-Za-z0-9-]+)[ \t]*([;:]?)")


@dataclass(frozen=True, slots=True)
class Property:
    """A line that matters, such as ``DTSTART;TZID=Europe/Berlin:20261201T100000``.

    :ivar params: by name in capitals.
    :ivar wrong: why it cannot be read.
    """

    name: str
    value: str
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    wrong: str = ""

    @property
    def text(self) -> str:
        """Return its text without backslashes."""
        return str(unescape_backslash(self.value)).strip()

    def param(self, name: str) -> str | None:
        """Return a parameter.

        :raises ValueError: it stands there several times.
        """
        found = self.params.get(name)
        if found is None or isinstance(found, str):
            return found
        raise ValueError(f"{self.name}: found {name} with several values; allowed: one")


@dataclass(slots=True)
class Component:
    """The content between BEGIN and END."""

    name: str
    properties: list[Property] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)

    def all(self, name: str) -> list[Property]:
        """Return the properties of a name.

        :raises ValueError: one of them cannot be read.
        """
        found = [one for one in self.properties if one.name == name]
        if wrong := next((one.wrong for one in found if one.wrong), None):
            raise ValueError(f"{name}: {wrong}")
        return found

    def one(self, name: str) -> Property | None:
        """Return the only property of a name, if there is one.

        :raises ValueError: there are several, or it cannot be read.
        """
        found = self.all(name)
        if len(found) > 1:
            raise ValueError(f"{name}: found {len(found)} times; allowed: once")
        return found[0] if found else None

    def walk(self, *names: str) -> Iterator[Component]:
        """Yield the components of some names in it, however deep."""
        left = [*self.components]
        while left:
            found = left.pop()
            left.extend(found.components)
            if found.name in names:
                yield found


def calendars_in(data: bytes) -> list[Component]:
    """Return the VCALENDAR components of a file.

    :raises ValueError: it is not iCalendar, or not all of it is there.
    """
    found: list[Component] = []
    open_: list[Component] = []
    for number, line in enumerate(_lines(data), start=1):
        name, value = _named(line)
        if name == "BEGIN":
            _begin(value, open_, found, number)
        elif name == "END":
            if not open_ or open_.pop().name != value:
                raise ValueError(
                    f"not iCalendar: line {number} (folded lines count as one) ends {value}, which is not the open "
                    "component"
                )
        elif not open_:
            raise ValueError(f"not iCalendar: line {number} is outside of VCALENDAR")
        elif name in _READ:
            open_[-1].properties.append(_property(name, line))
    if open_:
        raise ValueError(f"not iCalendar: {open_[-1].name} has no end; not all of the file is there")
    if not found:
        raise ValueError("not iCalendar: found no VCALENDAR")
    return found


def _lines(data: bytes) -> Iterator[str]:
    """Yield lines that are not empty, unfolded before they are read: a fold may be inside of a character."""
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    unfolded = _FOLD.sub(b"", data)
    try:
        text = unfolded.decode("utf-8-sig")
    except UnicodeDecodeError:  # names and times are ASCII; what people read is as Windows and old programs write it
        text = unfolded.decode("cp1252", "replace")
    for line in text.split("\n"):
        if line.strip():
            yield line.rstrip("\r")


def _named(line: str) -> tuple[str, str]:
    """Return the name of a line in capitals; of BEGIN and END, what is begun and ended."""
    match = _NAME.match(line)
    name = match[1].upper() if match else ""
    return name, line.partition(":")[2].strip().upper() if name in ("BEGIN", "END") else ""


def _begin(name: str, open_: list[Component], found: list[Component], number: int) -> None:
    begun = Component(name)
    if open_:
        open_[-1].components.append(begun)
    elif name == "VCALENDAR":
        found.append(begun)
    else:
        raise ValueError(f"not iCalendar: line {number} begins {name or 'nothing'}; allowed: VCALENDAR")
    open_.append(begun)
    if len(open_) > MAX_DEPTH:
        raise ValueError(f"not iCalendar: line {number} is more than {MAX_DEPTH} components deep")


def _property(name: str, line: str) -> Property:
    if len(line) > MAX_LINE_LENGTH:
        return Property(name, "", wrong=f"found {len(line)} characters; allowed: {MAX_LINE_LENGTH}")
    try:
        _, params, value = Contentline(line).raw_parts()  # type: ignore[no-untyped-call]
    except ValueError:
        return Property(name, "", wrong=f"found {line[:100]}; allowed: a name, a colon, a value")
    return Property(name, value.strip(), {key.upper(): each for key, each in params.items()})


def categories_of(component: Component) -> list[str]:
    """Return the categories in small letters, each once."""
    each = [name for one in component.all("CATEGORIES") for name in split_on_unescaped_comma(one.value)]
    return list(dict.fromkeys(name.strip().lower() for name in each))


def needed(part: Component, name: str, read: Callable[[Property], T]) -> T:
    """Return what a property says that has to be there."""
    found = part.one(name)
    if found is None:
        raise ValueError(f"{name} is missing")
    return read(found)
