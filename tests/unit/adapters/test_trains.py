"""The files of trains: each mistake is named with its line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from interlock.adapters.catalogue.catalogue import load_rules, what_is_wrong
from interlock.adapters.catalogue.trains import load_train, load_trains
from interlock.cli.app import main
from interlock.domain.errors import CatalogueError
from interlock.locations import CATALOGUE

WEEKLY = (CATALOGUE / "trains" / "weekly.yaml").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))


def change(folder: Path, old: str, new: str) -> str:
    """Change the sample's train; return the number of the line that changes."""
    assert WEEKLY.count(old) == 1
    (folder / "trains" / "weekly.yaml").write_text(WEEKLY.replace(old, new))
    return str(WEEKLY[: WEEKLY.index(old)].count("\n") + 1)


def test_the_sample_is_well(folder: Path) -> None:
    assert what_is_wrong(folder) == []
    found = load_trains(folder, *load_rules(folder))
    assert (list(found.trains), dict(found.broken)) == (["weekly"], {})
    assert [train.name for train in found.carrying("bike-shop")] == ["weekly"]
    assert found.carrying("till") == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("service: bike-shop", "service: till", 'found "till"; allowed: an existing service: bike-shop'),
        ("name: weekly", "name: daily", "the name of the file without .yaml, weekly"),
        ("late: left_behind", "late: gone", 'found "gone"'),
        ("cadence:", "cadense:", "an unknown key"),
        ("patience: PT4H", "patience: 4h", "ISO 8601"),
        ("change_type: normal", "board: nobody", "a board of board.yaml: cab, ecab"),
        ('tags: "1.*"', 'tags: "1.*"\n    risk: { fire: true }', "a risk question of policy.yaml: customer_data"),
        ('tags: "1.*"', "named: { ref: 1.1.0, version: 1.1.0, by: zoe }", "a person listed in board.yaml"),
        ('tags: "1.*"', "named: { ref: x, version: 2025.01.0, by: rita }", "2025.01.0 is not a semantic version"),
        ('tags: "1.*"', "named: { ref: x, version: 1.2.3.4, by: rita }", "1.2.3.4 is not a semantic version"),
        ('tags: "1.*"', "named: { ref: x, version: 1.2.3-, by: rita }", "1.2.3- is not a semantic version"),
        (
            'tags: "1.*"',
            "named: { ref: v1.1.0, version: 9.9.9, by: rita }",
            "ref is the tag of 1.1.0, and version is 9",
        ),
        ('tags: "1.*"', "named: { ref: refs/tags/1.1.0, version: 9.9.9, by: rita }", "ref is the tag of 1.1.0"),
        ('tags: "1.*"', 'tags: "release-*"', "no tag with the pattern release-* is a semantic version"),
        ('tags: "1.*"', 'tags: "2025.01.0"', "no tag with the pattern 2025.01.0 is a semantic version"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder: Path, old: str, new: str, said: str) -> None:
    line = change(folder, old, new)
    (message,) = what_is_wrong(folder)
    assert message.startswith("trains/weekly.yaml")
    assert said in message
    if "\n" not in new and "cadense" not in new:
        assert f"line {line}" in message


def test_a_broken_train_is_left_out_and_the_others_are_there(folder: Path) -> None:
    (folder / "trains" / "daily.yaml").write_text("name: [")
    (folder / "trains" / "monthly.yml").write_text(WEEKLY)
    found = load_trains(folder, *load_rules(folder))
    assert list(found.trains) == ["weekly"]
    assert sorted(found.broken) == ["daily", "monthly"]
    assert "allowed: monthly.yaml" in found.broken["monthly"]


def test_a_train_that_is_changed_is_read_again(folder: Path) -> None:
    rules = load_rules(folder)
    assert load_train(folder, *rules, "weekly").title == "The weekly train"
    change(folder, "title: The weekly train", "title: Another train")
    assert load_train(folder, *rules, "weekly").title == "Another train"
    with pytest.raises(CatalogueError, match=r'The catalogue has no train "daily"\. Available: weekly'):
        load_train(folder, *rules, "daily")


def test_an_unknown_country_of_holidays_is_named(folder: Path) -> None:
    change(folder, 'cadence:\n  cron: "0 20 * * TUE"', "target:\n  at: 2027-01-05T20:00\n  holidays: { country: QQ }")
    (message,) = what_is_wrong(folder)
    assert "target.holidays" in message


def test_the_check_of_the_catalogue_looks_at_trains(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "service: bike-shop", "service: till")
    assert main(["catalogue", "check", "--here", "--folder", str(folder)]) == 1
    assert "trains/weekly.yaml" in capsys.readouterr().out


@pytest.mark.parametrize("tags", ["*", "v*", "1.*", "v2.?.0", "1.2.3", "v1.2.3-rc.1", "?.?.?", "*-rc.*"])
def test_tags_that_may_be_versions_may_board(folder: Path, tags: str) -> None:
    change(folder, 'tags: "1.*"', f'tags: "{tags}"')
    assert what_is_wrong(folder) == []
