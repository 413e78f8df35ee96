from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markdown_it import MarkdownIt
from markdown_it.token import Token

from include.interlock.adapters.templates import FOLDER, JOINER, LONGEST, code, escape, quoted, render
from include.interlock.domain.paths import quality_page
from tests.factories import releases

FORGERY = (
    "x | y |\n| forged | row |\n\n# heading <b>bold</b> [link](http://evil.example) ![i](http://evil.example/i.png) `c`"
)
# Airflow's UI renders GitHub's Markdown and drops HTML. Bare addresses become links, which is done to the text after
# it has been parsed: escaped or not.
GITHUB = MarkdownIt("gfm-like", {"linkify": False, "html": True})
BARE_ADDRESS = re.compile(r"(https?://|ftp://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+\.[-\w]+", re.IGNORECASE)


def tokens(text: str) -> list[Token]:
    found: list[Token] = []
    for token in GITHUB.parse(text):
        found += [token, *(token.children or ())]
    return found


def shape(text: str) -> Counter[str]:
    """Count what a text consists of: rows, cells, headings, links, … but not its words."""
    return Counter(token.type for token in tokens(text) if token.type not in ("text", "softbreak", "text_special"))


def words(text: str) -> str:
    return "".join(token.content for token in tokens(text) if token.type in ("text", "text_special", "code_inline"))


def ballot(plan: dict[str, Any] | None = None, rows: tuple[str, ...] = (), **changes: Any) -> str:
    rollout = releases.rollout(**changes)
    return render(
        "ballot.md.j2",
        plan=releases.plan(**(plan or {})),
        service=releases.service(),
        artifact=releases.artifact(),
        report=releases.quality(*([releases.failure(rows=rows, row_count=len(rows))] if rows else [])),
        rollout=rollout,
        board=releases.board(),
        in_force=releases.policy(),
        digest=rollout.digest,
    )


def test_a_ballot_shows_all_that_a_member_needs_to_decide() -> None:
    text = ballot(rows=("GET /bikes on bike-shop-test-1 (1200.5)",))
    said = words(text)
    for part in (
        "2 of 3 members must approve; a rejection by cora alone decides",
        "2026-11-25 06:17 UTC",
        "1.1.0, replaces 1.0.0",
        "Sells bikes",
        "SHOP-12, #7",
        "Price bikes in euros",
        "many notice within an hour",
        "p95_ms is at most 800",
        "GET /bikes on bike-shop-test-1 (1200.5)",
        "bike-shop-production-2, bike-shop-production-3",
        "1.0.0-0123456789ab",
        "a" * 64,
        "b" * 64,
        releases.rollout().digest,
    ):
        assert part in said, part
    assert shape(text)["table_open"] == 7


@pytest.mark.parametrize("name", ["plan_approval.md.j2", "acceptance.md.j2", "acknowledgement.md.j2"])
def test_each_question_names_what_is_decided_and_its_digest(name: str) -> None:
    text = render(
        name,
        plan=releases.plan(),
        service=releases.service(),
        artifact=releases.artifact(),
        report=releases.quality(releases.failure()),
        deployment=releases.deployment(),
        role="service-desk",
        material="# How to sell a bike",
        digest="f" * 64,
    )
    assert "Bike shop 1.1.0" in words(text)
    assert "f" * 64 in words(text)
    assert "Undefined" not in text


def test_an_acceptance_has_the_quality_report_in_it_with_a_link() -> None:
    page = quality_page("release_bike_shop", "manual__1+1")
    text = render(
        "acceptance.md.j2",
        plan=releases.plan(),
        service=releases.service(),
        artifact=releases.artifact(),
        report=releases.quality(releases.failure(rows=("a",) * 7, row_count=9)),
        deployment=releases.deployment(),
        digest="f" * 64,
        quality_page=page,
    )
    (link,) = [token for token in tokens(text) if token.type == "link_open"]
    assert link.attrs["href"] == page
    assert "a; a; a; a; a; and 4 more" in words(text)
    assert "http://127.20.0.51:8400." in words(text)


