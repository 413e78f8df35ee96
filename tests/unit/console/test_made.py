"""Which Dags are Interlock's, and which only bear a name that could be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.console.control import rules
from interlock.console.control.own_dags import OwnDags
from interlock.domain.dag_names import Home, Place, dags_named, file_of, home_of
from interlock.domain.errors import CatalogueError, TransientError
from tests.unit.console.conftest import CATALOGUE, Airflows

ELSEWHERE = [
    pytest.param("release.py", "data-team", id="another-bundle"),
    pytest.param("team/release.py", "dags-folder", id="another-folder"),
    pytest.param("mine.py", "dags-folder", id="another-file"),
    pytest.param(None, "dags-folder", id="no-file"),
    pytest.param("release.py", None, id="no-bundle"),
]


@pytest.mark.parametrize("dag_id", ["release_tables", "rollback_tables", "train_model", "Train_Model"])
@pytest.mark.parametrize(("file", "bundle"), ELSEWHERE)
def test_a_dag_of_others_is_not_under_control(
    airflows: Airflows, dag_id: str, file: str | None, bundle: str | None
) -> None:
    assert not rules.is_controlled(dag_id)
    airflows.has(dag_id, file, bundle)
    airflows.now += 60
    assert not rules.is_controlled(dag_id)
    assert not rules.is_refused("DELETE", "RUN", dag_id, None)


@pytest.mark.parametrize("dag_id", ["release_bike_shop", "rollback_bike_shop", "train_weekly", "reconcile"])
@pytest.mark.parametrize(("file", "bundle"), ELSEWHERE)
def test_a_dag_of_the_catalogue_stays_under_control_whoever_makes_it(
    airflows: Airflows, dag_id: str, file: str | None, bundle: str | None
) -> None:
    airflows.has(dag_id, file, bundle)
    assert rules.is_controlled(dag_id)
    assert "not Interlock's" in airflows.made.stranger(dag_id)
    assert "INTERLOCK_DAGS" in airflows.made.stranger(dag_id)


def test_what_interlocks_own_file_makes_is_no_stranger(airflows: Airflows) -> None:
    for dag_id, file in (
        ("release_bike_shop", "release.py"),
        ("rollback_bike_shop", "rollback.py"),
        ("train_weekly", "trains.py"),
        ("emergency_stop", "emergency_stop.py"),
    ):
        assert not airflows.made.stranger(dag_id)  # Airflow has none
        airflows.has(dag_id, file)
        assert not airflows.made.stranger(dag_id)


def test_a_service_that_left_the_catalogue_stays_under_control_by_its_file_and_by_its_chains(
    airflows: Airflows,
) -> None:
    airflows.has("release_car_shop", "release.py")
    assert rules.is_controlled("release_car_shop")
    airflows.has("release_car_shop", "mine.py", "data-team")
    assert rules.is_controlled("release_car_shop")  # once known, never forgotten
    airflows.ledger.append("release/release_boat_shop/r1", "run.asked", {}, actor="rita", key="1")
    airflows.has("release_boat_shop", "mine.py", "data-team")
    assert rules.is_controlled("release_boat_shop")
    assert rules.is_controlled("RELEASE_boat_shop")
    assert not rules.is_controlled("release_boat")


def test_what_cannot_be_told_is_under_control_and_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise TransientError("no database")

    made = OwnDags(lambda: CATALOGUE, fail, fail)
    assert made.has("release_tables")
    assert not made.has("nightly")
    assert "cannot be determined" in made.stranger("release_bike_shop")
    monkeypatch.setenv("INTERLOCK_DAGS", ":folder")
    assert "cannot be determined" in OwnDags(lambda: CATALOGUE, fail, lambda _: []).stranger("release_bike_shop")


def test_others_dags_are_looked_for_every_few_seconds_and_interlocks_at_once(airflows: Airflows) -> None:
    for _ in range(3):
        assert not rules.is_controlled("train_model")
    assert airflows.asked == ["train_model"]
    airflows.has("train_model", "trains.py")
    assert not rules.is_controlled("train_model")
    airflows.now += 6
    assert rules.is_controlled("train_model")
    airflows.asked.clear()
    assert rules.is_controlled("release_bike_shop")
    assert not airflows.asked


def test_a_broken_file_of_the_catalogue_keeps_its_dags_under_control(tmp_path: Path, airflows: Airflows) -> None:
    for folder, name in (("services", "car-shop.yaml"), ("trains", "Express.yml")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("}{")
    made = OwnDags(lambda: tmp_path, lambda: airflows.ledger, lambda _: [])
    assert all(made.has(one) for one in ("release_car_shop", "rollback_car_shop", "train_express", "reconcile"))
    assert not made.has("release_bike_shop")


def test_where_interlocks_dags_are_is_a_setting(airflows: Airflows, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home_of(None) == Home(bundle="dags-folder")
    assert home_of("interlock") == Home(bundle="interlock")
    assert home_of("interlock: /dags/ ") == Home(bundle="interlock", folder="dags")
    with pytest.raises(CatalogueError, match="does not name a bundle"):
        home_of(" :dags")
    monkeypatch.setenv("INTERLOCK_DAGS", "interlock:dags")
    airflows.has("release_bike_shop", "dags/release.py", "interlock")
    assert not airflows.made.stranger("release_bike_shop")
    airflows.has("release_bike_shop", "release.py", "dags-folder")
    assert airflows.made.stranger("release_bike_shop")


def test_every_dag_file_makes_the_dags_that_are_looked_for_there() -> None:
    files = {path.name for path in (CATALOGUE.parents[1] / "dags").glob("*.py")} - {"catalogue.py"}
    assert {file_of(dag_id) for dag_id in dags_named(["a-b"], ["c"])} == files
    assert dags_named(["a-b"], ["c"]) >= {"release_a_b", "rollback_a_b", "train_c"}
    assert Home(bundle="b").places_of("nightly") == ()
    assert Home(bundle="b", folder="d").places_of("train_x") == (Place(bundle="b", file="d/trains.py"),)
    assert Home(bundle="b", folder="d").places_of("release_x") == (
        Place(bundle="b", file="d/release.py"),
        Place(bundle="b", file="d/services/x.py"),
    )


def test_a_dag_that_airflow_has_not_read_yet_is_told_from_one_that_it_has(airflows: Airflows) -> None:
    assert not airflows.made.is_there("release_bike_shop")
    airflows.has("release_bike_shop", "release.py")
    assert airflows.made.is_there("release_bike_shop")


def test_a_dag_of_which_airflow_cannot_be_asked_is_not_denied(airflows: Airflows) -> None:
    def broken(dag_id: str) -> list[Place]:
        raise TransientError("The database is away.")

    assert OwnDags(lambda: CATALOGUE, lambda: airflows.ledger, broken).is_there("release_bike_shop")
