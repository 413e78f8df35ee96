"""docs/attacks.md is what `make attacks` wrote, about the attacks that there are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.attacks.suite import ADMIN, PAGE, Attack, page, sentence

ROOT = Path(__file__).parents[2]
COLLECT = """
import json, pytest
from tests.attacks.suite import Results
results = Results()
pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests/attacks"], plugins=[results])
print("RESULT" + json.dumps(sorted(one.what for one in results.known)))
"""


def test_the_page_has_every_attack_and_no_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
    assert line, done.stdout + done.stderr
    known = json.loads(line.removeprefix("RESULT"))
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert sorted(row[0].removeprefix("| ") for row in rows) == known
    assert f"\n{len(known)} attacks tried, " in PAGE.read_text(encoding="utf-8")


def test_an_attack_that_got_through_stands_out() -> None:
    one, other = (Attack(what, ADMIN, "API", "the guard") for what in ("mark a ballot", "clear a ballot"))
    assert sentence([True, False]) == "2 attacks tried, 1 got through"
    lines = page([(one, True), (other, False)]).splitlines()
    assert "2 attacks tried, 1 got through." in lines
    assert f"| mark a ballot | {ADMIN} | API | the guard | withstood |" in lines
    assert f"| clear a ballot | {ADMIN} | API | the guard | **got through** |" in lines
