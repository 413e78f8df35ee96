from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.adapters.catalogue.yaml_files import read_yaml
from interlock.domain.catalogue.break_glass_file import MAX_GRANT_DURATION, BreakGlassBook, Grant
from interlock.domain.errors import CatalogueError

BEGIN = datetime(2026, 12, 1, 18, tzinfo=UTC)
GRANT = {"user": "olga", "from": "2026-12-01T18:00:00Z", "until": "2026-12-01T20:00:00Z", "reason": "The bake hangs"}
CATALOGUE = Path(__file__).parents[3] / "include" / "catalogue"


def grant(**other: Any) -> Grant:
    return Grant.model_validate_json(json.dumps({**GRANT, **other}), strict=True)


def test_a_grant_is_for_one_person_and_its_time_only() -> None:
    given = grant()
    assert given.holds("olga", "release_bike_shop", BEGIN)
    assert given.holds("olga", "reconcile", BEGIN + timedelta(hours=2) - timedelta(microseconds=1))
    assert not given.holds("olga", "reconcile", BEGIN + timedelta(hours=2))
    assert not given.holds("olga", "reconcile", BEGIN - timedelta(microseconds=1))
    assert not given.holds("Olga", "reconcile", BEGIN)


def test_one_that_names_dags_is_for_no_other() -> None:
    given = grant(dags=["release_bike_shop"])
    assert given.holds("olga", "release_bike_shop", BEGIN)
    assert not given.holds("olga", "release_bike_shop_2", BEGIN)


@given(st.timedeltas(min_value=-timedelta(days=3), max_value=timedelta(days=3)))
def test_none_is_longer_than_the_longest(length: timedelta) -> None:
    values = {"user": "olga", "from": BEGIN, "until": BEGIN + length, "reason": "x"}
    if timedelta() < length <= MAX_GRANT_DURATION:
        assert Grant.model_validate(values).until - BEGIN == length
    else:
        with pytest.raises(ValidationError, match="at most 24 hours"):
            Grant.model_validate(values)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        pytest.param({"from": "2026-12-01T18:00:00"}, "time zone", id="no time zone"),
        pytest.param({"from": "2026-12-01"}, "time zone", id="a day"),
        pytest.param({"from": 1795437016}, "time zone", id="a number"),
        pytest.param({"from": "2026-02-30T18:00:00Z"}, "day", id="no such day"),
        pytest.param({"reason": ""}, "reason", id="no reason"),
        pytest.param({"reason": "a\nb"}, "reason", id="two lines"),
        pytest.param({"user": "Olga Berg"}, "user", id="no user name"),
        pytest.param({"dags": ["a", "a"]}, "twice", id="a Dag twice"),
        pytest.param({"dags": "release_bike_shop"}, "dags", id="no list"),
        pytest.param({"forever": True}, "forever", id="unknown key"),
    ],
)
def test_what_is_not_a_grant_is_refused(other: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        grant(**other)

    assert read_yaml(CATALOGUE / "break_glass.yaml", shown="x").parse(BreakGlassBook).grants == ()


def test_the_example_in_the_file_can_be_used(tmp_path: Path) -> None:
    lines = (CATALOGUE / "break_glass.yaml").read_text().splitlines()
    example = [line.removeprefix("#") for line in lines if line.startswith("#   ")]
    path = tmp_path / "break_glass.yaml"
    path.write_text("\n".join(["grants:", *example, ""]))
    (read,) = read_yaml(path, shown="break_glass.yaml").parse(BreakGlassBook).grants
    assert read.holds("olga", "release_bike_shop", BEGIN)
    path.write_text(path.read_text().replace("2026-12-01T20", "2026-12-03T20"))
    with pytest.raises(CatalogueError, match=r"break_glass\.yaml, line 2.*at most 24 hours"):
        read_yaml(path, shown="break_glass.yaml").parse(BreakGlassBook)
