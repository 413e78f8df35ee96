from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markdown_it import MarkdownIt
from markdown_it.token import Token

from interlock.adapters.templates import (
    JOINER,
    MAX_LINE_LENGTH,
    Markdown,
    code,
    counted,
    escape,
    named,
    quoted,
    render,
    worded,
)
from interlock.domain.board.seats import describe_exclusions
from interlock.domain.cab.agenda import SeatSeen, Settled
from interlock.domain.cab.minutes import DiscussedItem, Minutes
from interlock.domain.cab.remarks import Remark, Said
from interlock.domain.calendars.overrides import Override
from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.catalogue import WaiverRule
from interlock.domain.catalogue.cases_file import Case
from interlock.domain.catalogue.values import roughly
from interlock.domain.paths import matrix_page, quality_page
from interlock.domain.records import (
    CaseRuns,
    Decision,
    DefectLine,
    EnvironmentPassed,
    EnvironmentTested,
    SoakReport,
    Vote,
    Waiver,
)
from interlock.domain.rollout.rollout import describe_strategy
from interlock.domain.runbook.planning import describe_irreversible, describe_steps
from interlock.domain.testing.defects import Defect, OpenDefect
from interlock.domain.testing.matrix import MatrixRow, worst_first
from interlock.domain.testing.planning import PlannedCase, TestPlan
from interlock.domain.testing.results import CaseResult
from interlock.domain.tickets.facts import Ticket
from interlock.domain.trains.manifest import LeftBehind
from interlock.locations import TEMPLATES
from tests.examples import examples
from tests.factories import journeys, releases
from tests.unit.domain.test_train_manifest import boarded, manifest, train

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


PAGE = quality_page("release_bike_shop", "manual__1+1")


def ballot(
    plan: dict[str, Any] | None = None, rows: tuple[str, ...] = (), given: dict[str, Any] | None = None, **changes: Any
) -> str:
    usual = {
        "plan": releases.plan(**(plan or {})),
        "service": releases.service(),
        "report": releases.quality(*([releases.failure(rows=rows, row_count=len(rows))] if rows else [])),
        "rollout": releases.rollout(**changes),
        "strategy": describe_strategy(releases.rollout(**changes)),
        "board": releases.board(),
        "acceptance": releases.decision("acceptance", reason="Fay approved the release."),
        "answered_yes": (),
        "calendars": [("now", "bike-shop in production may be changed until 2026-12-20 23:00 UTC.")],
        "overrides": (),
        "names": releases.NAMES,
        "quality_page": PAGE,
    }
    return render("ballot.md.j2", **{**usual, **(given or {})})


def test_a_ballot_shows_all_that_a_member_needs_to_decide() -> None:
    text = ballot(rows=("GET /bikes on bike-shop-test-1 (1200.5)",))
    said = words(text)
    for part in (
        "Approve the deployment of Bike shop 1.1.0 to production? Vote below before 2026-11-25 06:17 UTC.",
        "is rejected if it does not have enough approvals by then",
        "2 approvals of 3; a rejection by Cora Lindqvist (cora) is a veto",
        "1.1.0, replaces 1.0.0",
        "Sells bikes",
        "SHOP-12, #7",
        "Rita Reyes (rita)",
        "as soon as it is approved",
        "Calendars, now",
        "bike-shop in production may be changed until 2026-12-20 23:00 UTC.",
        "Fay approved the release. “fine”",
        "Price bikes in euros",
        "many notice within an hour",
        "Response times and errors",
        "p95_ms is at most 800",
        "GET /bikes on bike-shop-test-1 (1200.5)",
        "3 hosts in 2 waves",
        "bike-shop-production-2, bike-shop-production-3",
        "1.0.0-0123456789ab",
        "Every host still has the release that it returns to.",
        "a" * 64,
        "b" * 64,
        "d" * 64,
    ):
        assert part in said, part
    assert "Policy, SHA-256" not in said, "the digest is of the whole catalogue"
    assert shape(text)["table_open"] == 8


