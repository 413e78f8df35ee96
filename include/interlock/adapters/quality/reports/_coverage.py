"""Coverage reports: which lines of each source file the unit tests ran, by Cobertura, JaCoCo, Clover or LCOV.

There is no library that reads the four of them as strictly as a gate has to. What has no lines is not covered: it is
unknown, and its row says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from interlock.domain.quality.rows import CoverageRow

from ._lcov import MAX_LINES, records
from ._numbers import count
from ._untrusted import Reader, root_of, unreadable

KNOWN = "Cobertura, JaCoCo, Clover or LCOV"


@dataclass(slots=True)
class _File:
    """A source file: its lines, and other facts of the report that prove code in it."""

    lines: dict[int, bool] = field(default_factory=dict)
    code: str = ""

    def add(self, number: int, covered: bool) -> bool:
        """Add a line, which several classes and tests may have; say whether it is new."""
        new = number not in self.lines
        self.lines[number] = self.lines.get(number, False) or covered
        return new


class _Files:
    """The source files of a report."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[tuple[str, ...], _File] = {}
        self._lines = 0

    def file(self, *key: str) -> _File:
        """Return a file; the last part of its key is its name, those before tell it from others of that name."""
        return self._files.setdefault(key, _File())

    def line(self, file: _File, number: int, covered: bool) -> None:
        """Add a line to a file."""
        self._lines += file.add(number, covered)
        if self._lines > MAX_LINES:
            raise unreadable(self._path, f"it has more than {MAX_LINES} lines, which is the maximum")

    def rows(self, changed: Mapping[str, frozenset[int]]) -> tuple[CoverageRow, ...]:
        """Return a row for each file, in the order of their names; files of one name are told apart."""
        names: dict[str, int] = {}
        for key in self._files:
            names[key[-1]] = names.get(key[-1], 0) + 1
        named = ((_called(key, names[key[-1]] > 1), key[-1], file) for key, file in self._files.items())
        rows = [_row(called, file, _lines_of(name, changed)) for called, name, file in named]
        return tuple(sorted([*rows, *self._left_out(changed)], key=lambda row: row.file))

    def _left_out(self, changed: Mapping[str, frozenset[int]]) -> Iterator[CoverageRow]:
        """Yield a row for each changed file of a kind that is measured, and that the report does not name."""
        names = [_plain(key[-1]) for key in self._files]
        measured = {PurePosixPath(name).suffix for name in names}
        for path, lines in changed.items():
            if PurePosixPath(path).suffix in measured and not any(_may_be(name, path) for name in names):
                yield CoverageRow(file=path, lines=0, covered=0, percent=None, changed=len(lines))


def coverage_rows(path: Path, changed: Mapping[str, frozenset[int]] | None = None) -> tuple[CoverageRow, ...]:
    """Read a coverage report into one row for each source file, in the order of their names.

    :param changed: the lines that a release changes, by their file's path in the repository; rows say how many of them
        can be run, and were.
    :raises QualityRejected: it is none of the four formats, or something in it cannot be read for certain.
    """
    files = _Files(path)
    if _is_xml(path):
        root = root_of(path)
        if root not in ("coverage", "report"):
            raise unreadable(path, f"its root element is <{root}>; it is not {KNOWN}")
        (_JaCoCo if root == "report" else _Coverage)(path, files).read()
    else:
        for record in records(path):
            file = files.file(record.name)
            for number, hits in record.lines:
                files.line(file, number, hits > 0)
            file.code = file.code or record.code
    return files.rows(changed or {})


