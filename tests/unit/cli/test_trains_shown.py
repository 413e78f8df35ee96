"""What ``make trains`` prints."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from interlock.adapters.calendars.feeds import path_of_copy
from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.catalogue.trains import load_train
from interlock.cli import trains
from interlock.cli.app import main
from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import TRAIN_OPENED
from interlock.domain.trains.manifest import Boarded, LeftBehind, PlannedRun
from interlock.locations import CATALOGUE
from tests.git_project import GitProject, git_project
from tests.memory_ledger import MemoryLedger

COPIES = Path("/nonexistent/calendars")
AT_A_URL = """\
title: Calendar
owner: o
time_zone: Europe/Berlin
entries:
  - name: audit
    title: Audit
    kind: freeze
    ical: { url: "https://calendars.example/audit.ics" }
"""
FREEZE = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VEVENT
UID:audit
DTSTAMP:20260101T000000Z
DTSTART:{start:%Y%m%dT%H%M%SZ}
DTEND:{end:%Y%m%dT%H%M%SZ}
SUMMARY:Audit
END:VEVENT
END:VCALENDAR
"""


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
    assert main(["trains", "--stack"]) == 0
    said = capsys.readouterr().out
    assert "The stack does not run" in said
    assert said.count("departs Tue ") == 3
    assert "20:00 C" in said
    assert "off schedule: it departs only when triggered (on_schedule: false in trains/weekly.yaml)" in said


def test_a_train_on_schedule_is_not_called_off_schedule(tmp_path: Path, console: Console) -> None:
    folder = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    file = folder / "trains" / "weekly.yaml"
    file.write_text(file.read_text().replace("on_schedule: false", "on_schedule: true"))
    assert trains.show(folder, console, with_ledger=False, copies_in=COPIES)
    assert "departs Tue " in text(console)
    assert "off schedule" not in text(console)


def test_a_broken_train_is_named_and_the_others_are_shown(tmp_path: Path, console: Console) -> None:
    folder = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    (folder / "trains" / "daily.yaml").write_text("name: daily\n")
    assert trains.show(folder, console, with_ledger=False, copies_in=COPIES) is False
    assert "trains/daily.yaml" in text(console)
    assert "The weekly train" in text(console)


def test_an_enterprise_release_shows_its_milestones(tmp_path: Path, console: Console) -> None:
    folder = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
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
    assert trains.show(folder, console, with_ledger=False, copies_in=COPIES)
    assert "departs Tue 2099-03-03 20:00 CET" in text(console)
    assert "Tue 2099-02-17  Scope is fixed (scope)" in text(console)


def test_it_says_who_would_board_and_why_anybody_would_not(console: Console) -> None:
    train = load_train(CATALOGUE, *load_rules(CATALOGUE), "weekly")
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
        why="the highest version among the tags with the pattern 1.*",
    )
    trains.show_boarding(train, {"bike-shop": one}, console)
    assert "1.1.0" in text(console)
    assert "the highest version" in text(console)
    waiting = train.model_copy(update={"late": "wait"})
    trains.show_boarding(waiting, {"bike-shop": LeftBehind(service="bike-shop", late=True, why="no tag")}, console)
    for said in ("stays behind", "no tag", "the train would wait, for bike-shop", "no service would be on board"):
        assert said in text(console)


def next_tuesday() -> datetime:
    """Return when the weekly train departs next."""
    now = datetime.now(ZoneInfo("Europe/Berlin"))
    at = now.replace(hour=20, minute=0, second=0, microsecond=0) + timedelta(days=(1 - now.weekday()) % 7)
    return at if at > now else at + timedelta(days=7)


@pytest.mark.parametrize("fetched", [True, False], ids=["a copy is there", "never fetched"])
def test_calendars_at_urls_are_shown_as_they_were_fetched(tmp_path: Path, console: Console, fetched: bool) -> None:
    folder = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    (folder / "calendars" / "audit.yaml").write_text(AT_A_URL)
    copies = tmp_path / "calendars"
    copies.mkdir()
    tuesday = next_tuesday()
    if fetched:
        copy = path_of_copy(copies, Feed(url="https://calendars.example/audit.ics"))
        start = tuesday.astimezone(UTC) - timedelta(hours=2)
        copy.write_text(FREEZE.format(start=start, end=start + timedelta(hours=12)))
    assert trains.show(folder, console, with_ledger=False, copies_in=copies)
    moved = f"departs {tuesday + timedelta(hours=10):%a %Y-%m-%d} 06:00"
    assert (moved in text(console)) == fetched
    assert ("moved from Tue" in text(console)) == fetched
    assert ("A calendar at calendars.example is not shown" in text(console)) != fetched