def overridden_for(reason: str) -> Override:
    return Override.model_construct(
        place="trade in calendars/office.yaml",
        service="bike-shop",
        environment="production",
        reason=reason,
        by="ben",
        role="operations",
        until=datetime(2026, 11, 24, 12, tzinfo=UTC),
    )


def test_a_ballot_has_the_test_matrix_and_begins_it_with_what_nobody_tested() -> None:
    about = {"case": "menu", "title": "The menu opens", "environment": "staging"}
    passed = MatrixRow(ticket="SHOP-12", **about, state="passed", by="fay")
    unproven = MatrixRow(ticket="SHOP-9", state="no_case")
    rows = [*[passed] * 60, MatrixRow(ticket="SHOP-12", **about, state="not_run"), unproven]
    text = ballot(given={"matrix": worst_first(rows), "matrix_page": matrix_page("release_bike_shop", "manual__1+1")})
    shown = [line for line in text.splitlines() if line.startswith("| SHOP-")]
    assert len(shown) == 50
    assert shown[0] == "| SHOP-9 | no test case proves it | — | **No case** | — |"
    assert shown[1] == "| SHOP-12 | The menu opens | staging | **Not run** | — |"
    assert shown[2].startswith("| SHOP-12 | The menu opens | staging | Passed | Fay")
    assert "All 62" in text
    assert "[Test matrix](" in text
    assert "Test matrix" not in words(ballot())


def test_a_ballot_names_the_overrides_in_force() -> None:
    said = words(ballot(given={"overrides": [overridden_for("The till is broken")]}))
    assert (
        "Override in forceben (operations) overrode trade in calendars/office.yaml for bike-shop in production "
        "until 2026-11-24 12:00 UTC. Reason: The till is broken"
    ) in said
    assert "Override in force" not in words(ballot())


def test_a_ballot_says_when_and_that_nobody_accepted() -> None:
    unasked = releases.decision("acceptance", required=False, votes=(), reason="The policy requires no acceptance.")
    text = words(ballot(given={"acceptance": unasked}, not_before=datetime(2026, 11, 24, 22, 30, tzinfo=UTC)))
    assert "not before 2026-11-24 22:30 UTC" in text
    assert "not required: The policy requires no acceptance." in text


def test_a_ballot_begins_with_what_cannot_be_taken_back() -> None:
    rollout = journeys.rollout()
    given = {
        "runbook": describe_steps(rollout.steps, releases.NAMES),
        "irreversible": describe_irreversible(rollout),
    }
    said = words(ballot(given=given))
    warning = said.index("This release cannot be taken back as a whole")
    assert warning < said.index("“Drop the old columns” cannot be taken back.") < said.index("Requested by")
    assert "as a whole" not in words(ballot(given={"runbook": given["runbook"], "irreversible": ()}))


def test_a_ballot_counts_the_defects_before_it_lists_them() -> None:
    report = journeys.report("test", defects=journeys.DEFECTS)
    said = words(ballot(given={"report": report}))
    counted = "1 brought along by this release, 1 open from before, 1 accepted as known, 1 fixed by this release"
    assert said.index(f"Defects{counted}") < said.index("menu-1: About menu-1")
    fixed = journeys.report("test", defects=(journeys.defect("total-3", "fixed"),))
    assert "Defects1 fixed by this release" in words(ballot(given={"report": fixed}))


def test_a_ballot_says_how_long_a_release_ran_in_an_environment() -> None:
    journey = journeys.Journey().through()
    said = words(ballot(environments=journey.rollout.environments))
    assert "stagingpassed its gate; ran there for 2 hours 5 minutes; nobody signs it off" in said
    assert "user-acceptancepassed its gate; 2 of 3 members approve: fay, sam." in said


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(hours=2, minutes=5, seconds=9.7), "2 hours 5 minutes"),
        (timedelta(days=1, seconds=1), "1 day 1 second"),
        (timedelta(seconds=40.9), "40 seconds"),
        (timedelta(milliseconds=3), "less than a second"),
    ],
    ids=["hours", "day", "seconds", "none"],
)
def test_how_long_something_took_is_said_roughly(length: timedelta, said: str) -> None:
    assert roughly(length) == said


