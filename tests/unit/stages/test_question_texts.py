"""What a question binds to: its body, as it is asked, names one digest, once."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from interlock.adapters.templates import render
from interlock.domain.catalogue import Person, WaiverRule
from interlock.domain.paths import quality_page
from interlock.stages.approvals.people import ANSWER_PARAMS, question
from tests.factories import releases

BEN = Person(user="ben", name="Ben Adler", email="ben@example.com", role="operations")
DIGEST = "f" * 64
COMMON = {
    "plan": releases.plan(),
    "service": releases.service(),
    "names": releases.NAMES,
    "report": releases.quality(),
    "quality_page": quality_page("release_bike_shop", "manual__1"),
    "answer_by": releases.AT + timedelta(days=2),
}


def bodies() -> dict[str, str]:
    return {
        "plan": render("plan_approval.md.j2", **COMMON),
        "acceptance": render(
            "acceptance.md.j2", artifact=releases.artifact(), deployment=releases.deployment(), **COMMON
        ),
        "ballot": render(
            "ballot.md.j2",
            rollout=releases.rollout(),
            strategy=(),
            board=releases.board(),
            acceptance=releases.decision("acceptance"),
            answered_yes=(),
            calendars=(),
            overrides=(),
            **COMMON,
        ),
        "waiver": render(
            "waiver.md.j2",
            failure=releases.failure(),
            rule=WaiverRule(roles=("operations",), longest=timedelta(days=14)),
            **{**COMMON, "report": releases.quality(releases.failure())},
        ),
        "training": render("acknowledgement.md.j2", role="service-desk", material="Read.", digest="1" * 64, **COMMON),
    }


def test_each_question_names_the_digest_that_it_binds_to_once_at_its_end() -> None:
    for name, body in bodies().items():
        asked = question("Release?", body, DIGEST, [BEN])["body"]
        assert asked.count(DIGEST) == 1, name
        last = asked.splitlines()[-1]
        assert DIGEST in last, name
        assert "exactly this" in last, name


def test_the_question_about_a_waiver_calls_things_as_people_do() -> None:
    text = bodies()["waiver"]
    assert "| Suite | Response times and errors |" in text
    assert "performance" not in text
    assert text.splitlines()[0].startswith("**Waive a failed expectation of Bike shop 1.1.0?**")
    assert "valid for 14 days at most" in text
    assert [line for line in text.splitlines() if line.startswith("### ")] == ["### Quality", "### What you decide on"]


@pytest.mark.parametrize("question_of", ["acceptance", "ballot"])
def test_who_decides_reads_that_a_build_was_not_isolated(question_of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not isolated" not in bodies()[question_of]
    report = releases.quality().model_copy(update={"not_isolated": ("the build: not isolated: no bubblewrap",)})
    monkeypatch.setitem(COMMON, "report", report)
    assert "**Not isolated.** These steps ran without isolation" in bodies()[question_of]
    assert "- the build: not isolated: no bubblewrap" in bodies()[question_of]


@pytest.mark.parametrize("question_of", ["acceptance", "ballot"])
def test_who_decides_reads_what_was_not_judged(question_of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not evaluated" not in bodies()[question_of]
    report = releases.quality().model_copy(update={"notes": ("Components are unknown: app.jar.",)})
    monkeypatch.setitem(COMMON, "report", report)
    assert "Not evaluated: Components are unknown: app.jar." in bodies()[question_of]


def test_airflows_form_marks_no_field_as_missing_before_anything_is_written() -> None:
    """It shows the title of a question in red while a field of a type without null is empty."""
    for field in (ANSWER_PARAMS["comment"], ANSWER_PARAMS["conditions"]):
        assert "null" in field.schema["type"]
        assert field.resolve() == ""
    assert ANSWER_PARAMS["confirmed"].schema["type"] == "boolean"
    assert ANSWER_PARAMS["confirmed"].resolve() is False, "who answers confirms it, and not the form"


@pytest.mark.parametrize("name", ["acceptance", "ballot", "training"])
def test_a_digest_stands_in_no_table_which_could_not_break_it(name: str) -> None:
    """A digest in a cell makes the table wider than the page, and the text beside it is cut off."""
    assert not [line for line in bodies()[name].splitlines() if re.search(r"^\|.*[0-9a-f]{64}", line)]


def test_no_hidden_character_of_a_test_case_or_a_commit_gets_into_the_title_of_a_question() -> None:
    asked = question("Run \u202eecafeb\u202c\u200b the basket", "Do it.", DIGEST, [BEN])
    assert asked["subject"] == "Run ecafeb the basket", "a title has no markup that could keep them apart"
