from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.change.semver import bump, contradicts, is_version, parse_version, version_in
from interlock.domain.errors import RequestRefused

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


@pytest.mark.parametrize(
    "ref",
    [
        "1.2.0",
        "v1.2.0",
        "V1.2.0",
        "v.1.2.0",
        "refs/tags/1.2.0",
        "refs/tags/v1.2.0",
        "shop-1.2.0",
        "shop/1.2.0",
        "shop/v1.2.0",
        "refs/tags/shop@1.2.0",
        "shop_v1.2.0",
        "shop2-v1.2.0",
        "release1.2.0",
        "refs/tags/services/shop/v1.2.0",
    ],
)
def test_a_tag_says_its_version_in_any_spelling(ref: str) -> None:
    assert version_in(ref) == "1.2.0"
    assert not contradicts(ref, "1.2.0")
    for other in ("1.2.1", "9.9.9", "1.2.0-rc.1", "2.0.0", "11.2.0"):
        assert contradicts(ref, other)


def test_a_pre_release_is_a_version_of_its_own() -> None:
    assert version_in("shop-1.2.0-rc.1") == "1.2.0-rc.1"
    assert contradicts("v1.2.0-rc.1", "1.2.0")
    assert not contradicts("refs/tags/v1.2.0-rc.1+7", "1.2.0-rc.1+7")


@pytest.mark.parametrize(
    "ref", ["refs/tags/v1.2", "refs/tags/REL_1_2_0", "refs/tags/shop-01.02.00", "refs/tags/1.2.0_x"]
)
def test_of_a_tag_for_certain_numbers_count_in_other_spellings(ref: str) -> None:
    assert not contradicts(ref, "1.2.0")
    assert contradicts(ref, "1.3.0")


@pytest.mark.parametrize(
    "ref", ["main", "refs/heads/1.2.0", "refs/heads/release/v1.2.0", "a" * 40, "python3.11", "2024"]
)
def test_what_names_no_version_contradicts_none(ref: str) -> None:
    assert version_in(ref) is None
    assert not contradicts(ref, "9.9.9")