def test_a_ballot_says_what_may_be_lost() -> None:
    question = "Does it change something that going back to the previous version does not undo?"
    said = words(ballot(given={"answered_yes": [question]}))
    assert "The release manager answered yes to these risk questions:" in said
    assert question in said
    assert "answered no to all risk questions" in words(ballot())


def test_a_waiver_stands_beside_the_failure_that_somebody_answers_for() -> None:
    waiver = Waiver(
        suite="performance",
        expectation="p95_ms is at most 800",
        reason="The slow page goes next week | see SHOP-99",
        by="cora",
        at=releases.AT,
        until=datetime(2026, 12, 1, tzinfo=UTC),
    )
    text = ballot(rows=("GET /bikes",), given={"waivers": [waiver]})
    said = words(text)
    assert "failed" in said
    for part in ("Cora Lindqvist (cora)", "2026-12-01 00:00 UTC", "The slow page goes next week | see SHOP-99"):
        assert part in said, part
    assert "the expectation still counts as failed" in said
    assert shape(text)["table_open"] == shape(ballot(rows=("GET /bikes",)))["table_open"] + 1


@pytest.mark.parametrize("name", ["plan_approval.md.j2", "acceptance.md.j2", "acknowledgement.md.j2"])
def test_each_question_says_who_asks_until_when_and_what_for(name: str) -> None:
    text = words(question_text(name))
    until = "do not answer before 2026-11-26 06:17 UTC, the release ends"
    for part in ("Bike shop 1.1.0", "Sells bikes", "Rita Reyes (rita)", until):
        assert part in text, part
    assert "Undefined" not in text


def a_case(**changes: Any) -> Case:
    about = {"title": "The basket adds up", "role": "shop-tester", "steps": ("Open /bikes",), "expected": "A total"}
    return Case.model_construct(id="basket-total", proves=("SHOP-41",), severity="major", **{**about, **changes})


TESTS = TestPlan(
    environment="test",
    version="1.1.0",
    artifact="a" * 64,
    cases=releases.blob("cases.json"),
    files={},
    demanded=1,
    left_out=0,
    unproven=(),
)


def known(said: str) -> OpenDefect:
    """Return a defect that is accepted as known, with some words of a tester."""
    defect = Defect.model_construct(id="basket-total-1", version="1.0.0", step=said, comment=said)
    return OpenDefect(defect, accepted=releases.AT)


def case_text(name: str = "case.md.j2", *, defects: tuple[OpenDefect, ...] = (), **changes: Any) -> str:
    case = a_case(**changes)
    given = {
        "service": releases.service(),
        "plan": TESTS,
        "deployment": releases.deployment(),
        "case": case,
        "because": ("it proves SHOP-41",),
        "file": changes.get("title", "qa/cases.yaml"),
        "answer_by": releases.AT,
        "defects": defects,
        "matrix_page": "dags/x/runs/y/plugin/test-matrix",
        "person": case.title,
        "cases": [PlannedCase.model_construct(case=case)] * 21,
        "number": 21,
        "page": Markdown("<https://airflow.example/dags/x>"),
    }
    return render(name, **given)


def test_a_test_case_is_asked_with_all_its_steps() -> None:
    step, expected = "Press the button " + "again " * 75 + "and wait", "It " + "really " * 140 + "rings"
    said = words(case_text(steps=("Open /bikes", step), expected=expected))
    for part in ("Bike shop 1.1.0", step, expected, "SHOP-41", "it proves SHOP-41", "a" * 64, "qa/cases.yaml"):
        assert part in said, part


