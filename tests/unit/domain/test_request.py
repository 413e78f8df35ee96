from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from semver import Version

from interlock.domain.catalogue import ChangeType, Prebuilt, Service
from interlock.domain.change.request import ReleaseRequest, form_fields, parse_request, refuse_wrong_artifact
from interlock.domain.errors import RequestRefused
from tests.examples import examples
from tests.unit.domain.samples import book, policy, service

QUESTIONS = [
    {"key": "data", "question": "Is data touched?", "points": 25},
    {"key": "peak", "question": "Is it at peak hours?", "points": 10},
]
POLICY = policy(risk={"questions": QUESTIONS})
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
ASKED: dict[str, Any] = {"ref": "1.1.0", "version": "1.1.0", "summary": "Sell bikes"}


def parsed(**changes: Any) -> ReleaseRequest:
    return parse_request({**ASKED, **changes}, policy=POLICY, now=NOW)


def refused(conf: dict[str, Any]) -> str:
    with pytest.raises(RequestRefused) as error:
        parse_request(conf, policy=POLICY, now=NOW)
    return str(error.value)


def test_a_request_is_read_with_the_forms_defaults() -> None:
    assert parsed() == ReleaseRequest(
        ref="1.1.0",
        version="1.1.0",
        change_type=ChangeType.NORMAL,
        summary="Sell bikes",
        tickets=(),
        risk={"data": False, "peak": False},
        declared_risk=None,
        not_before=None,
        rehearsal=False,
    )


def test_a_whole_request_is_read() -> None:
    request = parsed(
        change_type="emergency",
        summary="  Sell bikes ",
        tickets=["SHOP-12", "#7"],
        risk_data=True,
        risk_peak=False,
        not_before="2026-05-04T22:00:00.500000+02:00",
        declared_risk="high",
        rehearsal=True,
    )
    assert request.declared_risk == "high"
    assert parsed(declared_risk="calculated").declared_risk is None
    assert request.summary == "Sell bikes"
    assert request.tickets == ("SHOP-12", "#7")
    assert request.risk == {"data": True, "peak": False}
    assert request.not_before == datetime(2026, 5, 4, 20, 0, 0, 500000, tzinfo=UTC)
    assert request.rehearsal
    assert parsed(tickets=None).tickets == ()
    assert ReleaseRequest.model_validate_json(request.model_dump_json()) == request


def test_everything_that_is_wrong_is_named_at_once() -> None:
    message = refused(
        {
            "ref": "--upload-pack=x",
            "version": "v1.1.0",
            "change_type": "urgent",
            "tickets": ["12"],
            "risk_data": "yes",
            "risk_weather": True,
            "not_before": "tomorrow",
            "declared_risk": "extreme",
            "rehearsal": None,
        }
    )
    for part in (
        "ref: found '--upload-pack=x'; allowed: The tag, branch or commit to release",
        "version: found 'v1.1.0'; allowed: A semantic version (semver.org) without a leading v, such as 1.4.0 or "
        "2.0.0-rc.1.",
        "change_type: found 'urgent'; allowed: The change type: standard, normal or emergency. It determines the "
        "required approvals.",
        "summary: missing; allowed: The purpose of the release, in one line of 5 to 200 characters.",
        "tickets: found ['12']; allowed: Change tickets such as ABC-123 or #12",
        "risk_data: found 'yes'; allowed: switched on or off (true or false).",
        "risk_weather': not a field of the form; allowed: ref, version, change_type, summary, tickets, risk_data,",
        "not_before: found 'tomorrow'; allowed: The earliest start",
        "rehearsal: found None; allowed: Yes (on, true): the release runs on the test",
        "declared_risk: found 'extreme'; allowed: Your assessment of the risk: calculated",
        "Who can change it: the office.",
    ):
        assert part in message
    assert ".." not in message.replace("ref: ..", "")


@pytest.mark.parametrize(
    "text", ["two\nlines are refused", "a bell \a rings", "right \u202e left", "    \t   ", "half \ud800"]
)
def test_a_summary_is_one_visible_line(text: str) -> None:
    assert "summary: found" in refused({**ASKED, "summary": text})
    assert not accepted_by_the_form("summary", text)
    assert not accepted_by_the_form("ref", text)


