"""Which Dag files ``interlock doctor`` times: those that the Dag processor reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.installation.doctor import rules
from interlock.installation.project import BUNDLE
from interlock.locations import CATALOGUE, PROJECT


@pytest.fixture(autouse=True)
def _installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(CATALOGUE))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))


def test_with_the_bundle_each_service_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file of all services would be said to be too slow, although nobody parses it."""
    other = {"name": "others", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([other, BUNDLE]))
    monkeypatch.setenv("INTERLOCK_DAGS", str(BUNDLE["name"]))
    folder = rules._folder_of_dags()
    assert folder.is_relative_to(tmp_path / "bundles")
    assert (folder / "services" / "bike_shop.py").is_file()


def test_without_it_the_packages_own_files_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERLOCK_DAGS", raising=False)
    assert rules._folder_of_dags() == PROJECT / "dags"
