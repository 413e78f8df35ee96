"""The command line, mostly when there is no stack to ask."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock import __version__
from interlock.cli import stack_commands, where
from interlock.cli.app import main
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
    assert main(["evidence", "--stack", "release_bike_shop/one"]) == 1
    said = capsys.readouterr().out
    assert "The stack does not run" in said
    assert "make up" in said
    assert not no_stack.exists(), "asking makes no state"


def test_without_a_stack_a_policy_is_tried_against_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy-backtest", "--stack", "--old", str(CATALOGUE), "--new", str(CATALOGUE)]) == 0
    said = capsys.readouterr().out
    assert "these are the releases of the sample" in said
    assert "10 releases" in said


def test_a_policy_is_tried_against_the_releases_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = tmp_path / "none.jsonl"
    none.write_text("")
    assert main(["policy-backtest", "--stack", "--old", str(CATALOGUE), "--releases", str(none)]) == 0
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
    assert main(["stack", "hosts"]) == 1, "nothing runs"
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "bakery" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("bakery-production-01", "127.20.0.101", "stopped", "App: bakery", "bakery"),
    ]


def test_a_catalogue_whose_connections_are_all_there_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "check", "--stack"]) == 0
    assert capsys.readouterr().out == f"OK: {CATALOGUE}\n"


def test_a_connection_that_nothing_brings_is_doubtful_as_long_as_airflow_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(CATALOGUE, tmp_path / "catalogue")
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path / "catalogue"))
    file = tmp_path / "catalogue" / "services" / "bike-shop.yaml"
    file.write_text(file.read_text().replace("bike_shop_source", "bike_shop_sorce"))
    assert main(["catalogue", "check", "--stack"]) == 0
    said = capsys.readouterr().out
    assert "Warning: services/bike-shop.yaml: source.connection: airflow_settings.yaml has no connection" in said
    file.write_text(file.read_text().replace("output: build/bundle", "output: ."))
    assert main(["catalogue", "check", "--stack"]) == 1
    assert "must not be the checkout itself" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["dance"], ["stack", "up", "now"], ["evidence", "a", "b", "c"]])
def test_what_is_no_command_is_answered_with_how_to_call_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "Usage: interlock" in said.out + said.err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"interlock {__version__}\n"


def test_help_is_quick_for_it_imports_nothing_of_what_commands_do() -> None:
    """Airflow alone would take seconds."""
    ask = "import sys; from interlock.cli.app import main; main(['stack', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "typer" in loaded
    assert not loaded & {"airflow", "sqlalchemy", "psutil", "boto3", "yaml"}


def test_a_command_asks_the_stack_unless_an_airflow_is_configured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_HOME", raising=False)
    assert where.asks_stack(None)
    assert not where.asks_stack(False)
    monkeypatch.setenv("AIRFLOW_HOME", "/opt/airflow")
    assert not where.asks_stack(None)
    assert where.asks_stack(True)
    monkeypatch.delenv("AIRFLOW_HOME")
    monkeypatch.setattr(where, "INSTALLED", True)
    assert not where.asks_stack(None)


@pytest.mark.parametrize("command", [["stack", "up"], ["evidence", "--stack", "a/b"], ["stack", "run", "airflow"]])
def test_an_installed_wheel_has_no_stack(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(where, "INSTALLED", True)
    assert main(command) == 1
    assert "clone the project and run make up there" in capsys.readouterr().out


def test_a_command_in_a_stack_that_does_not_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stack", "run", "airflow", "dags", "list", "--help"]) == 1
    assert "The stack does not run" in capsys.readouterr().out


def test_an_interruption_is_said_and_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stack_commands, "stack_settings", interrupted)
    assert main(["stack", "up"]) == 130
    assert "✗ interrupted" in capsys.readouterr().out