@pytest.mark.parametrize(
    ("offset", "allowed"),
    [
        (timedelta(hours=-23), True),
        (timedelta(hours=-25), False),
        (timedelta(days=365), True),
        (timedelta(days=367), False),
    ],
)
def test_an_instant_far_from_now_is_a_slip(offset: timedelta, allowed: bool) -> None:
    conf = {**ASKED, "not_before": (NOW + offset).isoformat()}
    if allowed:
        assert parse_request(conf, policy=POLICY, now=NOW).not_before == NOW + offset
    else:
        assert "not_before: found '" in refused(conf)
        assert "at most one day ago and one year ahead" in refused(conf)


def test_an_instant_needs_a_time_zone() -> None:
    assert "with its time zone" in refused({**ASKED, "not_before": "2026-05-04T22:00:00"})
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    assert parse_request({**ASKED, "not_before": soon}, policy=POLICY).not_before is not None


def test_what_was_found_is_shortened() -> None:
    assert len(refused({**ASKED, "summary": "x" * 100_000, "y" * 100_000: 1})) < 1500


# --- the form


def test_the_form_has_its_fields_in_order_and_sections() -> None:
    fields = form_fields(POLICY)
    assert [(key, field["section"]) for key, field in fields.items()] == [
        ("ref", "What is released"),
        ("version", "What is released"),
        ("change_type", "Change"),
        ("summary", "Change"),
        ("tickets", "Change"),
        ("risk_data", "Risk"),
        ("risk_peak", "Risk"),
        ("declared_risk", "Risk"),
        ("not_before", "When"),
        ("rehearsal", "When"),
    ]
    for field in fields.values():
        assert field["title"]
        assert field["description"]
        Draft202012Validator.check_schema(field)
        if "default" in field:
            assert Draft202012Validator(field).is_valid(field["default"])
    assert [key for key, field in fields.items() if "default" not in field] == ["ref", "version", "summary"]
    assert fields["change_type"]["values_display"]["normal"] == "normal: a board votes"
    assert fields["change_type"]["values_display"]["standard"] == "standard: pre-authorised; no board votes"


def test_the_form_of_a_service_says_in_words_who_decides() -> None:
    cab = {"title": "Change Advisory Board", "members": ["ben", "cora", "dan"], "quorum": {"approvals": 2}}
    shop = {"title": "Shop board", "members": ["ann"], "quorum": {"approvals": 1}}
    people = book({"cab": cab, "ecab": {**cab, "title": "Emergency board"}, "shop": shop})
    own = service(policy={"change_types": {"emergency": {"further_boards": ["shop"]}}})
    assert form_fields(POLICY, people, own)["change_type"]["values_display"] == {
        "standard": "standard: pre-authorised; no board votes",
        "normal": "normal: a functional approver accepts it, the Change Advisory Board votes; 2 of 3",
        "emergency": "emergency: a functional approver accepts it, "
        "the Emergency board and Shop board vote; 2 of 3, 1 of 1",
    }
    what_it_takes = {key: {**field, "values_display": None} for key, field in form_fields(POLICY, people, own).items()}
    assert what_it_takes == {key: {**field, "values_display": None} for key, field in form_fields(POLICY).items()}


def test_no_title_of_the_form_is_jargon_and_each_switch_says_what_yes_means() -> None:
    fields = form_fields(POLICY)
    assert fields["ref"]["title"] == "What to release"
    assert "tag, branch or commit" in fields["ref"]["description"]
    switches = [field for field in fields.values() if field["type"] == "boolean"]
    assert len(switches) == 3
    assert all("yes" in field["description"].lower() for field in switches)


def accepted_by_the_form(key: str, value: object) -> bool:
    return bool(Draft202012Validator(form_fields(POLICY)[key], format_checker=FormatChecker()).is_valid(value))


def accepted(key: str, value: object) -> bool:
    try:
        parse_request({**ASKED, key: value}, policy=POLICY, now=NOW)
    except RequestRefused:
        return False
    return True


def either(*choices: str) -> st.SearchStrategy[str]:
    """Text that is near to what a field takes."""
    return st.lists(st.sampled_from(choices) | st.characters(), max_size=12).map("".join)