def test_a_tester_sees_the_open_defects_of_the_case_and_names_one_only_if_it_happens_again() -> None:
    said = words(case_text(defects=(known("It says 0"),)))
    for part in ("basket-total-1, 1.0.0, accepted as known until", "It says 0", "write its id under Known defect"):
        assert part in said, part
    assert "Known defect" not in words(case_text())


def test_a_tester_is_told_of_twenty_cases_and_how_many_more() -> None:
    said = words(case_text("cases_waiting.md.j2"))
    assert "has 21 test cases for you in test" in said
    assert said.count("The basket adds up") == 21  # twenty cases, and the name of the person
    assert "and 1 more" in said


def test_no_words_of_a_failed_case_change_the_shape_of_its_mail() -> None:
    def told(said: str) -> str:
        found = CaseResult.model_construct(
            case="basket",
            title=said,
            severity="major",
            environment="test",
            by=said,
            at=releases.AT,
            comment=said,
            evidence=said,
            step=said,
            files=(SimpleNamespace(name=said),),
            artifact="a" * 64,
        )
        page = Markdown("<https://airflow.example/dags/x>")
        about = {"service": releases.service(), "version": "1.1.0", "page": page}
        return render("defects.md.j2", results=[(found, None)], **about)

    assert shape(told(FORGERY)) == shape(told("words"))


@pytest.mark.parametrize("name", ["case.md.j2", "cases_waiting.md.j2"])
def test_no_words_of_a_test_case_change_the_shape_of_its_question(name: str) -> None:
    def asked(said: str) -> str:
        return case_text(name, title=said, steps=(said, "# no heading"), expected=said, defects=(known(said),))

    assert shape(asked(FORGERY)) == shape(asked("words"))


def test_a_support_role_is_told_in_words() -> None:
    assert "the support role Service desk must confirm" in words(question_text("acknowledgement.md.j2"))


def test_a_waiver_is_asked_for_with_what_failed() -> None:
    text = words(question_text("waiver.md.j2", failure=releases.failure(row_count=3), rule=WAIVED))
    for part in ("p95_ms is at most 800", "GET /bikes on bike-shop-test-1 (1200.5); and 2 more", "Rita Reyes (rita)"):
        assert part in text, part


def test_a_reminder_says_what_is_missing_and_until_when() -> None:
    given = {"voter": "Ben Adler", "where": "to", "about": releases.rollout(), "board": releases.board()}
    text = words(question_text("reminder.md.j2", page=Markdown("<https://airflow.example/dags/x>"), **given))
    for part in (
        "Ben Adler, you have not voted yet on the deployment of Bike shop 1.1.0",
        "deadline of the vote is 2026-11-25 06:17 UTC",
        "Rita Reyes (rita)",
    ):
        assert part in text, part


WAIVED = WaiverRule(roles=("operations",), longest=timedelta(days=14))


def question_text(name: str, **given: Any) -> str:
    usual = {
        "plan": releases.plan(),
        "service": releases.service(),
        "artifact": releases.artifact(),
        "report": releases.quality(releases.failure(rows=("a",) * 7, row_count=9)),
        "deployment": releases.deployment(),
        "role": "service-desk",
        "material": "# How to sell a bike",
        "digest": "f" * 64,
        "names": releases.NAMES,
        "answer_by": datetime(2026, 11, 26, 6, 17, tzinfo=UTC),
        "quality_page": PAGE,
    }
    return render(name, **{**usual, **given})


def test_an_acceptance_has_the_quality_report_in_it_with_a_link() -> None:
    text = question_text("acceptance.md.j2")
    (link,) = [token for token in tokens(text) if token.type == "link_open"]
    assert link.attrs["href"] == PAGE
    assert "file:" not in text, "where the report lies in the store helps nobody who reads this"
    assert "a; a; a; a; a; and 4 more" in words(text)
    assert "http://127.20.0.51:8400." in words(text)


