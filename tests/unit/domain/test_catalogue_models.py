from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from interlock.domain.catalogue import BoardBook, Duration, Policy, Quorum, Service, Thresholds, Wave
from interlock.domain.catalogue.values import in_words
from tests.unit.domain.samples import FLOWS, policy, service, service_data

PEOPLE = [
    {"user": "ben", "name": "Ben", "email": "ben@example.com", "role": "operations"},
    {"user": "cora", "name": "Cora", "email": "cora@example.com", "role": "security"},
]
FAY = {"user": "fay", "name": "Fay", "email": "fay@example.com", "role": "business"}
CAB = {"title": "CAB", "members": ["ben", "cora"], "quorum": {"approvals": 1}}


def away(member: str, delegate: str, first: str = "2026-12-01", until: str = "2026-12-14") -> dict[str, str]:
    return {"for": member, "to": delegate, "from": first, "until": until}


def with_value(data: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    at: Any = changed
    *way, last = path.split(".")
    for key in way:
        at = at.setdefault(key, {})
    at[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        pytest.param("health.path", "//evil.example/", "pattern", id="another host"),
        ("health.path", "/a b", "pattern"),
        ("health.path", "health", "pattern"),
        ("health.version_key", "", "at least 1"),
        ("title", "two\nlines", "pattern"),
        ("title", "   ", "at least 1"),
        ("tier", 5, "less than or equal to 4"),
        ("build.output", "../elsewhere", "inside the checkout"),
        ("build.output", "/etc", "pattern"),
        ("build.environment", ["AIRFLOW__CORE__FERNET_KEY"], "platform"),
        ("build.environment", ["aws_secret_access_key"], "platform"),
        ("build.environment", ["NO=NO"], "pattern"),
        ("build.tool", "command", "needs build, the command to run"),
        ("build.time_limit", "10 minutes", "ISO 8601"),
        ("build.time_limit", 600, "ISO 8601"),
        ("build.time_limit", "PT0S", "longer than zero"),
        ("build.time_limit", "P9999D", "at most 364 days"),
        ("environments.production.hosts", {}, "at least 1"),
        ("environments.production.hosts", {"Environment": "prod*"}, "pattern"),
        ("environments.production.hosts", {"Environment": "test"}, "test and production may select the same hosts"),
        ("environments.production.hosts", {"Service": "bike-shop"}, "test and production may select the same hosts"),
        ("environments.production.waves", [], "at least 1"),
        ("environments.production.waves", [1], "the last wave must be 100%"),
        ("environments.production.waves", ["50%", "25%", "100%"], "larger than the one before"),
        ("environments.production.waves", [2, 2, "100%"], "larger than the one before"),
        ("environments.production.waves", ["1.5%", "100%"], "a wave is a number of hosts"),
        ("environments.production.waves", [True, "100%"], "a wave is a number of hosts"),
        ("environments.production.waves", [None], "a wave is a number of hosts"),
        ("environments.production.waves", [{"hosts": 1, "percent": 2}, "100%"], "either a number of hosts or"),
        ("environments.production.waves", ["101%"], "less than or equal to 100"),
        ("environments.production.waves", [0, "100%"], "greater than or equal to 1"),
        ("environments.production.deploy_root", "/", "pattern"),
        ("environments.production.deploy_root", ".", "pattern"),
        ("environments.production.deploy_root", "-rf", "pattern"),
        ("environments.production.deploy_root", "srv/../..", "pattern"),
        ("environments.production.deploy_root", "srv//shop", "pattern"),
        ("environments.production.missing", "create", "needs launch"),
        ("environments.test.min_healthy", "50%", "50% of 1 hosts leaves no host that can be changed"),
        ("environments.production.min_healthy_per_zone", 3, "3 leaves no host of a zone"),
        ("environments.production.min_healthy_per_zone", "100%", "100% leaves no host of a zone"),
        ("build.output", ".", "must not be the checkout itself"),
        ("build.output", "./.", "must not be the checkout itself"),
        ("build.coverage", "./", "must not be the checkout itself"),
        ("load", {"paths": ["/", "/a"], "requests": 1}, "1 are too few to ask each of 2 paths"),
        ("environments.test", None, "valid dictionary"),
        ("environments", {}, "environments lacks test and production"),
        ("functional_approvers", [], "at least 1"),
        ("functional_approvers", ["fay", "fay"], "fay is named twice"),
        ("audiences", [{"name": "a", "title": "A", "email": ["a@b", "x\r\nBcc: y@z"]}], "pattern"),
        ("audiences", [{"name": "a", "title": "A", "email": ["a@b"]}] * 2, "a is named twice"),
        ("training", {"material": "docs/t.md", "acknowledge": {"desk": []}}, "at least 1"),
        ("surprise", 1, "Extra inputs"),
    ],
)
def test_a_service_that_cannot_be_right_is_refused(path: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Service.model_validate(with_value(service_data(), path, value))


def launch(*addresses: str) -> dict[str, Any]:
    return {"image_id": "ami-12345678", "instance_type": "t3.micro", "private_ip_addresses": addresses}


@pytest.mark.parametrize(("addresses", "said"), [(("10.0.0.256",), "IPv4"), (("10.0.0.1",) * 2, "named twice")])
def test_an_address_to_launch_with_is_one_address(addresses: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Service.model_validate(with_value(service_data(), "environments.test.launch", launch(*addresses)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("environments.production.waves", [1, "25%", "100 %"]),
        ("environments.production.waves", [{"percent": 100}]),
        ("environments.production.deploy_root", "/opt/.bike-shop/v1"),
        ("environments.production.hosts", {"Service": "x", "Environment": "production"}),
        ("environments.test.launch", launch("10.0.0.1", "10.0.0.2")),
        ("build", {"tool": "command", "build": ["./build.sh"], "output": "out", "environment": ["GOFLAGS"]}),
        ("health.path", "/"),
    ],
)
def test_a_service_that_is_right_is_taken(path: str, value: object) -> None:
    taken = Service.model_validate(with_value(service_data(), path, value))
    assert Service.model_validate_json(taken.model_dump_json()) == taken


def test_a_wave_reads_for_people() -> None:
    assert [str(Wave.model_validate(wave)) for wave in (1, 2, "25%")] == ["1 host", "2 hosts", "25 %"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("change_types", {"normal": {}}, "change_types lacks standard, emergency"),
        ("thresholds.max_p95_ms", float("inf"), "finite"),
        ("thresholds.min_line_coverage_percent", float("nan"), "finite"),
        ("thresholds.allowed_licences", [], "at least 1"),
        ("thresholds.allowed_licences", ["MIT "], "pattern"),
        ("risk.points_by_tier", {"1": 20}, "points_by_tier lacks tier 2, 3, 4"),
        ("risk.points_by_tier", {"1": -20, "2": 0, "3": 0, "4": 0}, "greater than or equal to 0"),
        ("risk.questions", [{"key": "a", "question": "Really?", "points": 1}] * 2, "the key a is used twice"),
        ("risk.questions", [{"key": "a", "question": "Really?\nYes.", "points": 1}], "pattern"),
        ("time_limits.acceptance", "-PT1H", "ISO 8601"),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused(path: str, value: object, said: str) -> None:
    data = {"name": "Policy", "owner": "the office", "change_types": FLOWS}
    with pytest.raises(ValidationError, match=said):
        Policy.model_validate(with_value(data, path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("people", [*PEOPLE, PEOPLE[0] | {"email": "other@example.com"}], "ben is listed twice"),
        pytest.param(
            "people",
            [*PEOPLE, PEOPLE[0] | {"user": "ben2", "email": "BEN@example.com"}],
            "ben@example.com is the address of two",
            id="one person under two names",
        ),
        ("senior_management", ["maya"], "maya is not listed under people"),
        ("boards.cab.members", ["ben", "zoe"], "zoe is not listed under people"),
        ("boards.cab.members", ["ben", "ben"], "ben is named twice"),
        ("boards.cab.members", [], "at least 1"),
        ("boards.cab.quorum.approvals", 0, "greater than or equal to 1"),
        ("rules", [{"name": "a", "board": "cab"}] * 2, "board rules: a is named twice"),
        ("rules", [{"name": "a"}], "either a board or members"),
        ("rules", [{"name": "a", "board": "cab", "members": ["ben"]}], "either a board or members"),
        ("rules", [{"name": "a", "members": ["ben"]}], "members need a quorum"),
        ("rules", [{"name": "a", "members": ["zoe"], "quorum": {}}], "zoe is not listed under people"),
        ("delegates", [away("ben", "ben")], "ben cannot be their own delegate"),
        ("delegates", [away("ben", "zoe")], "zoe is not listed under people"),
        ("delegates", [away("ben", "cora", until="2026-11-30")], "before it begins"),
        ("delegates", [away("ben", "cora", until="2026-02-30")], "day is out of range"),
        (
            "delegates",
            [away("ben", "fay"), away("cora", "fay", "2026-12-14")],
            "fay represents two members at the same time",
        ),
        (
            "delegates",
            [away("ben", "fay"), away("ben", "cora", "2026-12-14")],
            "ben has two delegates at the same time",
        ),
    ],
)
def test_a_board_that_cannot_be_right_is_refused(path: str, value: object, said: str) -> None:
    data = {"people": [*PEOPLE, FAY], "boards": {"cab": CAB}, "senior_management": ["cora"]}
    with pytest.raises(ValidationError, match=said):
        BoardBook.model_validate(with_value(data, path, value))


def test_people_are_found_by_their_user_name() -> None:
    book = BoardBook.model_validate({"people": PEOPLE, "boards": {"cab": CAB}, "senior_management": []})
    assert book.person("cora").name == "Cora"
    with pytest.raises(KeyError, match="zoe is not listed under people"):
        book.person("zoe")


@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=364)))
def test_a_duration_comes_back_as_it_was(duration: timedelta) -> None:
    adapter: TypeAdapter[timedelta] = TypeAdapter(Duration)
    assert adapter.validate_json(adapter.dump_json(duration), strict=True) == duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P2W", timedelta(weeks=2)),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("PT48H", timedelta(days=2)),
        ("PT90M", timedelta(minutes=90)),
    ],
)
def test_a_duration_is_read_as_iso_8601(text: str, expected: timedelta) -> None:
    assert TypeAdapter(Duration).validate_python(text) == expected


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=2), "2 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(minutes=1, seconds=30), "90 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(milliseconds=500), "0.5 seconds"),
    ],
)
def test_a_duration_is_said_in_the_largest_unit_that_it_is_a_whole_number_of(length: timedelta, words: str) -> None:
    assert in_words(length) == words


