from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.interlock.domain.quality import (
    ComponentRow,
    CoverageRow,
    TestRow,
    licence_allowed,
    rows_as_json,
    rows_from_json,
)

ALLOWED = ("MIT", "Apache-2.0", "Our own terms")
NAMES = st.sampled_from(["MIT", "Apache-2.0", "GPL-3.0-only", "Zlib"])


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("LicenseRef-theirs OR MIT", True),
        ("Our own terms", True),
        ("Their own terms", False),
        ("MIT OR", False),
        ("((", False),
        ("", False),
    ],
)
def test_a_licence_is_allowed_as_its_expression_says(licence: str, allowed: bool) -> None:
    assert licence_allowed(licence, ALLOWED) is allowed


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_of_alternatives_one_is_enough_and_of_obligations_all_are_needed(names: list[str]) -> None:
    assert licence_allowed(" OR ".join(names), ALLOWED) is any(name in ALLOWED for name in names)
    assert licence_allowed(" AND ".join(names), ALLOWED) is all(name in ALLOWED for name in names)


@given(st.text(max_size=60))
def test_any_text_is_a_licence_or_not(text: str) -> None:
    assert licence_allowed(text, ALLOWED) in (True, False)


@given(
    st.lists(
        st.builds(
            TestRow,
            suite=st.text(),
            classname=st.text(),
            name=st.text(),
            status=st.sampled_from(["passed", "failed", "error", "skipped"]),
            seconds=st.floats(0, 1e6),
            message=st.text(),
        )
    )
)
def test_rows_survive_the_artifact_store(rows: list[TestRow]) -> None:
    data = rows_as_json(rows)
    assert rows_from_json(TestRow, data) == tuple(rows)
    assert rows_as_json(rows_from_json(TestRow, data)) == data


def test_rows_of_another_kind_are_refused() -> None:
    data = rows_as_json([CoverageRow(file="till.py", lines=2, covered=1, percent=50)])
    with pytest.raises(ValidationError, match="file"):
        rows_from_json(ComponentRow, data)
