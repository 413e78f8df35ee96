"""Try a change of the policy against past releases: ``make policy-backtest``.

The releases are lines of a JSON lines file (:class:`interlock.domain.change.backtest.ReleaseFacts`). The old catalogue
is a folder, or what git has of the project's own; the new one is a folder, by default the project's own as it is now.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.domain.change.backtest import BacktestResult, Comparison, ReleaseFacts, backtest, endings
from interlock.domain.errors import CatalogueError, ReleaseError, RequestRefused
from interlock.locations import CATALOGUE, PROJECT

from .catalogue import load_catalogue

COMMITTED = "git"
"""What ``--old`` takes for the catalogue as it was committed last."""


def read_releases(path: Path) -> tuple[ReleaseFacts, ...]:
    """Read past releases, one on each line.

    :raises RequestRefused: a line is not a release.
    """
    return tuple(_releases(path.name, path.read_text(encoding="utf-8").splitlines()))


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
                who="whoever made the file",
                next_step="correct the line and try again",
            ) from None


@contextmanager
def catalogue_folder(named: str) -> Iterator[Path]:
    """Give the folder of a catalogue: a path, or ``git`` for what was committed last.

    :raises CatalogueError: git has none.
    """
    if named != COMMITTED:
        yield Path(named)
        return
    inside = CATALOGUE.relative_to(PROJECT).as_posix()
    with TemporaryDirectory(prefix="interlock-") as folder:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), "archive", "--format=tar", "HEAD", inside], capture_output=True, check=False
        )
        if done.returncode:
            raise CatalogueError(
                f"Git does not have the catalogue as it was: {done.stderr.decode(errors='replace').strip()}.",
                who="you",
                next_step="name the folder of the old catalogue: make policy-backtest OLD=path/to/catalogue",
            )
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder) / inside


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
        yield from (f"asked, too: {who}" for who in comparison.asked_more)
        yield from (f"no longer asked: {who}" for who in comparison.asked_less)


def _why(verdict: BacktestResult) -> str:
    return "; ".join(verdict.stopped)


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Compare two catalogues over past releases."""
    parser = argparse.ArgumentParser(prog="python -m interlock.adapters.catalogue.backtest", description=__doc__)
    parser.add_argument("--old", default=COMMITTED, help="the old catalogue's folder (default: as committed in git)")
    parser.add_argument("--new", default=str(CATALOGUE), help="the new catalogue's folder (default: the project's own)")
    parser.add_argument("--releases", type=Path, required=True, help="a JSON lines file of past releases")
    given = parser.parse_args(arguments)
    out = console or Console()
    try:
        releases = read_releases(given.releases)
        with catalogue_folder(given.old) as before, catalogue_folder(given.new) as after:
            compared = backtest(load_catalogue(before), load_catalogue(after), releases)
    except (ReleaseError, OSError) as error:
        out.print(Text(str(error)))
        return 1
    report(compared, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