@pytest.mark.parametrize("before", ["PT48H", "P3D"])
def test_nobody_is_reminded_before_they_are_asked(before: str) -> None:
    with pytest.raises(ValidationError, match="a reminder cannot be sent before the vote starts"):
        Quorum(approvals=1, deadline=timedelta(days=2), remind_before=TypeAdapter(Duration).validate_python(before))


@pytest.mark.parametrize("text", ["P", "PT", "P1DT", "1D", "P1Y", "P1M", "PT1H\n", "pt1h", "P-1D", "PT1", "P1W2D", ""])
def test_what_only_looks_like_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)


def test_each_threshold_says_in_its_name_which_way_is_tighter() -> None:
    assert all(key.startswith(("min_", "max_", "allowed_")) for key in Thresholds.model_fields)


def test_models_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        service().name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        policy().thresholds.min_tests = 0  # type: ignore[misc]


def environments(**between: Any) -> dict[str, Any]:
    """Return the environments of the sample, and some between test and production."""
    mine = copy.deepcopy(service_data()["environments"])
    for name, more in between.items():
        mine[name] = {"hosts": {"Environment": name}, "count": 1, "deploy_root": "opt/bike-shop", **more}
    return mine


def suites(*names: str) -> dict[str, Any]:
    return {name: {"command": ["pytest"], "junit": ["*.xml"]} for name in names}