def test_a_release_without_waves_in_one_go_or_commits_reads_well_too() -> None:
    text = ballot({"commits": (), "commit_count": 0, "previous_version": None}, target_group=None, decide_by=None)
    assert "replaces nothing" in text
    assert "Vote below. The release is rejected" in text
    assert "No commits since the version that production runs now." in text
    assert "drained" not in text


def test_many_commits_are_counted_instead_of_listed() -> None:
    text = ballot({"commits": tuple(releases.commit(f"Change {number}") for number in range(30)), "commit_count": 230})
    assert "Change 19" in text
    assert "Change 20" not in text
    assert "210 more commits" in words(text)


def test_a_record_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="service"):
        render("plan_approval.md.j2", plan=releases.plan(), digest="f" * 64)


def accepted(comment: str) -> Decision:
    vote = Vote(user="fay", assigned="fay", choice="Approve", comment=comment or "x")
    return releases.decision("acceptance", reason=comment, votes=(vote,))


OUTSIDE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@examples(60, deadline=None)
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
        given={"answered_yes": [said], "acceptance": accepted(said), "overrides": [overridden_for(said)]},
    )
    usual = {"answered_yes": ["x"], "acceptance": accepted("x"), "overrides": [overridden_for("x")]}
    honest = ballot(rows=("x",), given=usual)
    assert shape(forged) == shape(honest)
    assert not [token for token in tokens(forged) if token.type == "text" and BARE_ADDRESS.search(token.content)]


def test_a_ballot_says_who_does_not_vote_as_the_others_do_and_why() -> None:
    board = releases.board()
    sentences = describe_exclusions(board, asked_by=["rita"], authors=["cora"], excluded=["cora"])
    said = words(ballot(given={"left_out": sentences}))
    assert "Cora Lindqvist (cora) is named as an author in its commits: their approval does not count" in said
    assert "excluded and restricted voters" not in words(ballot())


def train_ballot(said: str) -> str:
    one = boarded("bike-shop", summary=said, tickets=(said,), ref=said, why=said, by=None)
    left = LeftBehind(service="till", late=True, why=said)
    frozen = manifest(one, left=(left,), requested_by=(said,), title=said)
    return render(
        "train_ballot.md.j2",
        train=train({"bike-shop": ()}, title="Weekly"),
        manifest=frozen,
        board=releases.board(),
        names=releases.NAMES,
        titles={"bike-shop": said},
        conflicts=[said],
    )


@examples(40, deadline=None)
@given(said=OUTSIDE)
@example(said=FORGERY)
@example(said="{{ manifest }} {% include 'x' %} | `|` https://evil.example a@evil.example _a_ *c* ~~d~~")
def test_no_words_from_outside_change_what_a_trains_ballot_consists_of(said: str) -> None:
    assert shape(train_ballot(said)) == shape(train_ballot("x"))


def test_a_trains_ballot_says_who_is_on_board_and_what_is_decided_on() -> None:
    text = words(train_ballot("Sell bikes"))
    for said in ("Approve the departure of Weekly", "1.1.0", "a" * 40, "One decision for all", "10 of 100", "till"):
        assert said in text, said


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


@pytest.mark.parametrize(
    ("filtered", "said"),
    [
        (named("rita", releases.NAMES), "Rita Reyes (rita)"),
        (named("nobody: the run was not triggered by a person", {}), "nobody: the run was not triggered by a person"),
        (worded("service-desk"), "Service desk"),
        (worded("peak_hours"), "Peak hours"),
        (worded(""), ""),
        (counted(1, "host"), "1 host"),
        (counted(3, "host"), "3 hosts"),
    ],
)
def test_keys_and_numbers_are_said_in_words(filtered: str, said: str) -> None:
    assert filtered == said


def test_long_words_are_cut_and_hidden_characters_are_left_out() -> None:
    assert len(escape("x" * 1000)) == MAX_LINE_LENGTH
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


