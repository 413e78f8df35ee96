from __future__ import annotations

from pathlib import Path

import pytest

from interlock.installation.astro_settings import (
    AstroSettings,
    AstroSettingsError,
    PoolEntry,
    VariableEntry,
    read_astro_settings,
)


def read(folder: Path, text: str) -> AstroSettings:
    path = folder / "airflow_settings.yaml"
    path.write_text(text)
    return read_astro_settings(path)


def connection(folder: Path, lines: str) -> AstroSettings:
    return read(folder, f"airflow:\n  connections:\n    - {lines.strip()}")


def test_missing_file_says_nothing(tmp_path: Path) -> None:
    assert read_astro_settings(tmp_path / "nowhere.yaml") == AstroSettings()


def test_template_of_the_cli_is_left_out_in_silence(tmp_path: Path) -> None:
    """What `astro dev init` writes: every key, no value."""
    read_settings = read(
        tmp_path,
        """
airflow:
  connections:
    - conn_id:
      conn_type:
      conn_host:
      conn_schema:
      conn_login:
      conn_password:
      conn_port:
      conn_uri:
      conn_extra:
        example_extra_field: example-value
  pools:
    - pool_name:
      pool_slot:
      pool_description:
  variables:
    - variable_name:
      variable_value:
""",
    )
    assert read_settings == AstroSettings()


def test_every_field_of_a_connection_is_read(tmp_path: Path) -> None:
    entry = connection(
        tmp_path,
        """conn_id: shop
      conn_type: http
      conn_host: example.com
      conn_schema: https
      conn_login: me
      conn_password: 123
      conn_port: "8443"
      conn_extra: '{"verify": false}'""",
    ).connections[0]
    assert (entry.conn_id, entry.type, entry.host, entry.schema_) == ("shop", "http", "example.com", "https")
    assert (entry.login, entry.password, entry.port, entry.extra) == ("me", "123", 8443, {"verify": False})


def test_password_is_not_in_what_is_logged(tmp_path: Path) -> None:
    entry = connection(tmp_path, "{conn_id: shop, conn_type: http, conn_password: open-sesame}").connections[0]
    assert "open-sesame" not in repr(entry)


def test_uri_counts_when_it_is_alone(tmp_path: Path) -> None:
    entry = connection(tmp_path, "{conn_id: db, conn_uri: 'postgres://u:p@h:5432/d'}").connections[0]
    assert (entry.uri, entry.type) == ("postgres://u:p@h:5432/d", "")


def test_uri_has_no_effect_beside_other_fields(tmp_path: Path) -> None:
    settings = connection(tmp_path, "{conn_id: db, conn_type: postgres, conn_uri: 'postgres://h/d'}")
    assert settings.connections[0].uri == ""
    assert settings.notes == ("connection db: conn_uri has no effect beside other fields",)


def test_connection_without_type_and_uri_is_left_out_with_a_note(tmp_path: Path) -> None:
    settings = connection(tmp_path, "{conn_id: db, conn_host: h}")
    assert settings.connections == ()
    assert "db is left out" in settings.notes[0]


def test_values_of_a_mapping_that_are_no_texts_are_left_out_with_a_note(tmp_path: Path) -> None:
    settings = connection(tmp_path, "{conn_id: s, conn_type: smtp, conn_extra: {from_email: a@b.c, disable_tls: true}}")
    assert settings.connections[0].extra == {"from_email": "a@b.c"}
    assert "disable_tls in conn_extra is left out" in settings.notes[0]


def test_unknown_key_is_ignored_with_a_note(tmp_path: Path) -> None:
    settings = connection(tmp_path, "{conn_id: s, conn_type: smtp, conn_hots: h}")
    assert settings.connections[0].host == ""
    assert settings.notes == ("airflow.connections, entry 1: conn_hots means nothing here",)


def test_pool_needs_slots_and_a_variable_a_value(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
airflow:
  pools:
    - {pool_name: builds, pool_slot: 2, pool_description: Builds at once}
    - {pool_name: empty}
    - {pool_slot: 3}
  variables:
    - {variable_name: colour, variable_value: green}
    - {variable_name: number, variable_value: 7}
    - {variable_name: nothing}
    - {variable_value: lost}
""",
    )
    assert settings.pools == (PoolEntry(name="builds", slots=2, description="Builds at once"),)
    assert settings.variables == (VariableEntry(name="colour", value="green"), VariableEntry(name="number", value="7"))
    assert settings.notes == (
        "pool empty is left out: it has no pool_slot",
        "variable nothing is left out: it has no variable_value",
        "a variable is left out: it has no variable_name",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("airflow: [", "is not YAML", id="no YAML"),
        pytest.param("connections: []", "no mapping named airflow", id="wrong root"),
        pytest.param("airflow: {connections: {a: b}}", "airflow.connections is not a list", id="no list"),
        pytest.param(
            "airflow: {connections: [{conn_id: x, conn_type: a, conn_port: x1}]}", "conn_port of x", id="port"
        ),
        pytest.param(
            "airflow: {connections: [{conn_id: x, conn_host: h, conn_uri: u}]}", "needs a conn_type", id="type"
        ),
        pytest.param(
            "airflow: {connections: [{conn_id: x, conn_type: a, conn_extra: '{'}]}", "JSON object", id="extra"
        ),
        pytest.param(
            "airflow: {connections: [{conn_id: x, conn_type: a, conn_extra: '[1]'}]}", "JSON object", id="list"
        ),
        pytest.param("airflow: {connections: [{conn_id: 'a b', conn_type: a}]}", "letters, digits", id="name"),
        pytest.param("airflow: {variables: [{variable_name: x, variable_value: true}]}", "put it in quotes", id="bool"),
        pytest.param("airflow: {pools: [{pool_name: x, pool_slot: many}]}", "not a whole number", id="slots"),
    ],
)
def test_what_airflow_would_refuse_is_an_error_that_names_the_entry(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(AstroSettingsError, match=r"airflow_settings\.yaml cannot be used") as refused:
        read(tmp_path, text)
    assert says in str(refused.value)
