from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import interlock
from interlock.adapters.airflow import connections
from interlock.adapters.airflow.execution_api import Served
from interlock.adapters.catalogue.catalogue import version_of
from interlock.adapters.signing.signing import generate_key, key_id
from interlock.domain.errors import AssetMissing
from interlock.domain.permits.installation import BY_NAME, BY_NUMBER
from interlock.installation.doctor import processes, rules
from interlock.installation.doctor.inspection import Finding
from interlock.locations import CATALOGUE

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def wrong(found: list[Finding]) -> list[str]:
    return [one.what for one in found if one.state == "wrong"]


@pytest.mark.parametrize(
    ("clock", "skew"),
    [
        pytest.param(NOON, None, id="right as it was asked"),
        pytest.param(NOON + timedelta(seconds=30), None, id="right as it answered, slowly"),
        pytest.param(NOON - timedelta(seconds=10), 10, id="behind"),
        pytest.param(NOON + timedelta(seconds=42), 12, id="ahead"),
        pytest.param(None, None, id="it does not say"),
    ],
)
def test_a_slow_answer_is_no_wrong_clock(
    clock: datetime | None, skew: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_key(tmp_path / "witness.pem")
    public = tmp_path / "witness.pem.pub"
    monkeypatch.setenv("INTERLOCK_WITNESS_PUBLIC_KEY", str(public))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(CATALOGUE))
    said = Served(
        version=interlock.__version__,
        guard="plugin",
        people=BY_NAME,
        catalogue=version_of(CATALOGUE),
        witness_key=key_id(public.read_bytes()),
        asked=NOON,
        answered=NOON + timedelta(seconds=30),
        date=clock,
    )
    monkeypatch.setattr(processes, "served_by", lambda _: said)
    expected = [] if skew is None else [f"Its clock differs by {skew} s from this machine's."]
    assert wrong(list(processes.api_server("http://a"))) == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"version": "0.0.9"}, "It runs Interlock 0.0.9, and this machine has", id="version"),
        pytest.param({"witness_key": ""}, "It cannot sign what people answer", id="no key"),
        pytest.param({"guard": ""}, "Nothing there keeps people from marking", id="no guard"),
        pytest.param({"people": BY_NUMBER}, "Its auth manager knows people by number", id="another auth manager"),
        pytest.param({"witness_key": "ab"}, "It signs answers with another key", id="another key"),
        pytest.param({"catalogue": ""}, "Its catalogue has the version unknown", id="no catalogue"),
    ],
)
def test_each_difference_of_an_api_server_is_named(
    changes: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_key(tmp_path / "witness.pem")
    public = tmp_path / "witness.pem.pub"
    monkeypatch.setenv("INTERLOCK_WITNESS_PUBLIC_KEY", str(public))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(CATALOGUE))
    right: dict[str, Any] = {
        "version": interlock.__version__,
        "guard": "plugin",
        "people": BY_NAME,
        "catalogue": version_of(CATALOGUE),
        "witness_key": key_id(public.read_bytes()),
        "asked": NOON,
        "answered": NOON,
    }
    monkeypatch.setattr(processes, "served_by", lambda _: Served(**{**right, **changes}))
    (what,) = wrong(list(processes.api_server("http://a")))
    assert what.startswith(said)


def test_a_server_without_the_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "served_by", lambda _: None)
    assert wrong(list(processes.api_server("http://a"))) == ["It is not guarded: Interlock's plugin is not loaded."]


def test_packages_of_other_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong(list(rules.packages())) == []
    real = metadata.version

    def another(name: str) -> str:
        if name == "croniter":
            raise metadata.PackageNotFoundError
        return "2.11.0" if name == "apache-airflow" else real(name)

    monkeypatch.setattr(metadata, "version", another)
    found = wrong(list(rules.packages()))
    assert found == [
        "apache-airflow is 2.11.0, and Interlock needs ==3.3.2.",
        "croniter is missing, and Interlock needs <8,>=6.",
    ]


def test_connections_that_are_missing_or_unfit_are_named_with_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def stored(conn_id: str) -> Any:
        if conn_id == "interlock_smtp":
            raise AssetMissing("no")
        kind = {"interlock_hosts": "http", "interlock_aws": "aws"}.get(conn_id, "ssh")
        return SimpleNamespace(conn_type=kind, host="" if conn_id == "bike_shop_source" else "there")

    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(CATALOGUE))
    monkeypatch.setattr(rules, "stored_connection", stored)
    assert wrong(list(rules.connections())) == [
        "bike_shop_source has no host, which is the repository's URL (services/bike-shop.yaml: source.connection).",
        "interlock_hosts has the type http, and services/bike-shop.yaml: environments.production.ssh needs ssh or aws.",
        "interlock_smtp does not exist (every release).",
    ]


def test_a_broken_catalogue_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path))
    assert any("policy.yaml" in what for what in wrong(list(rules.catalogue())))


def test_a_connection_is_shown_to_hooks_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "stored_connection", lambda _: SimpleNamespace(as_json=lambda: '{"host": "a"}'))
    with connections.shown_to_hooks("interlock_smtp"):
        assert os.environ["AIRFLOW_CONN_INTERLOCK_SMTP"] == '{"host": "a"}'
    assert "AIRFLOW_CONN_INTERLOCK_SMTP" not in os.environ
    monkeypatch.setenv("AIRFLOW_CONN_INTERLOCK_SMTP", "mine")
    with connections.shown_to_hooks("interlock_smtp"):
        pass
    assert os.environ["AIRFLOW_CONN_INTERLOCK_SMTP"] == "mine"
