"""The files of a release, which of them a host is asked about now, and what differs from what was released.

A release's list has each file of the bundle with its digest, each link with where it leads, and where ``files`` of the
AppSpec copies them. A host is asked about a part of it at a time. Which part follows from the time and the host alone:
nothing is kept from one look to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal
from zlib import crc32

from pydantic import Field, StringConstraints

from interlock.domain.canonical import Model, Sha256

MAX_FILES_PER_LOOK = 500
MAX_BYTES_PER_LOOK = 32 * 1024 * 1024
"""A host is asked about no more at a time, unless its release could then not be compared in time."""

WITHIN = timedelta(hours=12)
"""So long it takes at most to ask about every file: a look that fell out is made up for within the day."""

_SMALL = 1024 * 1024  # bytes up to which a file is read although a smaller one was released
_MAX_NAMES_BYTES = 64 * 1024  # of the names in one question: a host's programs get them as arguments
_MAX_SHOWN = 200

_Target = Annotated[str, StringConstraints(max_length=4096)]


class ReleasedFile(Model):
    """A file of a bundle."""

    path: str = Field(description="From the top of the bundle")
    sha256: Sha256
    size: int = Field(ge=0, description="Bytes")


class ReleasedFiles(Model):
    """What a bundle consists of; written when it is built, and named by its provenance."""

    schema_version: Literal[1] = 1
    files: tuple[ReleasedFile, ...]
    links: dict[str, _Target] = Field({}, description="Path: where the link leads")
    placed: dict[str, str] = Field({}, description="Absolute path on a host: the file or link that is copied there")
    unlisted: int = Field(0, description="Number of files and links whose name a host cannot be asked about")


def can_be_asked(name: str) -> bool:
    """Say whether a host can be asked about a name: it goes there as one line of UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in name and "\0" not in name


@dataclass(frozen=True, slots=True)
class Expected:
    """What is to stand somewhere on a host.

    :param path: as people know it; ``name``: as the host does, from the folder that is deployed to.
    :param content: a file's SHA-256, or where a link leads.
    :param placed: it is outside of the release's folder.
    """

    path: str
    name: str
    kind: Literal["file", "link", "folder"]
    content: str = ""
    size: int = 0
    placed: bool = False

    @property
    def in_words(self) -> str:
        """What was released, in words."""
        return {"file": f"SHA-256 {self.content}", "link": f"a link to {self.content}", "folder": "a folder"}[self.kind]


def expected_files(listed: ReleasedFiles, release: str, left_out: Iterable[str] = ()) -> list[Expected]:
    """Return what is to stand on a host that runs a release.

    :param left_out: globs of the bundle's files that the release itself changes on a host.
    """
    globs = tuple(left_out)
    found: dict[str, Expected] = {}
    for file in listed.files:
        found[file.path] = Expected(file.path, f"releases/{release}/{file.path}", "file", file.sha256, file.size)
    for path, target in listed.links.items():
        found[path] = Expected(path, f"releases/{release}/{path}", "link", target)
    kept = {path: one for path, one in found.items() if not any(fnmatchcase(path, glob) for glob in globs)}
    placed = [
        Expected(place, place, one.kind, one.content, one.size, placed=True)
        for place, path in listed.placed.items()
        if (one := kept.get(path)) is not None
    ]
    return [*kept.values(), *placed]


def anchors(release: str) -> tuple[Expected, ...]:
    """Return what each look asks about: that what is current is the release's own folder, where the files are."""
    folder = f"releases/{release}"
    return Expected("current", "current", "link", folder), Expected(folder, folder, "folder")


