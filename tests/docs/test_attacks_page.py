"""The page that `make attacks` writes."""

from __future__ import annotations

from tests.attacks.suite import ADMIN, Attack, Results, page, rows_of, sentence


def test_an_attack_that_got_through_stands_out() -> None:
    one, other = (Attack(what, ADMIN, "API", "the guard") for what in ("mark a ballot", "clear a ballot"))
    assert sentence([True, False]) == "2 attacks tried, 1 got through"
    lines = page([(one, True), (other, False)]).splitlines()
    assert "2 attacks tried, 1 got through." in lines
    assert f"| mark a ballot | {ADMIN} | API | the guard | withstood |" in lines
    assert f"| clear a ballot | {ADMIN} | API | the guard | **got through** |" in lines


def test_what_is_tried_again_by_itself_replaces_its_row() -> None:
    one, other = (Attack(what, ADMIN, "API", "the guard") for what in ("mark a ballot", "clear a ballot"))
    before = rows_of(page([(one, True), (other, False)]))
    assert before == [(one, True), (other, False)]
    again = Results()
    again.withstood[other] = True
    assert again.since(before) == [(one, True), (other, True)]


def test_what_is_tried_for_the_first_time_by_itself_gets_a_row() -> None:
    one, new = (Attack(what, ADMIN, "API", "the guard") for what in ("mark a ballot", "clear a ballot"))
    first = Results()
    first.withstood[new] = True
    assert first.since([(one, True)]) == [(one, True), (new, True)]
