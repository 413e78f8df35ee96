"""What ``make trains`` prints."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from include.interlock.adapters.catalogue import FOLDER, load_rules
from include.interlock.adapters.trains import load_train
from include.interlock.domain.train_manifest import Boarded, LeftBehind
from include.interlock.estate import trains
from include.interlock.estate.__main__ import main


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=250)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_stack_the_departures_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERLOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["trains"]) == 0
    said = capsys.readouterr().out
    assert "The stack does not run" in said
    assert said.count("departs Tue ") == 3
    assert "20:00 C" in said


def test_a_broken_train_is_named_and_the_others_are_shown(tmp_path: Path, console: Console) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "catalogue"))
    (folder / "trains" / "daily.yaml").write_text("name: daily\n")
    assert trains.show(folder, console, with_ledger=False) is False
    assert "trains/daily.yaml" in text(console)
    assert "The weekly train" in text(console)


def test_an_enterprise_release_shows_its_milestones(tmp_path: Path, console: Console) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "catalogue"))
    target = """target:
  at: 2099-03-03T20:00
  holidays: { country: DE, region: BY }
  milestones:
    - { name: scope, title: Scope is fixed, working_days_before: 10 }
"""
    file = folder / "trains" / "weekly.yaml"
    old = 'cadence:\n  cron: "0 20 * * TUE"'
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, target))
    assert trains.show(folder, console, with_ledger=False)
    assert "departs Tue 2099-03-03 20:00 CET" in text(console)
    assert "Tue 2099-02-17  Scope is fixed (scope)" in text(console)


def test_it_says_who_would_board_and_why_anybody_would_not(console: Console) -> None:
    train = load_train(FOLDER, *load_rules(FOLDER), "weekly")
    one = Boarded(
        service="bike-shop",
        version="1.1.0",
        ref="1.1.0",
        commit="a" * 40,
        replaces="1.0.0",
        commits=1,
        risk=12,
        answers={},
        summary="s",
        why="the highest version among the tags like 1.*",
    )
    trains.show_boarding(train, {"bike-shop": one}, console)
    assert "1.1.0" in text(console)
    assert "the highest version" in text(console)
    waiting = train.model_copy(update={"late": "wait"})
    trains.show_boarding(waiting, {"bike-shop": LeftBehind(service="bike-shop", late=True, why="no tag")}, console)
    for said in ("stays behind", "no tag", "the train would wait, for bike-shop", "nobody would be on board"):
        assert said in text(console)