def in_parts(files: Sequence[Expected], every: timedelta) -> list[list[Expected]]:
    """Return the files of a release in parts, of which a host is asked about one at each look.

    :param every: from one look to the next.
    """
    ordered = sorted(files, key=lambda one: (crc32(one.name.encode()), one.name))
    weights = [max(one.size * MAX_FILES_PER_LOOK, MAX_BYTES_PER_LOOK) for one in ordered]
    whole, before = sum(weights), 0
    number = max(1, min(-(-whole // (MAX_FILES_PER_LOOK * MAX_BYTES_PER_LOOK)), WITHIN // every))
    parts: list[list[Expected]] = [[] for _ in range(number)]
    for one, weight in zip(ordered, weights, strict=True):
        parts[before * number // whole].append(one)
        before += weight
    return parts


def part_now(parts: Sequence[list[Expected]], host: str, now: datetime, every: timedelta) -> list[Expected]:
    """Return the part that a host is asked about at the look that is due now."""
    look = int(now.timestamp() // every.total_seconds())
    return parts[(look + crc32(host.encode())) % len(parts)]


# --- questions and answers -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """Some of the files that a host is asked about.

    :param largest: a file with more bytes is not read.
    """

    asked: tuple[Expected, ...]
    largest: int

    @property
    def lines(self) -> bytes:
        """Return it as the host's program takes it."""
        head = f"files {self.largest} {len(self.asked)}"
        return "".join(f"{line}\n" for line in (head, *(one.name for one in self.asked))).encode()


def questions(asked: Iterable[Expected]) -> Iterator[Question]:
    """Yield questions about files, those of about the same size together: what grew without end is not read."""
    classes: dict[int, list[Expected]] = {}
    for one in asked:
        largest = _SMALL
        while largest < one.size:
            largest *= 2
        classes.setdefault(largest, []).append(one)
    for largest, members in sorted(classes.items()):
        part: list[Expected] = []
        length = 0
        for one in members:
            size = len(one.name.encode()) + 1
            if part and (length + size > _MAX_NAMES_BYTES or len(part) == MAX_FILES_PER_LOOK):
                yield Question(tuple(part), largest)
                part, length = [], 0
            part.append(one)
            length += size
        yield Question(tuple(part), largest)


Kind = Literal["file", "link", "folder", "large", "other", "gone", "hidden"]
_NUMBERED: tuple[Kind, ...] = ("link", "folder", "other", "gone", "hidden")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a host says of a name; ``hidden``: its login cannot read it, or it did not say."""

    kind: Kind
    content: str = ""

    @property
    def in_words(self) -> str:
        """What the host says, in words."""
        return {
            "file": f"SHA-256 {self.content}",
            "link": f"a link to {_shown(self.content)}",
            "folder": "a folder",
            "large": "a larger file",
            "other": "neither a file nor a folder nor a link",
            "gone": "nothing",
            "hidden": "what its login cannot read",
        }[self.kind]


def parse_answer(lines: Iterable[str], question: Question) -> dict[str, Seen]:
    """Read what a host answered to a question, by name; ValueError if it is no answer to it."""
    printed = {form: one.name for one in question.asked for form in _printed(one.name)}
    found: dict[str, Seen] = {}
    for line in lines:
        name, seen = _read(line, question.asked, printed)
        if name in found:
            raise ValueError(f"{_shown(name)} is answered twice")
        found[name] = seen
    return found


def _read(line: str, asked: Sequence[Expected], printed: Mapping[str, str]) -> tuple[str, Seen]:
    word, _, rest = line.partition(" ")
    for kind in _NUMBERED:
        number, _, content = rest.partition(" ")
        if word == kind and number.isascii() and number.isdecimal() and 0 < int(number[:9]) <= len(asked):
            return asked[int(number[:9]) - 1].name, Seen(kind, content if kind == "link" else "")
    if word == "large" and rest in printed:
        return printed[rest], Seen("large")
    escaped = rest.startswith("\\")
    digest, name = rest[escaped : 64 + escaped], ("\\" if escaped else "") + rest[66 + escaped :]
    if word == "sum" and len(digest) == 64 and not digest.strip("0123456789abcdef") and name in printed:
        return printed[name], Seen("file", digest)
    raise ValueError(f"{_shown(line)!r} is no answer to what it was asked")


def _printed(name: str) -> set[str]:
    """Return how sha256sum may print a name: GNU's puts a backslash before the line, and doubles those in the name."""
    return {name, "\\" + name.replace("\\", "\\\\")} if "\\" in name else {name}


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text[:_MAX_SHOWN])


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where a host does not have what was released."""

    expected: Expected
    seen: Seen


def differences(asked: Iterable[Expected], seen: Mapping[str, Seen]) -> Iterator[Difference]:
    """Yield what a host has otherwise than it was released; what its login cannot read is not known to differ."""
    for one in asked:
        there = seen.get(one.name, Seen("hidden"))
        if there.kind != "hidden" and (there.kind, there.content) != (one.kind, one.content):
            yield Difference(one, there)