MALICIOUS = """\
# How to sell

![seen](https://evil.example/pixel.png) [our *portal*](https://evil.example/login) [a][b] [b] <https://evil.example>
[b]: https://evil.example "x"
<a href="https://evil.example">portal</a> <img src=x onerror=alert(1)> <!-- --> <script>alert(1)</script>
https://evil.example www.evil.example me@evil.example https&#58;//evil.example h&#116;tps://evil.example [^1]

[^1]: https://evil.example
1. **Bold** stays, `a[0](1) && b < c` too
"""


def test_training_material_leads_nowhere_shows_no_pictures_and_holds_no_html() -> None:
    text = quoted(MALICIOUS)
    kinds = {token.type for token in tokens(text)}
    assert not kinds & {"link_open", "image", "html_inline", "html_block"}
    assert {"heading_open", "strong_open", "ordered_list_open", "code_inline"} <= kinds
    said = "".join(token.content for token in tokens(text) if token.type in ("text", "text_special", "code_inline"))
    assert not BARE_ADDRESS.search(said), "what makes links of bare addresses finds none"
    assert "portal" in said
    assert "https:" in said


@examples(200, deadline=None)
@given(st.lists(st.sampled_from([*"[]()<>!&#;:/@ab1`~*_-|\"'\\ \n", "www.", "http"]), max_size=60).map("".join))
@example("[a](b)")
@example("[a](<b>)")
@example("![a][a]\n\n[a]: b")
@example("[a]\\(b)")
def test_no_training_material_leads_anywhere(said: str) -> None:
    kinds = {token.type for token in tokens(quoted(said))}
    assert not kinds & {"link_open", "image", "html_inline", "html_block"}


def test_training_material_that_is_too_long_is_cut_and_says_so() -> None:
    text = quoted("word " * 10_000)
    assert len(text) < 21_000
    assert text.splitlines()[-1] == "> … 30,000 more characters are in the document itself"


MAILED = Markdown("<https://airflow.example/dags/x>")


@pytest.mark.parametrize("others", [(), ("Cora Lindqvist",)])
def test_no_words_of_a_question_change_the_shape_of_its_mail(others: tuple[str, ...]) -> None:
    def mail(said: str) -> str:
        about = {"person": said, "subject": said, "options": [said, "No"], "default": said, "others": others and [said]}
        return render("question.md.j2", until=releases.AT, page=MAILED, lost=len(others), **about)

    assert shape(mail(FORGERY)) == shape(mail("words"))
    assert not BARE_ADDRESS.search(words(mail(FORGERY)).replace("https://airflow.example", ""))


def test_no_reason_leads_anywhere_from_the_mail_about_an_outcome() -> None:
    outcome = releases.outcome(outcome="rejected", reason=FORGERY)
    about = {"person": FORGERY, "service": releases.service(), "outcome": outcome, "ended": "rejected", "stage": "CAB"}
    again = {"Summary": FORGERY}
    text = render("outcome.md.j2", as_requested=False, rollback=False, again=again, page=MAILED, **about)
    (link,) = [token for token in tokens(text) if token.type == "link_open"]
    assert link.attrs["href"] == "https://airflow.example/dags/x"
    assert not {token.type for token in tokens(text)} & {"image", "html_inline", "html_block", "table_open"}


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize(("taken_back", "unchanged"), [(True, False), (False, True), (False, False)])
def test_no_words_change_the_shape_of_the_mail_to_an_audience(
    rollback: bool, taken_back: bool, unchanged: bool
) -> None:
    def mail(said: str) -> str:
        plan = releases.plan(version=said, previous_version=said)
        ended = {"taken_back": taken_back, "unchanged": unchanged, "overtaken": unchanged, "rollback": rollback}
        return render("outcome_announced.md.j2", audience=said, service=releases.service(), plan=plan, **ended)

    assert shape(mail(FORGERY)) == shape(mail("words"))


