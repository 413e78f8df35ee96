"""Results that Airflow's XCom backend keeps elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.common.io.xcom import backend

from interlock.adapters.airflow.results import is_reference, parsed_result, stored_result

RECORD = {"schema_version": 1, "hosts": ["bike-shop-production-01"] * 100}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have Airflow keep results of some size in a folder."""
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{tmp_path}/results")
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", "1024")
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom", backend.XComObjectStorageBackend)
    kept = (backend._get_base_path, backend._get_threshold, backend._get_compression)
    for one in kept:
        one.cache_clear()
    yield tmp_path / "results"
    for one in kept:
        one.cache_clear()


def test_a_large_result_is_read_where_it_is(place: Path) -> None:
    stored = backend.XComObjectStorageBackend.serialize_value(
        RECORD, key="return_value", dag_id="release_bike_shop", run_id="1", task_id="planning.plan_release"
    )
    shown = parsed_result(stored)
    assert is_reference(shown), "this is all that Airflow's API gives"
    assert stored_result(shown) == RECORD


def test_a_small_result_is_what_the_api_gives(place: Path) -> None:
    for result in ({"version": "1.1.0"}, "a sentence: with a colon", 7, None, "https://example.com and more"):
        assert stored_result(parsed_result(json.dumps(result))) == result
    assert parsed_result("not JSON") == "not JSON"


def test_no_reference_leads_to_another_place(place: Path, tmp_path: Path) -> None:
    """Whoever may edit a result must not read files with it."""
    secret = tmp_path / "secret.json"
    secret.write_text('"it is secret"')
    for reference in (f"file://{secret}", f"file://{place}/../secret.json"):
        assert stored_result(reference) == reference
