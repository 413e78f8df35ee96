from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from interlock.domain.catalogue import Audience
from interlock.domain.outcome.notes import announcement, escaped, one_line, release_notes
from interlock.domain.tickets.facts import Ticket
from tests.unit.domain.samples import plan, service

CUSTOMERS = Audience(name="customers", title="Customers", email=("customers@example.com",))
MARKDOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def shown(markdown: str) -> list[tuple[str, str]]:
    """Return what a reader sees: each block's kind and words."""
    tokens = MARKDOWN.parse(markdown)
    inline = [token for token in tokens if token.type == "inline"]
    return [("".join(child.type for child in token.children or ()), token.content) for token in inline]


def notes(*subjects: str, **changes: Any) -> str:
    return release_notes(plan(*subjects, **changes), service())


def test_commits_are_grouped_by_what_they_bring() -> None:
    written = notes(
        "feat: sell bikes",
        "fix(basket): count each bike once",
        "Tidy the shelves",
        "feat(api)!: prices are in cents",
        "chore: new linter",
        "Note: this is no prefix",
        tickets=("SHOP-12", "#7"),
    )
    assert written == (
        "# Bike shop 1.1.0\n\nSell bikes\n\n"
        "## Needs your attention\n\n- api: prices are in cents (cccccccccc)\n\n"
        "## New\n\n- sell bikes (cccccccccc)\n\n"
        "## Fixed\n\n- basket: count each bike once (cccccccccc)\n\n"
        "## Also changed\n\n- Tidy the shelves (cccccccccc)\n- new linter (cccccccccc)\n"
        "- Note: this is no prefix (cccccccccc)\n\n"
        "## Tickets\n\nSHOP-12, #7\n\n"
        "## When\n\nIn production, as soon as possible: the release is approved.\n\n"
        "## Contact\n\nthe shop's team; the release was requested by rita.\n"
    )


def test_no_commits_and_too_many_are_told() -> None:
    assert "No changes since 1.0.0." in notes()
    assert "No changes.\n" in notes(previous_version=None)
    assert "…and 1 earlier change since 1.0.0." in notes("one", commit_count=2)
    assert "…and 7 earlier changes since 1.0.0." in notes("one", commit_count=8)


def test_the_time_is_told_in_utc() -> None:
    evening = datetime(2026, 5, 4, 23, 30, tzinfo=timezone(timedelta(hours=2)))
    assert "In production, not before 2026-05-04 21:30 UTC." in notes(not_before=evening)
    rehearsal = notes(rehearsal=True, not_before=evening.astimezone(UTC))
    assert "In the test environment only, as a rehearsal, not before" in rehearsal
    assert "In the test environment only, as a rehearsal.\n" in notes(rehearsal=True)


def test_an_announcement_has_one_line_of_subject_and_no_commits() -> None:
    subject, text = announcement(plan("feat: sell bikes"), service(), CUSTOMERS, "# Notes\n")
    assert subject == "Bike shop 1.1.0: Sell bikes"
    assert text.startswith("To Customers:\n\nBike shop 1.1.0 is about to be released.\n\n# Bike shop 1.1.0\n")
    assert "- sell bikes\n" in text
    assert "cccccccccc" not in text


def test_a_rollback_is_announced_as_one() -> None:
    subject, text = announcement(plan(), service(), CUSTOMERS, "# Notes\n", rollback=True)
    assert subject == "Bike shop goes back to 1.1.0: Sell bikes"
    assert text == "To Customers:\n\n# Notes\n"


def test_the_subject_of_a_rehearsal_says_so() -> None:
    rehearsed, _ = announcement(plan(rehearsal=True, summary="Sell\r\nBcc: all"), service(), CUSTOMERS, "")
    assert rehearsed == "[Rehearsal] Bike shop 1.1.0: Sell Bcc: all"


@pytest.mark.parametrize(
    "words",
    [
        "**bold** _it_ `code` ~~gone~~",
        "[a link](https://evil.example) ![picture](x)",
        "<script>alert(1)</script> &amp; <https://evil.example>",
        "# no heading",
        "- no list",
        "+ no list",
        "1. no list",
        "12) no list",
        "> no quote",
        "---",
        "===",
        "| no | table |",
        "two\nlines\n\n# and more",
        "back\\slash \\* and a trailing \\",
    ],
)
def test_words_of_an_author_are_only_words(words: str) -> None:
    for before in ("", "- "):
        ((kinds, _),) = shown(before + escaped(words))
        assert set(kinds.replace("text_special", "text").split("text")) == {""}
    assert MARKDOWN.render(escaped(words)).count("<") == 2  # one paragraph


@given(st.text(max_size=60))
def test_any_text_is_shown_as_it_is(words: str) -> None:
    line = one_line(words)
    if not line:
        assert escaped(words) == ""
        return
    tokens = MARKDOWN.parse("- " + escaped(words))
    (inline,) = [token for token in tokens if token.type == "inline"]
    assert "".join(child.content for child in inline.children or ()) == line
    assert {child.type for child in inline.children or ()} <= {"text", "text_special"}


@pytest.mark.parametrize(
    "words", ["see https://evil.example now", "www.evil.example", "mail me@evil.example", "HTTP://X"]
)
def test_an_address_does_not_become_a_link(words: str) -> None:
    written = escaped(words)
    assert "://" not in written.replace("\\://", "")
    assert "www." not in written
    assert all(written[index - 1] == "\\" for index, character in enumerate(written) if character == "@")


def test_tickets_that_were_read_are_named_with_title_and_state() -> None:
    read = Ticket(key="SHOP-12", named_by=("request",), found="read", title="Sell <b>bikes</b>", status="Done")
    unread = Ticket(key="#7", named_by=("request",), found="unread", why="down")
    notes = release_notes(plan(ticket_details=(read, unread)), service())
    assert "## Tickets\n\n- SHOP-12: Sell \\<b\\>bikes\\</b\\> (Done)\n- #7\n" in notes