@pytest.mark.parametrize("lifted", [False, True])
def test_no_words_change_the_shape_of_the_mail_about_a_stop(lifted: bool) -> None:
    def mail(said: str) -> str:
        about = {"id": "a1", "scope": "retail", "by": "olga", "until": releases.AT}
        stop = EmergencyStop.model_construct(**about, reason=said, incident=said)
        return render("stop.md.j2", stop=stop, lifted=lifted, others=[stop], names=releases.NAMES, page=MAILED)

    assert shape(mail(FORGERY)) == shape(mail("words"))
    assert not BARE_ADDRESS.search(words(mail(FORGERY)).replace("https://airflow.example", ""))


def passed(said: str) -> tuple[EnvironmentPassed, ...]:
    known = Waiver(
        expectation=said,
        suite="performance",
        reason=said,
        by="ben",
        at=releases.AT,
        until=releases.AT + timedelta(days=1),
    )
    return (
        EnvironmentPassed(environment="integration", left_out=said),
        EnvironmentPassed(
            environment="staging",
            tested="1" * 64,
            quality="2" * 64,
            waivers=(known,),
            signed_off=said,
            soaked=timedelta(hours=2),
            cases=CaseRuns(
                environment="staging",
                artifact="a" * 64,
                rows=releases.blob("rows"),
                counts={"passed": 2, "failed": 1},
                unproven=(said,),
            ),
            defects=(
                DefectLine(
                    id="basket-1", title=said, severity="major", environment="staging", version="1.0.0", state="fixed"
                ),
            ),
        ),
    )


def test_a_ballot_says_how_each_environment_was_passed_or_why_it_was_left_out() -> None:
    said = words(ballot(environments=passed("the words")))
    for part in (
        "left out: the words",
        "passed its gate; ran there for 2 hours; the words; waived by Ben Adler (ben) until 2026-11-24 06:17 UTC",
        "Had to be run",
        "basket-1: the words",
        "this release fixes it",
        f"Quality report of staging, SHA-256: {'2' * 64}",
    ):
        assert part in said, part
    assert "how the release passed it" not in words(ballot())
    forged, plain = (ballot(environments=passed(text)) for text in (FORGERY, "words"))
    assert shape(forged) == shape(plain)


def sign_off(said: str) -> str:
    report = releases.quality(releases.failure(expected=said, rows=(said,)))
    tested = EnvironmentTested(
        environment="staging",
        service="bike-shop",
        version="1.1.0",
        release="r",
        bundle="a" * 64,
        quality="2" * 64,
        soak=SoakReport(environment="staging", release="r", since=releases.AT, until=releases.AT, hosts=()),
        requested_by="rita",
        decide_by=releases.AT + timedelta(days=2),
    )
    return render(
        "sign_off.md.j2",
        plan=releases.plan(summary=said, tickets=(said,)),
        service=releases.service(),
        artifact=releases.artifact(),
        report=report,
        waivers=(),
        deployment=releases.deployment(),
        tested=tested,
        board=releases.board(),
        names=releases.NAMES,
        quality_page=PAGE,
    )


def test_who_signs_an_environment_off_reads_all_that_they_need() -> None:
    said = words(sign_off("Sells bikes"))
    for part in (
        "Sign Bike shop 1.1.0 off in staging?",
        "Vote below before 2026-11-25 06:17 UTC.",
        "2 approvals of 3",
        "Ran here",
        "since 2026-11-23 06:17 UTC",
        "Rita Reyes (rita)",
        f"Quality report, SHA-256: {'2' * 64}",
    ):
        assert part in said, part
    assert shape(sign_off(FORGERY)) == shape(sign_off("words"))
    assert not [line for line in sign_off("words").splitlines() if re.search(r"^\|.*[0-9a-f]{64}", line)]


