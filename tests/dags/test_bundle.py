"""The Dag bundle: a file for the Dags of each service, written anew when what they are made of has changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from interlock.dag_bundle import InterlockDagBundle
from interlock.domain.dag_names import Home, Place, file_of, stranger
from interlock.locations import CATALOGUE, PROJECT

LONG_AGO = 1_000_000_000.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of two services."""
    found = shutil.copytree(CATALOGUE, tmp_path / "catalogue")
    text = (found / "services" / "bike-shop.yaml").read_text()
    (found / "services" / "wheel-shop.yaml").write_text(text.replace("bike-shop", "wheel-shop"))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(found))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    return found


@pytest.fixture
def bundle(folder: Path) -> InterlockDagBundle:
    made = InterlockDagBundle(name="interlock")
    made.initialize()
    for path in made.path.rglob("*.py"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return made


def written(bundle: InterlockDagBundle) -> set[str]:
    """Return the files that were written since the bundle was made: those that Airflow parses at once."""
    paths = bundle.path.rglob("*.py")
    return {path.relative_to(bundle.path).as_posix() for path in paths if path.stat().st_mtime > LONG_AGO}


def loaded(path: Path, bundle: InterlockDagBundle) -> dict[str, Any]:
    bag = DagBag(dag_folder=str(path), bundle_path=bundle.path, bundle_name="interlock")
    assert not bag.import_errors
    return dict(bag.dags)


def test_a_service_has_a_file_with_its_two_dags(bundle: InterlockDagBundle) -> None:
    found = loaded(bundle.path / "services" / "wheel_shop.py", bundle)
    assert sorted(found) == ["release_wheel_shop", "rollback_wheel_shop"]
    others = {path.name for path in bundle.path.glob("*.py")}
    assert others == {path.name for path in (PROJECT / "dags").glob("*.py")} - {"release.py", "rollback.py"}
    home = Home(bundle="interlock")
    for dag_id, dag in found.items():
        assert stranger(dag_id, Place(bundle="interlock", file=dag.relative_fileloc), home) == ""
    for file in ("services/bike_shop.py", "elsewhere/wheel_shop.py", "services/wheel_shop/release.py"):
        assert "is not Interlock's" in stranger("release_wheel_shop", Place(bundle="interlock", file=file), home)
    assert "is not Interlock's" in stranger("reconcile", Place(bundle="interlock", file="services/reconcile.py"), home)


def test_the_dags_are_those_of_the_folder(bundle: InterlockDagBundle) -> None:
    """Whether Airflow reads the package's own files or the bundle's, a service has the same tasks."""
    for dag_id, dag in loaded(bundle.path / "services" / "bike_shop.py", bundle).items():
        of_all = loaded(PROJECT / "dags" / str(file_of(dag_id)), bundle)[dag_id]
        assert [(one.task_id, one.downstream_task_ids) for one in dag.tasks] == [
            (one.task_id, one.downstream_task_ids) for one in of_all.tasks
        ]
        assert dag.params.dump() == of_all.params.dump()


def test_an_edit_of_a_service_has_its_file_parsed_and_no_other_services(
    bundle: InterlockDagBundle, folder: Path
) -> None:
    bundle.refresh()
    assert written(bundle) == set(), "nothing has changed"
    file = folder / "services" / "wheel-shop.yaml"
    file.write_text(file.read_text().replace("tier: 2", "tier: 1"))
    os.utime(file, (LONG_AGO, LONG_AGO))  # as a copy that keeps times leaves it
    bundle.refresh()
    assert written(bundle) == {"services/wheel_shop.py", "catalogue.py"}


def test_a_change_of_the_policy_has_all_files_parsed(bundle: InterlockDagBundle, folder: Path) -> None:
    (folder / "policy.yaml").write_text((folder / "policy.yaml").read_text() + "\n# a remark\n")
    bundle.refresh()
    assert {"services/bike_shop.py", "services/wheel_shop.py", "reconcile.py"} <= written(bundle)


def test_services_come_and_go(bundle: InterlockDagBundle, folder: Path) -> None:
    (folder / "services" / "wheel-shop.yaml").unlink()
    shutil.copy(folder / "services" / "bike-shop.yaml", folder / "services" / "new-shop.yaml")
    bundle.refresh()
    assert {path.name for path in (bundle.path / "services").iterdir()} == {"bike_shop.py", "new_shop.py"}
    assert loaded(bundle.path / "services" / "new_shop.py", bundle) == {}, "its name is another: catalogue.py says so"


def test_a_worker_that_has_no_files_makes_them(bundle: InterlockDagBundle, folder: Path) -> None:
    shutil.copy(folder / "services" / "bike-shop.yaml", folder / "services" / "new-shop.yaml")
    on_a_worker = InterlockDagBundle(name="interlock")
    on_a_worker.initialize()
    assert (on_a_worker.path / "services" / "new_shop.py").is_file()


@pytest.mark.parametrize("name", ['a"; import os; "', "Upper", "a b", "../up", "a\nb"])
def test_a_name_that_no_service_may_have_gets_no_file(bundle: InterlockDagBundle, folder: Path, name: str) -> None:
    """What is in a file's name must not become code."""
    file = folder / "services" / f"{name}.yaml"
    file.write_text("name: it\n")
    bundle.refresh()
    assert {path.name for path in (bundle.path / "services").iterdir()} == {"bike_shop.py", "wheel_shop.py"}