SIGN_OFF = {"title": "User acceptance testers", "people": ["ben", "cora"], "quorum": 2}


def test_environments_between_test_and_production_are_in_order() -> None:
    between = environments(
        staging={"after": ["uat", "integration"], "suites": ["api"], "soak": "PT30M", "sign_off": SIGN_OFF},
        uat={"after": ["test"], "thresholds": {"max_p95_ms": 100}},
        integration={"after": ["test"]},
    )
    found = service(environments=between, suites=suites("api", "ui"))
    assert found.path == ("integration", "uat", "staging")
    assert [found.is_sandbox(one) for one in ("test", *found.path, "production", "elsewhere")] == [True] * 4 + [
        False
    ] * 2
    assert service().path == ()


def test_a_sign_off_by_people_is_in_the_rules_as_before_there_were_roles() -> None:
    between = environments(staging={"after": ["test"], "sign_off": SIGN_OFF})
    found = service(environments=between, suites=suites("api")).model_dump(mode="json")
    assert found["environments"]["staging"]["sign_off"] == {**SIGN_OFF, "within": "P3D"}


def test_fields_of_a_path_do_not_change_the_digest_of_a_service_without_one() -> None:
    for environment in service().model_dump(mode="json")["environments"].values():
        assert not environment.keys() & {"after", "suites", "load", "thresholds", "soak", "sign_off"}


