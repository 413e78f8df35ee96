from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from interlock.adapters.catalogue.backtest import catalogue_folder, compare, read_releases
from interlock.domain.errors import RequestRefused
from interlock.locations import CATALOGUE, PROJECT

SAMPLE = PROJECT / "include" / "samples" / "past_releases.jsonl"


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A catalogue with a tighter policy than the project's."""
    folder = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    policy = folder / "policy.yaml"
    text = policy.read_text().replace("min_line_coverage_percent: 60", "min_line_coverage_percent: 65")
    policy.write_text(text.replace("plan_approval_from_risk: 60", "plan_approval_from_risk: 40"))
    return folder


def run(old: Path, new: Path = CATALOGUE, releases: Path = SAMPLE) -> str:
    """Return what is printed, on lines that are never broken."""
    out = io.StringIO()
    compare(str(old), new, releases, Console(file=out, width=300))
    return out.getvalue()


def test_it_says_what_would_have_been_stopped_and_how_that_ended(changed: Path) -> None:
    said = run(CATALOGUE, changed)
    assert "stopped: min_line_coverage_percent is 65, found was 61" in said
    assert "additionally asked: senior management approves the plan" in said
    assert "10 releases (7 deployed, 1 backed out, 1 failed, 1 rejected) tried." in said
    assert "2 releases (1 backed out, 1 failed) stopped by the new policy alone." in said
    assert "0 releases stopped by the old policy alone." in said


def test_the_same_catalogue_changes_nothing() -> None:
    said = run(CATALOGUE)
    assert "bike-shop" not in said
    assert "0 releases asked more people by the new policy." in said


def test_a_line_that_is_no_release_is_named(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(SAMPLE.read_text().splitlines()[0] + '\n\n{"service": 1}\n')
    with pytest.raises(RequestRefused, match=r"rows\.jsonl, line 3, service: Input should be a valid string"):
        read_releases(rows)
    with pytest.raises(RequestRefused, match=r"The past releases cannot be read: .*No such file"):
        read_releases(tmp_path / "none.jsonl")


def test_the_old_catalogue_is_what_git_has_unless_another_is_named() -> None:
    with catalogue_folder("git", CATALOGUE) as folder:
        assert (folder / "policy.yaml").is_file()
    assert not folder.exists()
