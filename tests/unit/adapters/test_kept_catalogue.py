"""The catalogue as pages read it: a file that has not changed is parsed once, and one that has is parsed again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from interlock.adapters.catalogue.kept import kept_rules, kept_service, kept_train
from interlock.domain.errors import CatalogueError
from interlock.locations import CATALOGUE

TRAIN = next(path.stem for path in sorted((CATALOGUE / "trains").glob("*.yaml")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))


def replace(path: Path, old: str, new: str) -> None:
    """Edit a file as an editor or a checkout does: another file takes its name, here with the same time and size."""
    text, before = path.read_text(encoding="utf-8"), path.stat()
    assert old in text
    beside = path.with_suffix(".new")
    beside.write_text(text.replace(old, new), encoding="utf-8")
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.replace(path)


def test_what_has_not_changed_is_not_parsed_again(folder: Path) -> None:
    assert kept_service(folder, "bike-shop") is kept_service(folder, "bike-shop")
    assert kept_rules(folder) is kept_rules(folder)
    assert kept_train(folder, TRAIN) is kept_train(folder, TRAIN)


def test_an_edit_is_seen_at_once(folder: Path) -> None:
    def title() -> str:
        return kept_service(folder, "bike-shop").services["bike-shop"].title

    assert title() == "Bike shop"
    replace(folder / "services" / "bike-shop.yaml", "title: Bike shop", "title: Bike SHOP")
    assert title() == "Bike SHOP"
    assert kept_rules(folder)[1].names["rita"]
    replace(folder / "board.yaml", "user: rita", "user: anna")
    with pytest.raises(CatalogueError):
        kept_rules(folder)  # others name rita
    replace(folder / "board.yaml", "user: anna", "user: rita")
    assert kept_rules(folder)[1].names["rita"]


def test_a_fault_is_told_each_time(folder: Path) -> None:
    for _ in range(2):
        with pytest.raises(CatalogueError, match='no service "car-shop"'):
            kept_service(folder, "car-shop")