def _is_xml(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise unreadable(path, str(error)) from error
    return start.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00").startswith(b"<")


def _called(key: tuple[str, ...], told_apart: bool) -> str:
    *others, name = key
    return f"{name} ({', '.join(filter(None, others)) or 'no package'})" if told_apart and others else name


def _row(name: str, file: _File, changed: frozenset[int]) -> CoverageRow:
    covered = sum(file.lines.values())
    touched = file.lines.keys() & changed
    return CoverageRow(
        file=name,
        lines=len(file.lines),
        covered=covered,
        percent=round(100 * covered / len(file.lines), 2) if file.lines else None,
        unknown="" if file.lines else file.code,
        changed=len(touched),
        changed_covered=sum(file.lines[number] for number in touched),
    )


def _lines_of(name: str, changed: Mapping[str, frozenset[int]]) -> frozenset[int]:
    """Return the changed lines of a file, which reports call by all or by some of its path."""
    plain = _plain(name)
    if plain in changed:
        return changed[plain]
    # Of several that it may be, all count.
    return frozenset().union(*(numbers for path, numbers in changed.items() if _may_be(plain, path)))


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _may_be(name: str, path: str) -> bool:
    """Tell whether a report's file name can mean a path in the repository."""
    return name == path or name.endswith(f"/{path}") or path.endswith(f"/{name}")


class _Xml(Reader):
    """Reads a report in XML."""

    def __init__(self, path: Path, files: _Files) -> None:
        super().__init__(path)
        self._files = files
        self._file: _File | None = None

    def whole(self, attributes: Mapping[str, str], *names: str) -> int:
        """Return the first of some attributes that is there, a count."""
        text = next((attributes[name] for name in names if name in attributes), "")
        if (value := count(text)) is None:
            raise self.refused(f"{' or '.join(names)} of a line is not a count: {text[:40]!r}")
        return value

    def line(self, number: int, covered: bool) -> None:
        """Add a line to the file that is open."""
        if self._file is None:
            raise self.refused("a line is outside of a file")
        self._files.line(self._file, number, covered)


class _Coverage(_Xml):
    """Reads ``<coverage>``, which is Cobertura's root, and Clover's."""

    def __init__(self, path: Path, files: _Files) -> None:
        super().__init__(path, files)
        self._form = ""
        self._package = ""
        self._classes: dict[tuple[str, str, str], int] = {}
        self._testing = 0

    def opened(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take an element of either form; the first element below the root determines the form."""
        if self.depth == 1:
            self._valid = attributes.get("lines-valid", "")
            return
        if not self._form and tag not in ("sources", "source"):
            self._form = {"packages": "cobertura", "project": "clover", "testproject": "clover"}.get(tag, "")
            if not self._form:
                raise self.refused(f"<{tag}> is below <coverage>; the report is not {KNOWN}")
        if self._testing or tag == "testproject":
            self._testing += 1  # Clover: how much of the tests themselves was run
        elif self._form == "cobertura":
            self._cobertura(tag, attributes)
        elif self._form:
            self._clover(tag, attributes)

    def closed(self, tag: str) -> None:
        """Take the end of an element."""
        if self._testing:
            self._testing -= 1
        elif tag == ("class" if self._form == "cobertura" else "file"):
            self._file = None
        elif self.depth == 1 and not self._form:
            raise self.refused(f"it has neither <packages> nor <project>; it is not {KNOWN}")

    def _cobertura(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "package":
            self._package = attributes.get("name", "")
        elif tag == "class":
            self._open_class(attributes)
        elif tag == "line":
            # Lines of methods stand below them, too, and in some reports nowhere else.
            self.line(self.whole(attributes, "number"), self.whole(attributes, "hits") > 0)
        elif tag == "method" and self._file is not None:
            self._file.code = self._file.code or "it has methods, but no lines"

    def _open_class(self, attributes: Mapping[str, str]) -> None:
        name = attributes.get("filename") or attributes.get("name") or ""
        if not name:
            raise self.refused("a class has neither filename nor name")
        # A file may hold several classes; the same class again is of another file that has its name.
        again = (self._package, name, attributes.get("name", ""))
        self._classes[again] = self._classes.get(again, 0) + 1
        number = f"number {self._classes[again]}" if self._classes[again] > 1 else ""
        self._file = self._files.file(self._package and f"package {self._package}", number, name)
        rate = attributes.get("line-rate", "1").strip()
        if rate not in ("1", "1.0", "1.00", "0", "0.0", ""):
            self._file.code = self._file.code or f"its line-rate is {rate[:20]}, and it has no lines"

    def _clover(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "file":
            name = attributes.get("path") or attributes.get("name") or ""
            if not name:
                raise self.refused("a file has neither path nor name")
            self._file = self._files.file(name)
        elif tag == "line":
            counts = [self.whole(attributes, key) for key in ("count", "truecount", "falsecount") if key in attributes]
            if not counts:
                raise self.refused("a line has no count")
            self.line(self.whole(attributes, "num"), any(counts))
        elif tag == "metrics" and self._file is not None and attributes.get("statements", "0") != "0":
            self._file.code = self._file.code or f"it has {attributes['statements'][:20]} statements, but no lines"


class _JaCoCo(_Xml):
    """Reads ``<report>``, JaCoCo's."""

    def __init__(self, path: Path, files: _Files) -> None:
        super().__init__(path, files)
        self._groups: list[str] = []
        self._package = ""

    def opened(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take an element."""
        if tag == "group":
            self._groups.append(attributes.get("name", ""))
        elif tag == "package":
            self._package = attributes.get("name", "")
        elif tag == "class":
            source = attributes.get("sourcefilename") or attributes.get("name", "").rpartition("/")[2]
            self._source(source).code = "it was compiled without line numbers"
        elif tag == "sourcefile":
            self._file = self._source(attributes.get("name", ""))
        elif tag == "line":
            self.line(self.whole(attributes, "nr"), self.whole(attributes, "ci") > 0)
        elif tag not in ("report", "sessioninfo", "method", "counter"):
            raise self.refused(f"<{tag}> is unknown; the report is not {KNOWN}")

    def _source(self, name: str) -> _File:
        if not name:
            raise self.refused("a source file has no name")
        return self._files.file(
            *(f"group {group}" for group in self._groups), f"{self._package}/{name}" if self._package else name
        )

    def closed(self, tag: str) -> None:
        """Take the end of an element."""
        if tag == "group":
            self._groups.pop()
        elif tag == "sourcefile":
            self._file = None
