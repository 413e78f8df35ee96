"""Change the code that counts votes, gives permits and keeps the ledger, a little in each place: do the tests notice?

``python -m tests.mutation [mutmut's own]`` names every change that they did not notice, and ends with 1 if these are
more than one in twenty. What is changed, and which tests are run, is under ``[tool.mutmut]`` in ``pyproject.toml``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUTANTS = ROOT / "mutants"
LOG = MUTANTS / "run.log"
MUTMUT = str(Path(sys.executable).parent / "mutmut")
FEWEST = 0.95


def main(arguments: list[str]) -> int:
    """Test every change anew; what an earlier run found may have been found by tests that are no more."""
    if not Path(MUTMUT).exists():
        print(
            "mutmut is not installed: name it in requirements-test.txt, then make lock and make install.",
            file=sys.stderr,
        )
        return 1
    shutil.rmtree(MUTANTS, ignore_errors=True)
    MUTANTS.mkdir()
    # mutmut takes a module's name from its path, and of all folders on the path it knows only src.
    for name, seen_as in {
        "include": ("src", "include"),
        "tests": ("tests",),
        "pyproject.toml": ("pyproject.toml",),
    }.items():
        for link in seen_as:
            (MUTANTS / link).symlink_to(ROOT / name)
    print(f"This takes some minutes; the progress is in {LOG.relative_to(ROOT)}.", flush=True)
    with LOG.open("w", encoding="utf-8") as log:
        subprocess.run([MUTMUT, "run", *arguments], cwd=MUTANTS, stdout=log, stderr=log, env=environment(), check=True)
    for name in survivors():
        print(asked("show", name))
    asked("export-cicd-stats")
    counted = json.loads((MUTANTS / "mutants" / "mutmut-cicd-stats.json").read_text(encoding="utf-8"))
    noticed, total = counted["killed"] + counted["timeout"] + counted["segfault"], counted["total"]
    print(f"{noticed} of {total} changes were noticed by a test: {noticed / total:.1%}; asked are {FEWEST:.0%}.")
    return 0 if noticed >= FEWEST * total else 1


def survivors() -> list[str]:
    """Return the names of the changes that no test noticed."""
    return [line.split(":")[0].strip() for line in asked("results").splitlines() if "__mutmut_" in line]


def asked(*arguments: str) -> str:
    """Ask mutmut about its run."""
    return subprocess.run(
        [MUTMUT, *arguments], cwd=MUTANTS, stdout=subprocess.PIPE, text=True, env=environment(), check=True
    ).stdout


def environment() -> dict[str, str]:
    """Return what mutmut is run with: not the project's own code on the path, and always the same examples."""
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "INTERLOCK_HYPOTHESIS": "mutation",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