class Stack:
    """What Airflow and the ledger of a stack say, and the bike shop's repository."""

    def __init__(self, project: GitProject) -> None:
        self.project, self.ledger = project, MemoryLedger()
        self.unpaused = {"train_weekly"}
        self.running: set[str] = set()
        self.commits = {}
        for version in ("1.0.0", "1.1.0"):
            self.commits[version] = project.commit({"version": version}, f"Sell bikes, {version}")
            project.git("tag", version)

    def connection(self, conn_id: str) -> SimpleNamespace:
        assert conn_id in ("interlock_ledger", "bike_shop_source")
        return SimpleNamespace(host=self.project.folder.as_uri(), login="", password="")

    def deployed(self, version: str) -> None:
        run = f"release_bike_shop/{version}"
        made = {"version": version, "commit": {"sha": self.commits[version]}}
        self.ledger.append(release_chain(*run.split("/")), "plan.made", made, actor="x", key="plan")
        told = {"run": run, "service": "bike-shop", "version": version, "change_type": "normal", "outcome": "deployed"}
        self.ledger.append(INSTALLATION, "release.ended", told, actor="x", key=run)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    made = Stack(git_project(tmp_path / "bike-shop"))
    monkeypatch.setattr(trains, "stored_connection", made.connection)
    monkeypatch.setattr(trains, "open_ledger", lambda _: made.ledger)
    monkeypatch.setattr(trains, "unpaused", lambda dag_ids: made.unpaused & set(dag_ids))
    monkeypatch.setattr(trains, "runs_under_way", lambda: made.running)
    return made


def test_with_a_ledger_it_shows_who_would_board(stack: Stack, console: Console) -> None:
    stack.deployed("1.0.0")
    assert trains.show(CATALOGUE, console, with_ledger=True, copies_in=COPIES)
    said = text(console)
    assert said.count("departs Tue ") == 3
    row = next(line for line in said.splitlines() if "bike-shop" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][:3] == ["bike-shop", "1.1.0", "1.0.0"]
    assert "the highest version among the tags with the pattern 1.*" in row
    for missing in ("The stack does not run", "paused", "no service would be on board", "stays behind"):
        assert missing not in said


def test_with_a_ledger_it_shows_that_what_would_board_runs_already(stack: Stack, console: Console) -> None:
    stack.deployed("1.1.0")
    assert trains.show(CATALOGUE, console, with_ledger=True, copies_in=COPIES)
    assert "nothing new" in text(console)
    assert "1.1.0, the version that would board, already runs" in text(console)
    assert "no service would be on board" in text(console)


def test_with_a_ledger_it_shows_which_trains_are_paused_and_under_way(stack: Stack, console: Console) -> None:
    at = datetime(2099, 3, 7, 10, tzinfo=UTC)
    planned_run = PlannedRun(train="weekly", departure=at, cut_off=at - timedelta(hours=2), asked_by="rita")
    stack.ledger.append(
        release_chain("train_weekly", "manual__1"), TRAIN_OPENED, planned_run.to_xcom(), actor="x", key="1"
    )
    stack.unpaused, stack.running = set(), {"train_weekly/manual__1"}
    assert trains.show(CATALOGUE, console, with_ledger=True, copies_in=COPIES)
    assert "paused: nothing departs until its Dag train_weekly is unpaused" in text(console)
    assert "under way: departs Sat 2099-03-07 11:00 CET, sent by rita (train_weekly/manual__1)" in text(console)
    stack.running = set()  # it was deleted, or ended without saying so
    shown = Console(file=io.StringIO(), width=250)
    assert trains.show(CATALOGUE, shown, with_ledger=True, copies_in=COPIES)
    assert "under way" not in text(shown)
