"""XML that a build wrote, read element by element: no document may declare entities, and no tree of it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from xml.etree.ElementTree import ParseError

import defusedxml  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from interlock.domain.errors import QualityRejected

SIZE_CAP = 64 * 1024 * 1024
_CHUNK = 1 << 16
_SHOWN_PLACES = 4
_MAX_NAME_LENGTH = 80


class Reader:
    """Reads a document while it is parsed; a subclass handles its elements.

    Tags come without their namespace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: list[str] = []
        self._parser = DefusedXMLParser(target=self, forbid_entities=True, forbid_external=True)

    def opened(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take the start of an element."""
        raise NotImplementedError

    def closed(self, tag: str) -> None:
        """Take the end of an element."""

    def data(self, text: str) -> None:
        """Take a piece of text."""

    def comment(self, text: str) -> None:
        """Take a comment."""

    @property
    def depth(self) -> int:
        """The number of open elements, including the current one."""
        return len(self._open)

    def place(self) -> str:
        """Describe the position of the parser: line and elements."""
        shown = self._open[-_SHOWN_PLACES:]
        path = " / ".join(["…", *shown] if len(self._open) > _SHOWN_PLACES else shown)
        return f"line {self._parser.parser.CurrentLineNumber}, {path}"

    def refused(self, reason: str, *, place: str = "") -> QualityRejected:
        """Return the error that names the invalid content and its position."""
        return unreadable(self.path, f"{reason} ({place or self.place()})")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take an element's start from the parser."""
        tag = tag.rpartition("}")[2]
        name = attributes.get("name", "")
        self._open.append(f"{tag} {name[:_MAX_NAME_LENGTH]!r}" if name else tag)
        self.opened(tag, attributes)

    def end(self, tag: str) -> None:
        """Take an element's end from the parser."""
        self.closed(tag.rpartition("}")[2])
        self._open.pop()

    def read(self) -> None:
        """Parse the whole file.

        :raises QualityRejected: it is too big, is not XML, declares entities, or says what cannot be used.
        """
        try:
            with self.path.open("rb") as file:
                refuse_big(self.path)
                while chunk := file.read(_CHUNK):
                    self._parser.feed(chunk)
            # A DOCTYPE as such is let through: many tools name Cobertura's DTD in one, and it is never fetched.
            self._parser.close()
        except (ParseError, ValueError, LookupError, OSError) as error:
            reason = "it declares entities" if isinstance(error, defusedxml.DefusedXmlException) else str(error)
            raise unreadable(self.path, reason) from error


class Root(Reader):
    """Reads no further than the root element."""

    class _FoundError(Exception):
        pass

    tag = ""

    def opened(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Stop at the root."""
        self.tag = tag
        raise self._FoundError

    def read(self) -> None:
        """Parse up to the root."""
        with suppress(self._FoundError):
            super().read()


def root_of(path: Path) -> str:
    """Return the tag of a document's root.

    :raises QualityRejected: it has none that can be read.
    """
    root = Root(path)
    root.read()
    return root.tag


def refuse_big(path: Path) -> None:
    """Refuse a file that is bigger than any report has reason to be."""
    if (size := path.stat().st_size) > SIZE_CAP:
        raise unreadable(path, f"it has {size} bytes; at most {SIZE_CAP} are read")


def unreadable(path: Path, reason: str) -> QualityRejected:
    """Return the error with the reason why a report cannot be used."""
    return QualityRejected(
        f"The report {path.name} cannot be read: {reason}.",
        rule="a report that is incomplete or inconsistent is not accepted",
        who="the service's team",
        next_step="create the report again, or correct junit and coverage in the service's YAML",
    )
