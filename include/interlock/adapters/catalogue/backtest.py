"""Try a change of the policy against past releases: ``interlock policy-backtest``.

The releases are lines of a JSON lines file (:class:`interlock.domain.change.backtest.ReleaseFacts`). The new catalogue
is a folder; the old one is another, or what git has of the new one.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.domain.change.backtest import BacktestResult, Comparison, ReleaseFacts, backtest, endings
from interlock.domain.errors import CatalogueError, RequestRefused

from .catalogue import load_catalogue

COMMITTED = "git"
"""The value of ``--old`` for the last committed catalogue."""


def read_releases(path: Path) -> tuple[ReleaseFacts, ...]:
    """Read past releases, one on each line.

    :raises RequestRefused: the file cannot be read, or a line is not a release.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRefused(f"The past releases cannot be read: {error}.", next_step="name another file") from None
    return tuple(_releases(path.name, lines))


def _releases(shown: str, lines: Iterable[str]) -> Iterator[ReleaseFacts]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield ReleaseFacts.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise RequestRefused(
                f"{shown}, line {number}, {place}: {first['msg']}.",
                rule="each line is a release as JSON, with the fields of ReleaseFacts (domain/change/backtest.py)",
                who="the author of the file",
                next_step="correct the line and try again",
            ) from None


@contextmanager
def catalogue_folder(named: str, current: Path) -> Iterator[Path]:
    """Give the folder of a catalogue: a path, or ``git`` for the current one as it was committed last.

    :raises CatalogueError: git has none.
    """
    if named != COMMITTED:
        yield Path(named)
        return
    with TemporaryDirectory(prefix="interlock-") as folder:
        done = subprocess.run(
            ["git", "-C", str(current), "archive", "--format=zip", "HEAD"], capture_output=True, check=False
        )
        if done.returncode:
            raise CatalogueError(
                f"The committed catalogue could not be read from Git: {done.stderr.decode(errors='replace').strip()}.",
                who="you",
                next_step="name the folder of the old catalogue: make policy-backtest OLD=path/to/catalogue, "
                "or interlock policy-backtest --old path/to/catalogue",
            )
        with ZipFile(io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder)
        yield Path(folder)


def report(compared: Sequence[Comparison], console: Console) -> None:
    """Print which releases the new policy would have treated in another way, and how they ended."""
    different = [comparison for comparison in compared if comparison.differs]
    if different:
        table = Table("Release", "Ended", "Risk", "With the new policy", box=box.SIMPLE_HEAD, show_lines=True)
        for comparison in different:
            release = comparison.release
            named = f"{release.service} {release.version}\n{release.change_type}, {release.at:%Y-%m-%d}"
            risk = f"{comparison.old.risk} → {comparison.new.risk}"
            table.add_row(
                Text(named), Text(release.outcome.replace("_", " ")), risk, Text("\n".join(_changes(comparison)))
            )
        console.print(table)
    for line in summary(compared):
        console.print(Text(line))


def summary(compared: Sequence[Comparison]) -> list[str]:
    """Say in a few lines what the change would have done."""
    stopped = [each for each in compared if each.newly_stopped]
    freed = [each for each in compared if each.no_longer_stopped]
    return [
        f"{_counted(compared)} tried.",
        f"{_counted(stopped)} stopped by the new policy alone.",
        f"{_counted(freed)} stopped by the old policy alone.",
        f"{_counted([each for each in compared if _more(each)])} asked more people by the new policy.",
        f"{_counted([each for each in compared if _fewer(each)])} asked fewer people by the new policy.",
    ]


def _more(comparison: Comparison) -> bool:
    return bool(comparison.asked_more) and not comparison.new.stopped


def _fewer(comparison: Comparison) -> bool:
    return bool(comparison.asked_less) and not comparison.asked_more and not comparison.new.stopped


def _counted(compared: Sequence[Comparison]) -> str:
    ended = ", ".join(f"{number} {how.replace('_', ' ')}" for how, number in endings(compared).items())
    number = len(compared)
    return f"{number} release{'' if number == 1 else 's'}{f' ({ended})' if ended else ''}"


def _changes(comparison: Comparison) -> Iterator[str]:
    if comparison.newly_stopped:
        yield f"stopped: {_why(comparison.new)}"
    elif comparison.no_longer_stopped:
        yield f"no longer stopped: {_why(comparison.old)}"
    if not comparison.new.stopped:
        yield from (f"additionally asked: {who}" for who in comparison.asked_more)
        yield from (f"no longer asked: {who}" for who in comparison.asked_less)


def _why(verdict: BacktestResult) -> str:
    return "; ".join(verdict.stopped)


def compare(old: str, new: Path, releases: Path, console: Console) -> None:
    """Print what a changed catalogue would have done to past releases.

    :param old: the folder of the old catalogue, or ``git`` for the new one as it was committed last.
    :param releases: a JSON lines file of past releases.
    :raises ReleaseError: a catalogue or the file cannot be used.
    """
    rows = read_releases(releases)
    with catalogue_folder(old, new) as before:
        report(backtest(load_catalogue(before), load_catalogue(new), rows), console)
