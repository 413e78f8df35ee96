"""Try every attack, write docs/attacks.md, and say how many got through: ``python -m tests.attacks [pytest's own]``.

With files or tests named, only those are tried, and their rows in docs/attacks.md are written anew; so are the rows of
what was tried when not all could be.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .suite import PAGE, Results, findings_of, page, rows_of

LONGEST = 900
"""Seconds that an attack may take; the first one waits for the stack."""


def main(arguments: list[str]) -> int:
    """Try the attacks; 1 if any got through or could not be tried."""
    results = Results()
    where = [] if any(Path(one.partition("::")[0]).exists() for one in arguments) else [str(Path(__file__).parent)]
    ended = pytest.main(["-m", "attacks", f"--timeout={LONGEST}", *where, *arguments], plugins=[results])
    if where and results.is_complete:
        PAGE.write_text(page(results.withstood.items(), results.found), encoding="utf-8")
    elif PAGE.exists():
        before = PAGE.read_text(encoding="utf-8")
        # Findings are counted over all attacks: those of some of them say nothing of the others.
        PAGE.write_text(page(results.since(rows_of(before)), findings_of(before)), encoding="utf-8")
    for one in results.untried:
        print(f"Not tried: {one.what}")
    print(results.sentence())
    return 1 if ended or not results.withstood else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