anything = st.none() | st.booleans() | st.integers() | st.text(max_size=30) | st.lists(st.text(max_size=5), max_size=3)
refs = either("a", "1.1.0", "/", ".", "..", "-", "@", "{", "@{", ".lock", "~", "^", ":", "?", "*", "[", "\\", " ", "\n")
near: dict[str, st.SearchStrategy[Any]] = {
    "ref": refs,
    "version": either("1", "0", "01", ".", "-", "+", "rc", "1.2.3", "\n", "\u0661"),
    "change_type": st.sampled_from(["standard", "normal", "emergency", "Normal", "", "normal\n"]),
    "summary": either("word", " ", "\n", "\t", "\u2028", "\u202e", "x" * 60),
    "tickets": st.lists(either("ABC-", "#", "1", "0", "-", "\n"), max_size=3) | st.just(["#1"] * 2),
    "risk_data": st.sampled_from([True, False, 0, 1, "true"]),
    "not_before": st.datetimes(datetime(2026, 5, 4), datetime(2027, 5, 4)).map(lambda at: f"{at.isoformat()}Z")
    | st.sampled_from(["2026-05-31T10:00:00z", "2026-06-31T10:00:00Z", "2026-06-30T10:00:00-23:59", "2026-06-30"])
    | either("2026-05-05", "T", "10:00:00", ".5", "Z", "+02:00", "\n"),
    "declared_risk": st.sampled_from(["calculated", "low", "medium", "high", "High", "", 50, False]),
    "rehearsal": st.sampled_from([True, False, 0, 1, "false"]),
}


@pytest.mark.parametrize("key", list(near))
@given(st.data())
@examples(60)
def test_form_and_reading_take_the_same(key: str, data: st.DataObject) -> None:
    value = data.draw(near[key] | anything)
    assert accepted(key, value) == accepted_by_the_form(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ref", "feature/x"),
        ("ref", "a" * 40),
        ("version", "2.0.0-rc.1+7"),
        ("summary", "x" * 200),
        ("tickets", ["#1", "A_B-2"]),
        ("not_before", "2026-06-30T10:00:00.123456Z"),
    ],
)
def test_what_is_meant_to_be_taken_is(key: str, value: object) -> None:
    assert accepted(key, value)
    assert accepted_by_the_form(key, value)


@given(refs.filter(lambda ref: ref and "\0" not in ref and not ref.startswith("-") and ref.isprintable()))
@examples(60)
@example("@")
@example("a/.b")
@example("a.lock/b")
@example("a..b")
@example("a/")
def test_a_ref_is_what_git_takes_for_one(ref: str) -> None:
    asked = subprocess.run(["git", "check-ref-format", "--allow-onelevel", ref], check=False)
    assert accepted("ref", ref) == (asked.returncode == 0)


@given(near["version"])
def test_a_version_is_what_the_semver_package_takes_for_one(text: str) -> None:
    assert accepted("version", text) == (Version.is_valid(text) and len(text) <= 64)


def prebuilt() -> Service:
    """A service whose own pipeline builds it."""
    build = Prebuilt(tool="prebuilt", store="oci", connection="shop_artifacts", artifact="shop/web")
    return service().model_copy(update={"build": build})


def test_an_artifact_is_asked_for_where_a_pipeline_builds_it_and_nowhere_else() -> None:
    fields = form_fields(POLICY, service=prebuilt())
    assert "artifact" not in form_fields(POLICY)
    assert "default" not in fields["artifact"], "it has to be filled in"
    assert re.search(fields["artifact"]["pattern"], f"sha256:{'a' * 64}")
    assert [*fields][:3] == ["ref", "version", "artifact"]


@pytest.mark.parametrize("wrong", ["a" * 64, f"sha256:{'A' * 64}", f"sha256:{'a' * 63}", "latest", "", 7])
def test_an_artifact_is_named_by_its_digest_alone(wrong: object) -> None:
    with pytest.raises(RequestRefused, match="artifact: found"):
        parsed(artifact=wrong)


def test_a_release_names_an_artifact_exactly_if_its_pipeline_builds_it() -> None:
    named, unnamed = parsed(artifact=f"sha256:{'a' * 64}"), parsed()
    refuse_wrong_artifact(named, prebuilt(), POLICY)
    refuse_wrong_artifact(unnamed, service(), POLICY)
    with pytest.raises(RequestRefused, match="names no artifact, and its pipeline builds the artifact"):
        refuse_wrong_artifact(unnamed, prebuilt(), POLICY)
    with pytest.raises(RequestRefused, match="names an artifact, but bike-shop is built here"):
        refuse_wrong_artifact(named, service(), POLICY)


def test_a_request_without_an_artifact_is_recorded_as_before_there_were_any() -> None:
    assert "artifact" not in parsed().model_dump(mode="json")
