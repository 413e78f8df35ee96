from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest

from interlock.estate.settings import Settings
from interlock.estate.stack import postgres, process_supervisor


def parsed(settings: Settings) -> configparser.RawConfigParser:
    config = configparser.RawConfigParser()
    config.read_string(process_supervisor.supervisor_config(settings))
    return config


def test_database_and_estate_start_at_once_and_airflow_waits(tmp_path: Path) -> None:
    config = parsed(Settings(state=tmp_path))
    starts = {
        name: config[f"program:{name}"]["autostart"] for name in ("postgres", "estate", "scheduler", "api-server")
    }
    assert starts == {"postgres": "true", "estate": "true", "scheduler": "false", "api-server": "false"}


def test_database_is_asked_to_end_by_its_own_signal_and_alone(tmp_path: Path) -> None:
    program = parsed(Settings(state=tmp_path))["program:postgres"]
    assert (program["stopsignal"], program["stopasgroup"]) == ("INT", "false")


def test_configuration_holds_no_secret(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    password = postgres.ledger_password(settings, postgres.LEDGER_WITNESS)
    assert password not in process_supervisor.supervisor_config(settings)
    config = parsed(settings)
    having = {
        section: config[section]["environment"] for section in config.sections() if "environment" in config[section]
    }
    assert list(having) == ["program:api-server"], "what signs answers is told to nobody else"
    assert having["program:api-server"] == (
        f'INTERLOCK_WITNESS_KEY="{(tmp_path / "witness" / "witness.pem").as_uri()}",'
        f'INTERLOCK_WITNESS_LEDGER_URL_FILE="{tmp_path / "witness" / "ledger_url"}"'
    )


@pytest.mark.parametrize("name", ["with blanks", "50%", "it's", "ünïcode"])
def test_any_folder_can_be_the_state(tmp_path: Path, name: str) -> None:
    settings = Settings(state=tmp_path / name)
    program = parsed(settings)["program:postgres"]
    words = shlex.split(program["command"].replace("%%", "%"))
    assert str(settings.state / "postgres") in words
    assert program["stdout_logfile"].replace("%%", "%") == str(settings.logs / "postgres.log")


def test_socket_has_a_name_that_is_short_enough(tmp_path: Path) -> None:
    near, far = Settings(state=Path("/s")), Settings(state=tmp_path / ("deep/" * 30))
    assert process_supervisor.socket_of(near) == Path("/s/run/supervisor.sock")
    assert len(str(process_supervisor.socket_of(far))) <= process_supervisor.MAX_SOCKET_PATH_BYTES
    assert process_supervisor.socket_of(far) != process_supervisor.socket_of(Settings(state=tmp_path / ("deep/" * 31)))


def test_supervisor_that_is_not_there_knows_nothing(tmp_path: Path) -> None:
    assert process_supervisor.states(Settings(state=tmp_path)) == {}