def test_a_release_without_waves_in_one_go_or_commits_reads_well_too() -> None:
    text = ballot({"commits": (), "commit_count": 0, "previous_version": None}, target_group=None, decide_by=None)
    assert "replaces nothing" in text
    assert "No commits since what production runs now." in text
    assert "drained" not in text


def test_many_commits_are_counted_instead_of_listed() -> None:
    text = ballot({"commits": tuple(releases.commit(f"Change {number}") for number in range(30)), "commit_count": 230})
    assert "Change 19" in text
    assert "Change 20" not in text
    assert "210 more commits" in words(text)


def test_a_record_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="service"):
        render("plan_approval.md.j2", plan=releases.plan(), digest="f" * 64)


OUTSIDE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@settings(max_examples=60, deadline=None)
@given(said=OUTSIDE)
@example(said=FORGERY)
@example(
    said="\\| `|` \\\\| https://evil.example WWW.evil.example a@evil.example ftp://evil.example _a_ __b__ *c* ~~d~~"
)
@example(said="- x\n1. y\n> z\n```\n~~~")
@example(said="{{ plan }} {% include 'x' %} &lt;b&gt; &#124; <!-- --> <http://evil.example>")
def test_no_words_from_outside_change_what_a_ballot_consists_of(said: str) -> None:
    forged = ballot(
        {"commits": (releases.commit(said), releases.commit(said)), "summary": said},
        rows=(said or "x",),
        summary=said,
        tickets=(said,),
        requested_by=said,
    )
    honest = ballot(rows=("x",))
    assert shape(forged) == shape(honest)
    assert not [token for token in tokens(forged) if token.type == "text" and BARE_ADDRESS.search(token.content)]


@settings(deadline=None)
@given(said=OUTSIDE)
@example(said=FORGERY)
def test_escaped_words_read_as_they_were_said(said: str) -> None:
    seen = "".join(
        one for one in " ".join(said.split()) if unicodedata.category(one) not in {"Cc", "Cf", "Co", "Zl", "Zp"}
    )
    rendered = "".join(
        html.unescape(token.content) if token.type == "html_inline" else token.content
        for token in GITHUB.parseInline(f"x{escape(said)}x")[0].children or ()
    )
    assert rendered.replace(JOINER, "") == f"x{seen or '—'}x"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "—"), ("", "—"), ((), "—"), (True, "yes"), (False, "no"), (2.50, "2.5"), (("a", "b"), "a, b"), (7, "7")],
)
def test_values_read_as_people_write_them(value: Any, said: str) -> None:
    assert escape(value) == said


def test_long_words_are_cut_and_hidden_characters_are_left_out() -> None:
    assert len(escape("x" * 1000)) == LONGEST
    assert escape("a\u202eb\u0000c\u200bd") == "abcd"


def test_code_cannot_be_left_from_within() -> None:
    assert code("a`b|c") == "`a'b¦c`"
    assert code(None) == "—"


def test_training_material_stays_a_quotation_to_its_end() -> None:
    text = quoted("# Sell\n\n```\ncode\n\n| a | b |\n</details>")
    assert all(line.startswith(">") for line in text.splitlines())
    outer = [token for token in GITHUB.parse(f"before\n\n{text}\n\nafter") if token.level == 0]
    assert [token.type for token in outer if token.nesting == 1] == [
        "paragraph_open",
        "blockquote_open",
        "paragraph_open",
    ]


def test_every_template_is_used_by_a_test() -> None:
    assert {path.name for path in Path(FOLDER).glob("*.j2")} == {
        "ballot.md.j2",
        "plan_approval.md.j2",
        "acceptance.md.j2",
        "acknowledgement.md.j2",
        "changes.md.j2",
        "quality.md.j2",
        "risk.md.j2",
    }