def with_tickets(said: str, link: str = "https://jira.example/browse/SHOP-12") -> str:
    details = (
        Ticket(
            key="SHOP-12", named_by=("request",), found="read", system="jira", title=said, status=said, type=said,
            parent=said, fix_versions=(said,), approved=True, link=link,
        ),
        Ticket(key="SHOP-13", named_by=("request",), found="missing", system="jira", why=said),
        Ticket(key="#7", named_by=("request",), found="unread", system="github", why=said),
    )  # fmt: skip
    return ballot(ticket_details=details)


def test_a_ballot_shows_the_tickets_as_their_system_has_them() -> None:
    said = words(with_tickets("Price bikes"))
    for part in ("Price bikes", "jira.example/browse/SHOP-12", "yes", "not there: Price bikes", "not read"):
        assert part in said, part
    assert shape(with_tickets(FORGERY)) == shape(with_tickets("words"))
    assert "](<https://jira.example/browse/SHOP-12>)" in with_tickets("words")


@pytest.mark.parametrize("link", ["javascript:alert(1)", "https://jira.example/> [x](//evil.example)", "", "https://"])
def test_what_is_no_address_is_no_link(link: str) -> None:
    assert "](<" not in with_tickets("words", link)


def minutes(said: str) -> str:
    at = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    vote = SeatSeen(user="ben", name=said, role=said, choice="Approve", by="ben", comment=said, conditions=said, at=at)
    item = DiscussedItem(
        run="release_bike_shop/r1",
        title="bike-shop 1.1.0",
        digest="2" * 64,
        risk=12,
        seconds=90,
        note=said,
        votes=(vote,),
        open=("cora",),
        demands=(),
        remarks=(Said(user="rita", text=said, at=at),),
        decision=Settled(approved=True, reason=said, at=at),
    )
    met = Minutes(
        board="cab",
        title="Change Advisory Board",
        began_at=at,
        ended_at=at,
        by="ben",
        present=("ben",),
        absent=("dan",),
        items=(item,),
        note=said,
    )
    return render("minutes.md.j2", minutes=met, names={"ben": said, "rita": said})


def remark(said: str) -> str:
    made = Remark(user="ben", text=said, digest="2" * 64)
    item = {"title": "bike-shop 1.1.0", "decide_by": None}
    page = Markdown("<https://airflow.example/plugin/cab>")
    return render("remark.md.j2", person=said, remark=made, item=item, names={"ben": said}, page=page)


@pytest.mark.parametrize("written", [minutes, remark])
def test_what_people_write_at_a_meeting_stays_within_its_quotation(written: Callable[[str], str]) -> None:
    def outside(text: str) -> list[str]:
        return [token.type for token in GITHUB.parse(text) if token.level == 0]

    assert outside(written(FORGERY)) == outside(written("words"))
    leading = ("link_open", "image", "html_inline", "html_block")
    forged, plain = (shape(written(said)) for said in (FORGERY, "words"))
    assert [forged[kind] for kind in leading] == [plain[kind] for kind in leading]
    assert "evil.example" in words(written(FORGERY))


def test_every_template_is_used_by_a_test() -> None:
    assert {path.name for path in Path(TEMPLATES).glob("*.md.j2")} == {
        "tickets.md.j2",
        "ballot.md.j2",
        "environments.md.j2",
        "sign_off.md.j2",
        "outcome.md.j2",
        "outcome_announced.md.j2",
        "plan_approval.md.j2",
        "acceptance.md.j2",
        "acknowledgement.md.j2",
        "case.md.j2",
        "cases.md.j2",
        "cases_waiting.md.j2",
        "changes.md.j2",
        "defects.md.j2",
        "minutes.md.j2",
        "remark.md.j2",
        "quality.md.j2",
        "question.md.j2",
        "risk.md.j2",
        "reminder.md.j2",
        "stop.md.j2",
        "train_ballot.md.j2",
        "waiver.md.j2",
    }
