from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.interlock.domain.errors import RequestRefused
from include.interlock.domain.version import bump, is_version, parse_version

numbers = st.integers(0, 12)
pre_releases = st.sampled_from(["", "-rc.1", "-rc.2", "-alpha", "-0"])
versions = st.builds("{}.{}.{}{}".format, numbers, numbers, numbers, pre_releases)


@pytest.mark.parametrize(
    ("previous", "new", "expected"),
    [
        pytest.param(None, "0.1.0", "first", id="nothing runs"),
        ("1.0.0", "1.0.0", "same"),
        ("1.0.0", "1.0.0+build.7", "same"),
        ("1.0.0", "1.0.1", "patch"),
        ("1.0.9", "1.1.0", "minor"),
        ("1.9.9", "2.0.0", "major"),
        ("1.0.10", "1.0.9", "downgrade"),
        pytest.param("1.0.0", "1.0.0-rc.1", "downgrade", id="back to the pre-release"),
        ("1.0.0", "2.0.0-rc.1", "major"),
        pytest.param("2.0.0-rc.1", "2.0.0", "major", id="nobody has approved 2.0.0 itself"),
        ("2.0.0-rc.1", "2.0.0-rc.2", "major"),
        ("2.0.0-rc.1", "2.0.1", "major"),
        ("1.3.0-rc.1", "1.3.0", "minor"),
        ("1.3.0-rc.1", "1.3.1", "minor"),
        ("1.3.1-rc.1", "1.3.1", "patch"),
        ("1.3.1-rc.1", "1.4.0", "minor"),
        pytest.param("build 7", "1.0.0", "major", id="cannot be compared"),
    ],
)
def test_a_bump_is_named_by_what_may_break(previous: str | None, new: str, expected: str) -> None:
    assert bump(previous, new) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "v1.2.3", "1.2.3 ", "1.2.3\n", "01.2.3", "1.2.3-", "\u0661.2.3", "1.2." + "3" * 70]
)
def test_what_is_no_semantic_version_is_refused(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(RequestRefused, match="semver"):
        parse_version(text)
    with pytest.raises(RequestRefused):
        bump("1.0.0", text)


@given(versions, versions)
def test_one_of_two_versions_is_the_later_one(one: str, other: str) -> None:
    there, back = bump(one, other), bump(other, one)
    assert (there == "same") == (back == "same")
    assert (there == "downgrade") != (back == "downgrade") or there == back == "same"


@given(versions, versions, versions)
def test_a_detour_never_makes_a_release_look_larger(one: str, two: str, three: str) -> None:
    order = ["same", "patch", "minor", "major"]
    steps = bump(one, two), bump(two, three)
    if "downgrade" not in steps:
        assert order.index(bump(one, three)) <= max(map(order.index, steps))
