"""Files of test cases: read from the repository and the catalogue, and every mistake named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.testing.case_files import faults_of_case_files, read_cases
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Service
from interlock.domain.errors import CatalogueError
from tests.unit.domain.samples import service_data

GOOD = b"""\
cases:
  - id: basket-total
    title: The basket adds up
    proves: [SHOP-41]
    component: basket
    role: shop-tester
    steps:
      - Open /bikes, and add two bikes to the basket.
      - Open /basket.
    expected: The total is the sum of both prices.
  - id: all-pages
    title: Every page has a heading
    role: shop-tester
    severity: minor
    steps: [Open each page of the menu.]
    expected: Each has one heading.
"""


def service(**changes: Any) -> Service:
    cases = {
        "repository": ["qa/cases.yaml"],
        "components": {"basket": ["shop/basket*"]},
        "testers": {"shop-tester": ["sam"]},
        **changes,
    }
    return Service.model_validate(service_data(cases=cases))


def read(text: bytes, folder: Path, **changes: Any) -> list[str]:
    found = read_cases(service(**changes), folder, {"qa/cases.yaml": text}.__getitem__, ["test"])
    return [f"{file} {case.id} {case.severity}" for file, case in found.cases]


def test_cases_are_read_in_the_order_of_their_file(tmp_path: Path) -> None:
    assert read(GOOD, tmp_path) == ["qa/cases.yaml basket-total major", "qa/cases.yaml all-pages minor"]


def test_cases_come_from_the_catalogue_too_and_each_file_has_its_digest(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "shared.yaml").write_bytes(GOOD.replace(b"basket-total", b"a").replace(b"all-pages", b"b"))
    found = read_cases(service(catalogue=["shared"]), tmp_path, lambda _: GOOD, ["test"])
    assert [file for file, _ in found.cases] == ["qa/cases.yaml"] * 2 + ["cases/shared.yaml"] * 2
    assert found.digests["qa/cases.yaml"] == sha256_of(GOOD)
    assert found.digests.keys() == {"qa/cases.yaml", "cases/shared.yaml"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"component: basket", b"component: till", 'line 5, cases.0.component: found "till"; allowed: one of basket'),
        (b"severity: minor", b"severity: urgent", 'line 14, cases.1.severity: found "urgent"; allowed: '),
        (b"id: all-pages", b"id: basket-total", "the id basket-total is used twice"),
        (b"    expected: Each has", b"    expects: Each has", "line 16, cases.1.expects: found"),
        (b"steps: [Open each page of the menu.]", b"steps: *x", "line 15, cases.1.steps: found the alias *x"),
        (b"role: shop-tester\n    steps", b"role: tester\n    steps", 'line 6, cases.0.role: found "tester"'),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(CatalogueError) as refused:
        read(GOOD.replace(old, new), tmp_path)
    assert said in str(refused.value)
    assert "Next: correct the file in the repository, and release a new commit." in str(refused.value)
    assert "Who can change it: the shop's team." in str(refused.value)


def test_an_id_is_used_in_one_file_only(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "shared.yaml").write_bytes(GOOD)
    with pytest.raises(CatalogueError) as refused:
        read_cases(service(catalogue=["shared"]), tmp_path, lambda _: GOOD, ["test"])
    allowed = "allowed: an id that no other file uses; qa/cases.yaml has this one"
    assert f'line 2, cases.0.id: found "basket-total"; {allowed}' in str(refused.value)
    assert "interlock catalogue check" in str(refused.value)


def test_a_service_without_cases_has_none(tmp_path: Path) -> None:
    def never(path: str) -> bytes:
        raise AssertionError(path)

    found = read_cases(Service.model_validate(service_data()), tmp_path, never, ["test"])
    assert found.cases == ()


def test_the_catalogues_own_files_are_checked_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "good.yaml").write_bytes(GOOD)
    (tmp_path / "cases" / "bad.yaml").write_bytes(GOOD.replace(b"title:", b"name:"))
    found = list(faults_of_case_files(tmp_path))
    assert len(found) == 1
    assert "cases/bad.yaml has 5 errors" in found[0]
