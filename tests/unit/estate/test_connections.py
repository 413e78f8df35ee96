from __future__ import annotations

from pathlib import Path

import pytest

from interlock.adapters.airflow.connections import stored_connection
from interlock.domain.errors import AssetMissing
from interlock.estate.airflow.connections import (
    actual,
    delivered_connections,
    embedded_connections,
)
from interlock.estate.settings import SETTINGS_FILE, Settings
from interlock.installation.astro_settings import read_astro_settings

PASSWORDS = {"interlock_reader": "read-me", "board_clerk": "clerk-me"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path, network="127.33.0", aws_port=7001, smtp_port=7002, airflow_port=7003, ssh_port=7004)


def test_delivered_file_describes_an_estate_with_default_settings() -> None:
    delivered = read_astro_settings(SETTINGS_FILE)
    assert {entry.conn_id: entry for entry in delivered.connections} == delivered_connections()
    assert delivered.notes == ()


def test_delivered_file_has_no_secrets() -> None:
    delivered = read_astro_settings(SETTINGS_FILE)
    assert all(not entry.password for entry in delivered.connections)
    assert "password" not in SETTINGS_FILE.read_text().replace("passwords", "")


def test_file_as_delivered_follows_the_settings_of_the_estate(settings: Settings) -> None:
    delivered = read_astro_settings(SETTINGS_FILE).connections
    found = {entry.conn_id: actual(entry, settings, PASSWORDS) for entry in delivered}
    assert found == embedded_connections(settings, PASSWORDS)
    assert found["interlock_aws"].extra["endpoint_url"] == "http://127.0.0.1:7001"
    assert found["interlock_hosts"].extra["known_hosts"] == str(settings.known_hosts("production"))
    assert found["interlock_test_hosts"].extra["known_hosts"] == str(settings.known_hosts("test"))
    assert found["interlock_airflow"].password == "read-me"


def test_value_that_somebody_changed_is_taken_as_it_stands(settings: Settings) -> None:
    real = delivered_connections()["interlock_aws"].model_copy(
        update={"login": "", "extra": {"region_name": "us-east-1"}}
    )
    found = actual(real, settings, PASSWORDS)
    assert found == real
    assert found.password == ""


def test_values_beside_a_changed_one_still_follow_the_estate(settings: Settings) -> None:
    mail = delivered_connections()["interlock_smtp"]
    found = actual(
        mail.model_copy(update={"extra": {**mail.extra, "from_email": "me@example.org"}}), settings, PASSWORDS
    )
    assert found.port == 7002
    assert found.extra["from_email"] == "me@example.org"


def test_generated_password_goes_to_no_other_server(settings: Settings) -> None:
    elsewhere = delivered_connections()["interlock_airflow"].model_copy(update={"host": "airflow.example.com"})
    assert actual(elsewhere, settings, PASSWORDS).password == ""


def test_connection_that_the_estate_does_not_know_stays_as_it_is(settings: Settings) -> None:
    own = delivered_connections()["bike_shop_source"].model_copy(
        update={"conn_id": "other_source", "host": "https://x/y.git"}
    )
    assert actual(own, settings, PASSWORDS) == own


def test_ledger_is_entered_as_the_role_that_appends(settings: Settings) -> None:
    found = actual(
        delivered_connections()["interlock_ledger"], settings, {**PASSWORDS, "interlock_ledger_writer": "append-me"}
    )
    assert (found.type, found.schema_, found.login) == ("postgres", "interlock_ledger", "interlock_ledger_writer")
    assert found.password == "append-me"


def test_a_connection_that_airflow_does_not_have_is_named() -> None:
    with pytest.raises(AssetMissing, match="no connection interlock_elsewhere"):
        stored_connection("interlock_elsewhere")
