"""The commands that ask the stack something, when there is none to ask."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from interlock.estate.__main__ import main
from interlock.estate.world.memory import KeptGroup, KeptInstance, Memory
from interlock.locations import CATALOGUE


@pytest.fixture(autouse=True)
def no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERLOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path / "state"


def test_evidence_of_a_stack_that_does_not_run_is_refused_with_what_to_do(
    no_stack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", "release_bike_shop/one"]) == 1
    said = capsys.readouterr().out
    assert "The stack does not run" in said
    assert "make up" in said
    assert not no_stack.exists(), "asking makes no state"


def test_without_a_stack_a_policy_is_tried_against_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", "--old", str(CATALOGUE), "--new", str(CATALOGUE)]) == 0
    said = capsys.readouterr().out
    assert "these are the releases of the sample" in said
    assert "10 releases" in said


def test_a_policy_is_tried_against_the_releases_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.jsonl").write_text("")
    assert main(["backtest", "--old", str(CATALOGUE), "--releases", str(tmp_path / "none.jsonl")]) == 0
    assert "0 releases tried" in capsys.readouterr().out


def test_hosts_are_listed_with_where_they_are_and_who_sends_them_traffic(
    no_stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERLOCK_AWS_PORT", "5999")
    tags = {"Name": "bakery-production-01", "App": "bakery"}
    host = KeptInstance(address="127.20.0.101", tags=tags, type="t3.micro", zone="a", stopped=True)
    group = KeptGroup(name="bakery", protocol="HTTP", port=80, path="/", targets=(host.address,))
    (no_stack / "estate").mkdir(parents=True)
    (no_stack / "estate" / "aws.json").write_text(Memory(instances=(host,), groups=(group,)).model_dump_json())
    assert main(["hosts"]) == 1, "nothing runs"
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "bakery" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("bakery-production-01", "127.20.0.101", "stopped", "App: bakery", "bakery"),
    ]


def test_a_catalogue_whose_connections_are_all_there_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue"]) == 0
    assert capsys.readouterr().out == f"OK: {CATALOGUE}\n"


def test_a_connection_that_nothing_brings_is_doubtful_as_long_as_airflow_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(CATALOGUE, tmp_path / "catalogue")
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path / "catalogue"))
    file = tmp_path / "catalogue" / "services" / "bike-shop.yaml"
    file.write_text(file.read_text().replace("bike_shop_source", "bike_shop_sorce"))
    assert main(["catalogue"]) == 0
    said = capsys.readouterr().out
    assert "Warning: services/bike-shop.yaml: source.connection: airflow_settings.yaml has no connection" in said
    file.write_text(file.read_text().replace("output: build/bundle", "output: ."))
    assert main(["catalogue"]) == 1
    assert "must not be the checkout itself" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["dance"], ["up", "now"], ["evidence", "a", "b", "c"]])
def test_what_is_no_command_is_answered_with_those_there_are(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "up|demo|down" in capsys.readouterr().out
