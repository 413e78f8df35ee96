"""The processes of ``make cluster``, as they would be started."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from interlock.console.auth import guesses
from interlock.domain.errors import AssetMissing
from interlock.estate.airflow import connections, home, witness
from interlock.estate.settings import Settings
from interlock.estate.stack import cluster, cluster_servers, components, postgres, process_supervisor, watch
from interlock.locations import PROJECT


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", engine="cluster")


def names(settings: Settings) -> list[str]:
    return [component.name for component in components.components(settings)]


def test_a_cluster_has_what_an_organisation_has(settings: Settings) -> None:
    kinds = [components.kind_of(name) for name in names(settings)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "postgres": 1,
        "estate": 1,
        "pgbouncer": 1,
        "broker": 1,
        "proxy": 1,
        "api-server": 2,
        "scheduler": 2,
        "worker": 4,
        "dag-processor": 2,
        "triggerer": 2,
    }
    assert set(components.airflow_of(settings)) == set(cluster.names())
    assert components.airflow_of(Settings()) == ("api-server", "scheduler", "dag-processor", "triggerer")


def test_a_cluster_has_a_state_of_its_own(tmp_path: Path) -> None:
    assert Settings(engine="cluster").state == PROJECT / ".interlock-cluster"
    assert Settings().state == PROJECT / ".interlock"
    given = Settings.from_environment({"INTERLOCK_ENGINE": "cluster", "INTERLOCK_STATE": str(tmp_path)})
    assert (given.engine, given.state) == ("cluster", tmp_path)
    assert Settings.from_environment(given.to_environment()) == given


def test_its_ports_are_checked_with_the_others(settings: Settings) -> None:
    variables = {port.variable for port in settings.ports()} - {port.variable for port in Settings().ports()}
    assert variables == {f"INTERLOCK_{name}_PORT" for name in ("POOL", "BROKER", "API_1", "API_2")}


def test_no_two_nodes_share_a_folder_and_none_has_the_others(settings: Settings) -> None:
    folders: dict[str, str] = {}
    for node in cluster.nodes(settings):
        variables = cluster.variables_of(settings, node)
        for name in ("AIRFLOW_HOME", "AIRFLOW__LOGGING__BASE_LOG_FOLDER", "INTERLOCK_CALENDAR_COPIES", "TMPDIR"):
            assert variables[name] not in folders, "it is another node's"
            folders[variables[name]] = node.name
        others = set(cluster.names()) - {node.name}
        hidden = cluster.others_folders(settings, node.name)
        assert {cluster.folder(settings, other) for other in others} <= set(hidden)
        assert cluster.folder(settings, node.name) not in hidden
        assert settings.artifacts in hidden
        assert settings.objects in hidden
        if witness.can_be_apart() and components.kind_of(node.name) != "api-server":
            assert {str(path) for path in (*hidden, witness.folder(settings))} <= set(node.command)


def test_passwords_are_in_private_files_and_nowhere_else(settings: Settings) -> None:
    postgres.secrets_folder(settings).mkdir(parents=True)
    postgres.connection_file(settings).write_text("postgresql+psycopg2://airflow:secret@127.0.0.1:5461/airflow")
    settings.run.mkdir()
    cluster.prepare(settings)
    secrets = postgres.secrets_folder(settings)
    values = {path.name: path.read_text() for path in secrets.iterdir() if not path.name.endswith("conn")}
    assert {"broker", "broker_url", "broker.conf", "pgbouncer_users", "limits_url", "celery_result_backend"} <= set(
        values
    )
    passwords = [values[name] for name in values if name.startswith("postgres_") or name == "broker"]
    assert len(passwords) == 4
    told = [process_supervisor.supervisor_config(settings), str(home.airflow_environment(settings, {}))]
    told += [file(settings).read_text() for file in (cluster_servers.pool_file, cluster_servers.proxy_file)]
    for password in passwords:
        assert not any(password in text for text in told)
    for name in values:
        assert stat.S_IMODE((secrets / name).stat().st_mode) == 0o600
    for owner in (postgres.LEDGER_OWNER, postgres.OWNER):
        assert f'"{owner}"' not in values["pgbouncer_users"], "migrations go past the pool"


def test_only_migrations_go_past_the_pool(settings: Settings) -> None:
    assert f":{settings.pool_port}/" in postgres.ledger_url(settings, postgres.LEDGER_WRITER)
    assert f":{settings.pool_port}/" in postgres.ledger_url(settings, postgres.LEDGER_WITNESS)
    assert f":{settings.postgres_port}/" in postgres.ledger_url(settings, postgres.LEDGER_OWNER)
    environment = home.airflow_environment(settings, {})
    direct = shlex.split(home.for_migrations(settings, environment)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"])
    assert direct == ["cat", str(postgres.direct_connection_file(settings))]
    assert shlex.split(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"]) == [
        "cat",
        str(postgres.connection_file(settings)),
    ]


def test_artifacts_are_in_s3_unless_somebody_says_otherwise(settings: Settings) -> None:
    delivered = connections.delivered_connections()["interlock_artifacts"]
    actual = connections.actual(delivered, settings, {})
    assert (actual.type, actual.extra["bucket"], actual.extra["endpoint_url"]) == (
        "aws",
        "interlock-artifacts",
        settings.aws_endpoint,
    )
    own = delivered.model_copy(update={"extra": {"path": "/mnt/artifacts"}})
    assert connections.actual(own, settings, {}) == own


def test_what_is_not_installed_is_named_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_servers, "PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AssetMissing) as refused:
        cluster_servers.check_programs()
    assert "pgbouncer, valkey-server or redis-server, haproxy" in str(refused.value)
    assert "apt-get install pgbouncer redis-server haproxy" in str(refused.value.next_step)


def test_api_servers_count_failed_log_ins_together(settings: Settings) -> None:
    servers = [node for node in cluster.nodes(settings) if components.kind_of(node.name) == "api-server"]
    files = {node.variables[guesses.STORAGE_FILE] for node in servers}
    assert files == {str(cluster_servers.limits_url_file(settings))}


def test_of_several_components_each_is_watched(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's health page knows only whether any of them is alive."""
    told: list[str] = []

    class Supervisor:
        def getAllProcessInfo(self) -> list[dict[str, object]]:
            return [{"name": name, "state": watch.ProcessStates.RUNNING, "start": 0.0} for name in names(settings)]

        def stopProcess(self, name: str) -> None:
            told.append(name)

        def startProcess(self, name: str, wait: bool) -> None:
            pass

    page = {key: {"status": "healthy"} for key in watch.WATCHED.values()} | {"scheduler": {"status": "unhealthy"}}
    monkeypatch.setattr(watch, "health", lambda url: page)
    strikes: dict[str, int] = {}
    for _ in range(watch.STRIKES):
        watch.check(settings, Supervisor(), strikes, {})
    assert told == ["scheduler-1"]
    told.clear()
    monkeypatch.setattr(watch, "health", lambda url: None)
    for _ in range(watch.STRIKES):
        watch.check(settings, Supervisor(), strikes, {})
    assert told == ["api-server-1"]
