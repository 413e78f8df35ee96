"""Files that testers attach to test cases: how large, of which kinds by their bytes, and under which name they leave.

A file is evidence of the tester who attached it. It is kept by its digest, and no other file takes its place.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Literal

from pydantic import Field

from interlock.domain.canonical import Model, Sha256
from interlock.domain.catalogue import UserName
from interlock.domain.errors import RequestRefused
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import ANSWER_GIVEN, CASE_ATTACHED
from interlock.domain.ledger.witness import GivenAnswer, told
from interlock.domain.records import Blob

Kind = Literal["png", "jpg", "gif", "webp", "pdf", "zip", "mp4", "webm", "txt"]
ENDINGS: Mapping[Kind, frozenset[str]] = {
    "png": frozenset({"png"}),
    "jpg": frozenset({"jpg", "jpeg"}),
    "gif": frozenset({"gif"}),
    "webp": frozenset({"webp"}),
    "pdf": frozenset({"pdf"}),
    "zip": frozenset({"zip"}),
    "mp4": frozenset({"mp4", "m4v", "mov"}),
    "webm": frozenset({"webm", "mkv"}),
    "txt": frozenset({"txt", "log", "json", "har", "md"}),
}
"""The kinds of files that are taken: the endings that a file of each may leave with; the kind itself is one."""
MAX_BYTES = 20_000_000
"""Of one file."""
MAX_BYTES_OF_RELEASE = 200_000_000
"""Of all files of a release: they are part of its evidence pack."""
MAX_FILES = 10
"""Of one tester, for one test case."""
MAX_NAME = 150
"""Characters of a file's name."""

_SIGNATURES: tuple[tuple[Kind, int, bytes], ...] = (
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("jpg", 0, b"\xff\xd8\xff"),
    ("gif", 0, b"GIF87a"),
    ("gif", 0, b"GIF89a"),
    ("webp", 8, b"WEBP"),
    ("pdf", 0, b"%PDF-"),
    ("zip", 0, b"PK\x03\x04"),
    ("mp4", 4, b"ftyp"),
    ("webm", 0, b"\x1a\x45\xdf\xa3"),
)
_CHUNK = 64 * 1024
_NOT_IN_TEXT = re.compile("[\0-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
"""Control characters but tab, line ends and escape: logs have colours."""
_SHOWN = ("L", "M", "N", "P", "S", "Zs")
"""Categories of characters that a name may have: those that people see, and spaces."""
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""Names that Windows takes for devices."""


class Attachment(Model):
    """A file that a tester attached to a test case before giving its result."""

    environment: str
    case: str = Field(description="The id of the case")
    by: UserName
    name: str = Field(description="As the tester's machine calls it: text to be shown, and no path")
    kind: Kind = Field(description="By the bytes of the file, not by its name")
    file: Blob
    binds: Sha256 = Field(description="Digest of the case and the bundle, as in the result")

    @property
    def leaves_as(self) -> str:
        """The name under which the file is given to a reader: safe on all systems, with an ending of its kind."""
        stem, dot, ending = unicodedata.normalize("NFC", self.name).rpartition(".")
        if not dot or ending.lower() not in ENDINGS[self.kind]:
            stem, ending = unicodedata.normalize("NFC", self.name), self.kind
        stem = re.sub(r"[^\w .()+-]", "_", stem).strip(" .-") or "file"
        return f"{'_' if _DEVICES.match(stem) else ''}{stem}.{ending.lower()}"


def refuse_name(name: str) -> None:
    """Raise RequestRefused for a name that is not one line of visible text, or that is a path."""
    problem = ""
    if not name.strip() or len(name) > MAX_NAME:
        problem = f"it has {len(name)} characters; allowed are 1 to {MAX_NAME}, not only spaces"
    elif hidden := [sign for sign in name if not unicodedata.category(sign).startswith(_SHOWN)]:
        problem = f"it has the character U+{ord(hidden[0]):04X}, which people cannot see"
    elif "/" in name or "\\" in name:
        problem = "it has a slash, which separates folders"
    if problem:
        raise _refused(f"The name of the file cannot be recorded: {problem}", next_step="rename the file")


def kind_of(file: IO[bytes]) -> Kind:
    """Return what a file is by its bytes, and go back to its beginning; RequestRefused for what is not taken."""
    head = file.read(16)
    for kind, offset, signature in _SIGNATURES:
        if head[offset:].startswith(signature) and (kind != "webp" or head.startswith(b"RIFF")):
            file.seek(0)
            return kind
    file.seek(0)
    if not head or not _is_text(iter(lambda: file.read(_CHUNK), b"")):
        raise _refused(
            f"The file {'is empty' if not head else 'is of a kind that is not taken, whatever its name says'}",
            rule=f"a file is, by its bytes, {', '.join(list(ENDINGS)[:-1])} or text in UTF-8",
            next_step="attach a screenshot, a PDF, a log, or a zip file",
        )
    file.seek(0)
    return "txt"


def refuse_more(before: Iterable[Attachment], user: str, binds: Sha256, size: int) -> None:
    """Raise RequestRefused if a tester may not attach one more file to a case.

    :param before: all files of the release.
    """
    known = tuple(before)
    files = {one.file.sha256: one.file.size for one in known}
    if sum(one.by == user and one.binds == binds for one in known) >= MAX_FILES:
        raise _refused(
            f"You have attached {MAX_FILES} files to this test case already",
            rule=f"at most {MAX_FILES} files of a tester for a case",
            next_step="put the address of further files into the field “Evidence” of your answer",
        )
    if sum(files.values()) + size > MAX_BYTES_OF_RELEASE:
        raise _refused(
            f"The files of this release have {sum(files.values()):,} bytes, and this one has {size:,}",
            rule=f"at most {MAX_BYTES_OF_RELEASE:,} bytes for a release, whose evidence pack has them",
            next_step="put the address of the file into the field “Evidence” of your answer",
        )


def attachments_in(entries: Iterable[Entry]) -> tuple[Attachment, ...]:
    """Return the files that were attached to test cases of a release, in their order.

    :param entries: of the release's chain, as far as the API server signed them.
    """
    return tuple(Attachment.model_validate(told(one.payload)) for one in entries if one.kind == CASE_ATTACHED)


def answered_with(entries: Iterable[Entry], task_id: str, asked: Sequence[Sha256]) -> tuple[Attachment, ...]:
    """Return the files that testers attached before they gave their results in an environment, in their order.

    What comes in while a result is being given belongs to none, so that a second reading finds the same.

    :param entries: of the release's chain, as far as the API server signed them.
    :param task_id: the task that asks the testers of the environment.
    :param asked: what each of its questions binds to, by map index.
    """
    waiting: dict[tuple[str, Sha256], list[Attachment]] = {}
    found: list[Attachment] = []
    for entry in entries:
        if entry.kind == CASE_ATTACHED:
            (one,) = attachments_in([entry])
            waiting.setdefault((one.by, one.binds), []).append(one)
        elif entry.kind == ANSWER_GIVEN and entry.payload.get("task_id") == task_id:
            given = GivenAnswer.model_validate(told(entry.payload))
            if 0 <= given.map_index < len(asked):
                found += waiting.pop((given.user, asked[given.map_index]), ())
    return tuple(found)


def _is_text(chunks: Iterable[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        found = any(_NOT_IN_TEXT.search(decoder.decode(chunk)) for chunk in chunks)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return not found


def _refused(what: str, *, next_step: str, rule: str = "a file's name is shown to people") -> RequestRefused:
    return RequestRefused(f"The file was not attached. {what}.", rule=rule, who="you", next_step=next_step)
