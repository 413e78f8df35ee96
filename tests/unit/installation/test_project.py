from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from interlock.adapters.catalogue.catalogue import what_is_wrong
from interlock.dag_bundle import CLASS, NAME
from interlock.domain.errors import ReleaseError
from interlock.installation.astro_settings import read_astro_settings
from interlock.installation.project import BUNDLE, write_project
from interlock.stages.runtime.resources import CONNECTIONS

BUNDLES = '[{"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}]'


def write(folder: Path, bundles: str = BUNDLES, api: str = "https://airflow.example.com") -> dict[str, bool]:
    return {str(path.relative_to(folder)): kept for path, kept in write_project(folder, bundles, api)}


def sourced(folder: Path, file: str) -> dict[str, str]:
    """Return the variables of a file as a shell reads it."""
    told = subprocess.run(
        ["env", "-i", "sh", "-c", f". {folder / file}; set"], capture_output=True, text=True, check=True
    ).stdout
    return {
        name: value.strip("'")
        for name, _, value in (line.partition("=") for line in told.splitlines())
        if name.isupper()
    }


def test_a_new_project_has_a_valid_catalogue(tmp_path: Path) -> None:
    written = write(tmp_path)
    assert what_is_wrong(tmp_path / "catalogue") == []
    assert {"README.md", ".gitignore", "catalogue/policy.yaml", "catalogue/services/example.yaml"} <= written.keys()
    assert not any(written.values())


def test_the_connections_of_a_project_are_those_that_releases_use(tmp_path: Path) -> None:
    write(tmp_path)
    astro = read_astro_settings(tmp_path / "airflow_settings.yaml")
    found = {entry.conn_id: entry for entry in astro.connections}
    assert astro.notes == ()
    assert set(CONNECTIONS) | {"interlock_aws", "interlock_hosts", "interlock_test_hosts"} <= found.keys()
    api = found["interlock_airflow"]
    assert (api.host, api.port, api.schema_, api.login) == ("airflow.example.com", 443, "https", "interlock_reader")
    assert found["interlock_signing_key"].host == f"file://{tmp_path}/keys/signing.pem"


def test_a_shell_reads_the_settings_of_a_project(tmp_path: Path) -> None:
    write(tmp_path)
    everywhere, api_server = sourced(tmp_path, "interlock.env"), sourced(tmp_path, "api-server.env")
    assert everywhere["INTERLOCK_CATALOGUE"] == str(tmp_path / "catalogue")
    assert everywhere["INTERLOCK_DAGS"] == NAME
    listed = json.loads(everywhere["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [one["name"] for one in listed] == ["dags-folder", NAME]
    assert api_server["INTERLOCK_WITNESS_KEY"] == f"file://{tmp_path}/api-server/witness.pem"
    assert not everywhere.keys() & {"INTERLOCK_WITNESS_KEY", "INTERLOCK_WITNESS_LEDGER_URL_FILE"}


def test_the_bundle_is_the_class_of_the_package() -> None:
    assert (BUNDLE["name"], BUNDLE["classpath"]) == (NAME, CLASS)


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    write(tmp_path)
    mine = tmp_path / "airflow_settings.yaml"
    mine.write_text("airflow: {}\n")
    (tmp_path / "catalogue/services/example.yaml").rename(tmp_path / "catalogue/services/shop.yaml")
    (tmp_path / "README.md").unlink()
    again = write(tmp_path)
    assert mine.read_text() == "airflow: {}\n"
    assert again == {
        "README.md": False,
        "airflow_settings.yaml": True,
        "api-server.env": True,
        ".gitignore": True,
        "interlock.env": True,
    }
    assert not (tmp_path / "catalogue/services/example.yaml").exists()


def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "README.md").symlink_to(tmp_path / "elsewhere")
    assert write(tmp_path)["README.md"] is True
    assert not (tmp_path / "elsewhere").exists()


def test_bundles_of_others_stay_and_ours_is_named_once(tmp_path: Path) -> None:
    others = '[{"name": "team", "classpath": "a.B", "kwargs": {"tracking_ref": "main"}}, {"name": "interlock"}]'
    write(tmp_path, others)
    listed = json.loads(sourced(tmp_path, "interlock.env")["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert listed == [{"name": "team", "classpath": "a.B", "kwargs": {"tracking_ref": "main"}}, BUNDLE]


@pytest.mark.parametrize("bundles", ["", "{}", "[1]", "not JSON"])
def test_a_list_of_bundles_that_cannot_be_read_is_refused(bundles: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"Airflow's list of Dag bundles cannot be read"):
        write(tmp_path, bundles)


@pytest.mark.parametrize("name", ["with space", "it's", "a$b", "a`b", 'a"b'])
def test_a_path_that_settings_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="has characters that settings files cannot hold"):
        write_project(tmp_path / name, BUNDLES, "/")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        pytest.param("/", ("http", "localhost", 8080), id="Airflow's default"),
        pytest.param("http://localhost:8999", ("http", "localhost", 8999), id="port"),
        pytest.param("https://a.example/airflow", ("https", "a.example", 443), id="https"),
    ],
)
def test_connections_go_to_where_the_api_is(url: str, place: tuple[str, str, int], tmp_path: Path) -> None:
    write(tmp_path, api=url)
    found = {one.conn_id: one for one in read_astro_settings(tmp_path / "airflow_settings.yaml").connections}
    clerk = found["interlock_board_clerk"]
    assert (clerk.schema_, clerk.host, clerk.port) == place