@pytest.mark.parametrize(
    ("between", "said"),
    [
        ({"staging": {}}, "staging does not say after which environments"),
        ({"staging": {"after": ["uat"]}}, "staging comes after uat; allowed: test "),
        ({"staging": {"after": ["production"]}}, "staging comes after production; allowed: test"),
        ({"staging": {"after": ["staging"]}}, "staging comes after staging"),
        ({"staging": {"after": ["test", "test"]}}, "twice"),
        ({"uat": {"after": ["staging"]}, "staging": {"after": ["uat"]}}, "come after each other"),
        ({"staging": {"after": ["test"], "suites": ["ui"]}}, "names the suites ui; allowed: api"),
        ({"staging": {"after": ["test"], "suites": []}}, "at least 1"),
        ({"staging": {"after": ["test"], "on_failure": "ask"}}, "staging is changed all at once"),
        ({"staging": {"after": ["test"], "sign_off": {**SIGN_OFF, "quorum": 3}}}, "3 approvals of 2 people"),
        ({"staging": {"after": ["test"], "sign_off": {"title": "Testers"}}}, "name people, or roles of board.yaml"),
        ({"staging": {"after": ["test"], "sign_off": {"title": "T", "roles": ["qa", "qa"]}}}, "named twice"),
        ({"staging": {"after": ["test"], "hosts": {"Environment": "production"}}}, "may select the same hosts"),
        ({"sta_ging": {"after": ["test"]}}, "pattern"),
    ],
)
def test_an_environment_that_would_not_be_proven_is_refused(between: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        service(environments=environments(**between), suites=suites("api"))


def test_an_environment_without_hosts_is_on_the_path_and_has_no_host_to_change() -> None:
    without = {"security": {"after": ["test"], "sign_off": SIGN_OFF}, "lab": {"after": ["uat"], "suites": ["api"]}}
    between = environments(uat={"after": ["security"]}, staging={"after": ["lab"]})
    found = service(environments=between, without_hosts=without, suites=suites("api"))
    assert found.path == ("security", "uat", "lab", "staging")
    assert not found.is_sandbox("security"), "nobody gets access to hosts for it"
    assert "without_hosts" not in service().model_dump(mode="json"), "the digest of other services stays as it is"


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ({"lab": {"after": ["test"]}}, "lab proves nothing: give it suites, a sign_off, or test cases"),
        ({"lab": {"suites": ["api"]}}, "Field required"),
        ({"lab": {"after": ["uat"], "suites": ["api"]}}, "lab comes after uat; allowed: test"),
        ({"lab": {"after": ["test"], "suites": ["ui"]}}, "lab names the suites ui; allowed: api"),
        ({"production": {"after": ["test"], "suites": ["api"]}}, "production is an environment with hosts"),
        ({"lab": {"after": ["lab"], "suites": ["api"]}}, "lab comes after lab"),
        *(
            ({"lab": {"after": ["test"], "suites": ["api"], key: value}}, "Extra inputs are not permitted")
            for key, value in {
                "hosts": {"Service": "bike-shop"},
                "load": {"paths": ["/"]},
                "soak": "PT1H",
                "data": {"command": ["true"]},
                "count": 1,
                "ssh": "interlock_test_hosts",
                "waves": ["100%"],
            }.items()
        ),
    ],
)
def test_what_makes_no_sense_without_hosts_is_refused(without: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        service(without_hosts=without, suites=suites("api"))


@pytest.mark.parametrize("name", ["test", "production"])
@pytest.mark.parametrize("field", [{"after": ["test"]}, {"soak": "PT1H"}, {"sign_off": SIGN_OFF}, {"suites": ["api"]}])
def test_test_comes_first_and_production_last(name: str, field: dict[str, Any]) -> None:
    changed = environments()
    changed[name] |= field
    with pytest.raises(ValidationError, match=f"{name} cannot have {next(iter(field))}"):
        service(environments=changed, suites=suites("api"))


def test_every_environment_but_production_may_have_data() -> None:
    data = {"data": {"command": ["./fill"]}}
    changed = environments(staging={"after": ["test"], **data})
    changed["test"] |= data
    assert service(environments=changed, suites=suites("api")).environments["test"].data is not None
    changed["production"] |= data
    with pytest.raises(ValidationError, match="production cannot have data"):
        service(environments=changed, suites=suites("api"))


def test_an_environment_without_suites_is_refused() -> None:
    with pytest.raises(ValidationError, match="staging proves nothing"):
        service(environments=environments(staging={"after": ["test"]}), suites={})
