from __future__ import annotations

import pytest

from include.interlock.console.control import goes_round, is_controlled, refusal, service_of

ENTITIES = ["RUN", "TASK_INSTANCE", "XCOM", "TASK", "TASK_LOGS", "AUDIT_LOG", "SOMETHING_NEW"]


@pytest.mark.parametrize("entity", [None, "HITL_DETAIL", *ENTITIES])
def test_reading_is_never_in_the_way(entity: str | None) -> None:
    assert not goes_round("GET", entity, "release_bike_shop")


@pytest.mark.parametrize(
    ("method", "entity"),
    [
        pytest.param("POST", "RUN", id="trigger"),
        pytest.param("PUT", "HITL_DETAIL", id="answer"),
        pytest.param("PUT", None, id="pause"),
    ],
)
def test_what_the_process_needs_stays_open(method: str, entity: str | None) -> None:
    assert not goes_round(method, entity, "release_bike_shop")


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_no_change_of_a_release_is_open_not_even_an_unknown_one(method: str, entity: str) -> None:
    assert goes_round(method, entity, "release_bike_shop")


def test_deleting_the_dag_would_delete_its_releases() -> None:
    assert goes_round("DELETE", None, "release_bike_shop")
    assert "the history" in refusal(None, "release_bike_shop")


@pytest.mark.parametrize("dag_id", [None, "nightly", "prerelease_x"])
def test_other_dags_are_nobodys_business(dag_id: str | None) -> None:
    assert not is_controlled(dag_id)
    assert not goes_round("DELETE", "RUN", dag_id)


def test_a_refusal_says_what_why_who_and_what_next() -> None:
    said = refusal("TASK_INSTANCE", "release_bike_shop")
    assert "release_bike_shop" in said
    assert "the task instances of a release" in said
    for part in ("Rule:", "Who can:", "break_glass", "Next:"):
        assert part in said


def test_the_service_is_in_the_name_of_its_dag() -> None:
    assert service_of("release_bike_shop") == "bike-shop"
