from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.paths import docs_prefix, quality_page, run_slug

RUN = "manual__2026-11-23T06:17:00.123456+00:00"


def test_data_docs_of_a_stage_have_a_folder_of_their_own() -> None:
    prefix = docs_prefix("release_bike_shop", RUN, "quality")
    assert re.fullmatch(r"docs/release_bike_shop/manual__2026-11-23T06-17-00-123456-00-00-[0-9a-f]{12}/quality", prefix)


@given(run_id=st.text())
def test_no_run_id_climbs_or_becomes_too_long(run_id: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{13,113}", run_slug(run_id))


@given(one=st.text(max_size=6), other=st.text(max_size=6))
def test_different_runs_never_share_a_folder(one: str, other: str) -> None:
    assert (run_slug(one) == run_slug(other)) == (one == other)


@pytest.mark.parametrize(
    ("dag_id", "stage"), [("../x", "quality"), ("a/b", "quality"), ("", "quality"), ("a", ".."), ("a", "")]
)
def test_what_is_no_name_is_no_part_of_a_path(dag_id: str, stage: str) -> None:
    with pytest.raises(ValueError, match="is not a stage"):
        docs_prefix(dag_id, RUN, stage)


def test_the_page_of_a_run_has_its_id_in_one_piece() -> None:
    page = quality_page("release_bike_shop", RUN)
    assert page == "dags/release_bike_shop/runs/manual__2026-11-23T06%3A17%3A00.123456%2B00%3A00/plugin/quality-report"
