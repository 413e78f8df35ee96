"""Try every attack, write docs/attacks.md, and say how many got through: ``python -m tests.attacks [pytest's own]``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .suite import PAGE, Results


def main(arguments: list[str]) -> int:
    """Try the attacks; 1 if any got through or could not be tried."""
    results = Results()
    where = [] if any(Path(one).exists() for one in arguments) else [str(Path(__file__).parent)]
    ended = pytest.main(["-m", "attacks", *where, *arguments], plugins=[results])
    if where and results.is_complete:
        PAGE.write_text(results.page(), encoding="utf-8")
    for one in results.untried:
        print(f"Not tried: {one.what}")
    print(results.sentence())
    return 1 if ended or not results.withstood else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
