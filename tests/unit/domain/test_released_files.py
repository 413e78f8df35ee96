"""Which files a host is asked about at each look, and what its answers mean."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.hosts.released_files import (
    MAX_BYTES_PER_LOOK,
    MAX_FILES_PER_LOOK,
    Difference,
    Expected,
    Question,
    ReleasedFile,
    ReleasedFiles,
    Seen,
    can_be_asked,
    differences,
    expected_files,
    in_parts,
    parse_answer,
    part_now,
    questions,
)

RELEASE = "1.1.0-0123456789ab"
DIGEST, OTHER = "a" * 64, "b" * 64
DAY = timedelta(days=1)
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def file(path: str, size: int = 100, digest: str = DIGEST) -> Expected:
    return Expected(path, f"releases/{RELEASE}/{path}", "file", digest, size)


def files(count: int, size: int = 100) -> list[Expected]:
    return [file(f"lib/{number}.py", size) for number in range(count)]


# --- the parts


@given(
    st.lists(st.integers(0, 200_000_000), max_size=100),
    st.sampled_from([timedelta(minutes=5), timedelta(hours=1), timedelta(hours=13), DAY]),
    st.datetimes(timezones=st.just(UTC), min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1)),
    st.text(max_size=20),
)
def test_every_file_is_asked_about_within_a_day_and_at_least_twice_if_there_is_time(
    sizes: list[int], every: timedelta, start: datetime, host: str
) -> None:
    released = [file(f"{number}", size) for number, size in enumerate(sizes)]
    parts = in_parts(released, every)
    looks = range(DAY // every)
    asked = Counter(one.path for number in looks for one in part_now(parts, host, start + number * every, every))
    assert all(asked[one.path] >= min(2, len(looks)) for one in released)


def test_a_part_keeps_the_budget_if_the_day_is_long_enough() -> None:
    for released in (files(2000), files(40, 3 * 1024 * 1024)):
        parts = in_parts(released, timedelta(minutes=5))
        assert len(parts) > 1
        assert all(len(part) <= MAX_FILES_PER_LOOK + 1 for part in parts)
        assert all(sum(one.size for one in part) <= MAX_BYTES_PER_LOOK + 3 * 1024 * 1024 for part in parts)
    assert len(in_parts(files(MAX_FILES_PER_LOOK), timedelta(minutes=5))) == 1, "a small release is compared as a whole"


def test_a_release_that_is_too_large_for_the_budget_is_compared_in_time_nevertheless() -> None:
    assert len(in_parts(files(7000), timedelta(hours=1))) == 12


def test_the_part_follows_from_the_host_and_the_time_alone() -> None:
    parts, every = in_parts(files(3000), timedelta(minutes=5)), timedelta(minutes=5)
    again = in_parts([*reversed(files(3000))], every)
    assert part_now(parts, "10.0.0.1", NOW, every) == part_now(again, "10.0.0.1", NOW, every)
    assert part_now(parts, "10.0.0.1", NOW, every) != part_now(parts, "10.0.0.1", NOW + every, every)
    chosen = [part_now(parts, f"10.0.0.{number}", NOW, every) for number in range(20)]
    assert any(one != chosen[0] for one in chosen), "hosts are not all asked about the same"


# --- what is expected


def listed(**changes: object) -> ReleasedFiles:
    usual = {
        "files": (
            ReleasedFile(path="app/shop.py", sha256=DIGEST, size=7),
            ReleasedFile(path="conf/shop.ini", sha256=OTHER, size=9),
        ),
        "links": {"app/now": "shop.py"},
        "placed": {"/etc/shop/shop.ini": "conf/shop.ini", "/opt/now": "app/now"},
    }
    return ReleasedFiles.model_validate({**usual, **changes})


def test_files_links_and_what_is_placed_are_expected() -> None:
    expected = expected_files(listed(), RELEASE)
    assert [(one.path, one.name, one.kind, one.placed) for one in expected] == [
        ("app/shop.py", f"releases/{RELEASE}/app/shop.py", "file", False),
        ("conf/shop.ini", f"releases/{RELEASE}/conf/shop.ini", "file", False),
        ("app/now", f"releases/{RELEASE}/app/now", "link", False),
        ("/etc/shop/shop.ini", "/etc/shop/shop.ini", "file", True),
        ("/opt/now", "/opt/now", "link", True),
    ]


def test_what_a_release_changes_itself_is_left_out_with_its_copies() -> None:
    expected = expected_files(listed(), RELEASE, ["conf/*"])
    assert [one.path for one in expected] == ["app/shop.py", "app/now", "/opt/now"]


@pytest.mark.parametrize(
    ("name", "can"),
    [("a b", True), ("näme", True), ("a\\b", True), ("a\nb", False), ("a\0b", False), ("\udcff", False)],
)
def test_a_name_goes_to_a_host_as_one_line(name: str, can: bool) -> None:
    assert can_be_asked(name) == can


# --- questions and answers


@given(st.lists(st.integers(0, 300_000_000), max_size=600))
def test_questions_ask_about_each_file_once_and_never_have_much_more_read(sizes: list[int]) -> None:
    released = [file(f"{number}", size) for number, size in enumerate(sizes)]
    asked = [*questions(released)]
    assert sorted(one.path for question in asked for one in question.asked) == sorted(one.path for one in released)
    for question in asked:
        assert 0 < len(question.asked) <= MAX_FILES_PER_LOOK
        assert len(question.lines) < 128 * 1024
        assert all(one.size <= question.largest <= max(2 * one.size, 1024 * 1024) for one in question.asked)


def test_a_question_has_one_line_for_each_name() -> None:
    question = Question((file("a b"), file("c")), 1024)
    assert question.lines == f"files 1024 2\nreleases/{RELEASE}/a b\nreleases/{RELEASE}/c\n".encode()


ASKED = (file("one"), file("two\\x2d.service"), file("three"), file("four"), file("five"), file("six"), file("seven"))
QUESTION = Question(ASKED, 1024 * 1024)
HERE = f"releases/{RELEASE}"


def test_each_kind_of_answer_is_understood() -> None:
    answer = [
        "link 3 /tmp/elsewhere",
        "folder 4",
        "gone 5",
        "hidden 6",
        f"sum {DIGEST}  {HERE}/one",
        f"sum \\{OTHER}  {HERE}/two\\\\x2d.service",
        f"large {HERE}/seven",
    ]
    assert parse_answer(answer, QUESTION) == {
        f"{HERE}/one": Seen("file", DIGEST),
        f"{HERE}/two\\x2d.service": Seen("file", OTHER),
        f"{HERE}/three": Seen("link", "/tmp/elsewhere"),
        f"{HERE}/four": Seen("folder"),
        f"{HERE}/five": Seen("gone"),
        f"{HERE}/six": Seen("hidden"),
        f"{HERE}/seven": Seen("large"),
    }
    plain = f"sum {OTHER}  {HERE}/two\\x2d.service"  # as BusyBox prints it
    assert parse_answer([plain], QUESTION) == {f"{HERE}/two\\x2d.service": Seen("file", OTHER)}


@pytest.mark.parametrize(
    "answer",
    [
        ["nonsense"],
        [""],
        [f"sum {DIGEST}  /etc/shadow"],
        [f"sum {DIGEST[1:]}  {HERE}/one"],
        [f"sum {DIGEST.upper()}  {HERE}/one"],
        [f"sum {DIGEST}  {HERE}/one", f"sum {OTHER}  {HERE}/one"],
        [f"sum {DIGEST}  {HERE}/one", "gone 1"],
        ["gone 0"],
        ["gone 8"],
        ["gone ²"],
        ["gone 99999999999999999999"],
        ["large /dev/zero"],
    ],
)
def test_what_is_no_answer_to_the_question_is_refused(answer: list[str]) -> None:
    with pytest.raises(ValueError, match="answer"):
        parse_answer(answer, QUESTION)


@given(st.lists(st.text()))
def test_no_answer_raises_anything_else(answer: list[str]) -> None:
    try:
        found = parse_answer(answer, QUESTION)
    except ValueError:
        return
    assert found.keys() <= {one.name for one in ASKED}


def test_what_differs_is_told_and_what_cannot_be_read_is_not_known_to() -> None:
    link = Expected("now", "now", "link", "shop.py")
    asked = (*ASKED[:5], link)
    seen = {
        ASKED[0].name: Seen("file", DIGEST),
        ASKED[1].name: Seen("file", OTHER),
        ASKED[2].name: Seen("gone"),
        ASKED[3].name: Seen("hidden"),
        link.name: Seen("link", "evil.py\x1b[31m"),
    }
    found = [*differences(asked, seen)]
    assert found == [
        Difference(ASKED[1], Seen("file", OTHER)),
        Difference(ASKED[2], Seen("gone")),
        Difference(link, Seen("link", "evil.py\x1b[31m")),
    ]
    assert [one.seen.in_words for one in found] == [f"SHA-256 {OTHER}", "nothing", "a link to evil.py?[31m"]
    assert [one.expected.in_words for one in found][1:] == [f"SHA-256 {DIGEST}", "a link to shop.py"]
