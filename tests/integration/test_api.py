"""The API for programs on a real Airflow: who may read what, pages of a list, and errors as problem details."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import PLAN_MADE, RELEASE_ENDED, RELEASE_REQUESTED, VERSION_MARKED_BAD
from tests.factories import releases
from tests.integration.conftest import own_console
from tests.integration.console_airflow import PEOPLE, RELEASE, ROOT, RUN_ID
from tests.integration.console_server import Console

MEASURES = tuple(
    f"/interlock/api/v1/{path}" for path in ("measures", "measures/releases/releases", "measures.csv", "metrics")
)
BOARD, QUESTIONS, NEEDS_ME, DELIVERIES = (
    f"/interlock/api/v1/{name}" for name in ("board", "questions", "needs-me", "deliveries")
)
TIMELINE = "/interlock/api/v1/timeline?since=2026-11-01T00:00:00Z&until=2027-01-31T00:00:00Z"
EXPLANATION = f"/interlock/api/v1/dags/{RELEASE}/dagRuns/{RUN_ID}/explanation"
MAY_READ = {name for name, roles in PEOPLE.items() if roles} - {"board_clerk"}


console = own_console


def get(console: Console, user: str, path: str, **params: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {console.token(user)}"}
    return httpx.get(console.base + path, headers=headers, params=params or None, timeout=60)


def board(console: Console, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = get(console, "rita", BOARD, **params).raise_for_status().json()
    return found


@pytest.mark.parametrize("user", PEOPLE)
def test_each_route_is_for_those_who_may_read_what_it_says(console: Console, user: str) -> None:
    for route in (BOARD, QUESTIONS, NEEDS_ME, EXPLANATION, TIMELINE, DELIVERIES):
        answer = get(console, user, route)
        if user in MAY_READ:
            assert answer.status_code == 200, answer.text
        else:
            assert_problem(answer, 403)
    if user in MAY_READ:
        assert [one["service"] for one in board(console)["services"]] == ["bike-shop"]


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert problem["status"] == status
    assert problem["detail"]
    return problem


@pytest.mark.parametrize("path", MEASURES)
@pytest.mark.parametrize("user", PEOPLE)
def test_the_measures_are_for_those_who_may_read_runs(console: Console, user: str, path: str) -> None:
    tell(console)
    answer = get(console, user, path)
    if user in MAY_READ:
        assert answer.status_code == 200, answer.text
    else:
        assert_problem(answer, 403)


@pytest.mark.parametrize("path", MEASURES)
def test_who_is_logged_out_gets_no_measures(console: Console, path: str) -> None:
    assert_problem(httpx.get(console.base + path, timeout=60), 401)


def test_a_figure_opens_into_the_releases_that_it_counts(console: Console) -> None:
    tell(console)
    figures = {one["key"]: one for one in get(console, "rita", MEASURES[0]).json()["figures"]}
    found = get(console, "rita", MEASURES[1]).json()
    assert figures["releases"]["value"] == found["total_entries"] == len(found["releases"])
    assert f"{RELEASE}/earlier" in {one["run"] for one in found["releases"]}
    assert get(console, "rita", MEASURES[1], service="till").json()["total_entries"] == 0
    assert get(console, "rita", MEASURES[1], owner="=1+1").json()["total_entries"] == 0
    assert get(console, "rita", MEASURES[1], owner="the bike shop's development team").json()["releases"]
    problem = assert_problem(get(console, "rita", "/interlock/api/v1/measures/luck/releases"), 404)
    assert "change_lead_time" in problem["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": "2026-01-01T00:00:00"},
        {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"since": "2000-01-01T00:00:00Z"},
    ],
    ids=["no time zone", "no time in it", "too long"],
)
def test_a_span_that_cannot_be_measured_is_refused(console: Console, wrong: dict[str, str]) -> None:
    assert "since" in assert_problem(get(console, "rita", MEASURES[0], **wrong), 422)["detail"]


def test_the_measures_are_a_table_and_gauges(console: Console) -> None:
    tell(console)
    table = list(csv.reader(io.StringIO(get(console, "rita", MEASURES[2]).text)))
    assert table[0][:3] == ["measure", "unit", "value"]
    assert {"Change lead time", "Backlog"} <= {row[0] for row in table if row}
    gauges = get(console, "rita", MEASURES[3])
    assert gauges.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE interlock_change_lead_time_seconds gauge" in gauges.text
    assert re.search(r'^interlock_releases\{service="bike-shop"\} \d+\.0$', gauges.text, re.MULTILINE)


def planned(start: datetime) -> dict[str, Any]:
    found: dict[str, Any] = releases.plan(not_before=start).to_xcom()
    return found


def timeline(console: Console, **params: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    span = {"since": (now - timedelta(days=30)).isoformat(), "until": (now + timedelta(days=60)).isoformat()}
    found: dict[str, Any] = (
        get(console, "rita", TIMELINE.partition("?")[0], **{**span, **params}).raise_for_status().json()
    )
    return found


def test_the_timeline_has_what_was_what_is_and_what_is_planned(console: Console) -> None:
    tell(console)
    now = datetime.now(UTC).replace(microsecond=0)
    with console.ledger() as ledger:
        ledger.append(
            release_chain(RELEASE, RUN_ID), PLAN_MADE, planned(now + timedelta(days=3)), actor="task", key="planned"
        )
        late = {"run": f"{RELEASE}/late", "service": "bike-shop", "version": "1.0.5", "change_type": "normal"}
        ledger.append(INSTALLATION, RELEASE_ENDED, {**late, "outcome": "rejected"}, actor="task", key="late/ended")
        start = planned(now - timedelta(hours=1))
        ledger.append(release_chain(RELEASE, "late"), PLAN_MADE, start, actor="task", key="planned")
    found = timeline(console)
    (lane,) = found["lanes"]
    assert (lane["key"], found["total_entries"]) == ("bike-shop", 1)
    bars = {one["id"]: one for one in lane["bars"]}
    ended, under_way = bars[f"{RELEASE}/late"], bars[f"{RELEASE}/{RUN_ID}"]
    assert (ended["title"], ended["state"]) == ("bike-shop 1.0.5: rejected", "rejected")
    assert datetime.fromisoformat(ended["planned"]) == now - timedelta(hours=1)
    assert (under_way["kind"], under_way["state"]) == ("release", "asks")
    assert under_way["path"].endswith("/plugin/release")
    assert datetime.fromisoformat(bars[f"{RELEASE}/{RUN_ID}/start"]["start"]) == now + timedelta(days=3)
    assert {one["kind"] for one in found["everywhere"]} <= {"freeze", "window", "maintenance", "event", "holiday"}
    assert timeline(console, name="till")["lanes"] == []
    assert [one["key"] for one in timeline(console, by="environment")["lanes"]][-1] == "production"
    (owner,) = timeline(console, by="owner")["lanes"]
    assert {one["id"] for one in owner["bars"]} >= {*bars}


@pytest.mark.parametrize(
    "wrong",
    [{"since": "2026-01-01T00:00:00"}, {"until": "2020-01-01T00:00:00Z"}, {"until": "2040-01-01T00:00:00Z"}],
    ids=["no time zone", "no time in it", "too long"],
)
def test_a_time_that_cannot_be_shown_is_refused(console: Console, wrong: dict[str, str]) -> None:
    asked = {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z", **wrong}
    assert_problem(get(console, "rita", TIMELINE.partition("?")[0], **asked), 422)


def test_a_run_that_airflow_does_not_have_is_not_explained(console: Console) -> None:
    problem = assert_problem(get(console, "rita", EXPLANATION.replace(RUN_ID, "none")), 404)
    assert "Airflow has no run none" in problem["detail"]
    assert_problem(get(console, "nora", EXPLANATION.replace(RELEASE, "nightly")), 403)


@pytest.mark.parametrize("route", [BOARD, QUESTIONS, NEEDS_ME, EXPLANATION, TIMELINE])
def test_who_is_logged_out_gets_nothing(console: Console, route: str) -> None:
    assert_problem(httpx.get(console.base + route, timeout=60), 401)
    wrong = httpx.get(console.base + route, headers={"Authorization": "Bearer wrong"}, timeout=60)
    assert_problem(wrong, 403)  # as Airflow's own API answers


def tell(console: Console) -> None:
    """Let the ledger have a release that was deployed, and a version that is marked; let the Dag make runs."""
    console.ask("olga", "PATCH", f"/api/v2/dags/{RELEASE}", {"is_paused": False}).raise_for_status()
    end = {"version": "1.0.0", "change_type": "normal", "outcome": "deployed"}
    told = {"run": f"{RELEASE}/earlier", "service": "bike-shop", **end}
    mark = {"service": "bike-shop", "environment": "production", "version": "0.9.0", "by": "rita", "reason": "Slow"}
    asked = {"service": "bike-shop", "change_type": "normal"}
    with console.ledger() as ledger:
        ledger.append(release_chain(RELEASE, "earlier"), RELEASE_REQUESTED, asked, actor="task", key="asked")
        ledger.append(INSTALLATION, RELEASE_ENDED, told, actor="task", key="board/ended")
        ledger.append(INSTALLATION, VERSION_MARKED_BAD, {**mark, "verdict": "bad"}, actor="task", key="board/marked")


def test_a_cell_says_what_runs_and_a_row_what_is_under_way(console: Console) -> None:
    tell(console)
    found = board(console)
    (row,) = found["services"]
    production = row["cells"][-1]
    assert found["environments"] == ["test", "production"]
    assert (production["version"], production["run_id"]) == ("1.0.0", "earlier")
    assert [one["version"] for one in production["marked_bad"]] == ["0.9.0"]
    (flight,) = [one for one in row["in_flight"] if one["run_id"] == RUN_ID]
    assert (flight["state"], flight["stage"], flight["stage_title"]) == ("asks", "rollout", "Rollout plan and CAB")
    assert {"in_flight", "waiting", "marked"} <= set(row["states"])
    dags = {one["dag_id"] for one in row["in_flight"]}
    assert dags == {RELEASE}, "the Dag rollback_bike_shop has a run, and is another team's"


@pytest.mark.parametrize(
    ("filters", "total"),
    [
        ({"name": "BIKE"}, 1),
        ({"name": "repair"}, 0),
        ({"business_unit": ["retail", "other"]}, 1),
        ({"business_unit": "other"}, 0),
        ({"tier": [1, 2]}, 1),
        ({"tier": 1}, 0),
        ({"owner": "the bike shop's development team"}, 1),
        ({"owner": "=1+1"}, 0),
        ({"state": "in_flight"}, 1),
        ({"state": "uncertain"}, 0),
        ({"offset": 1}, 1),
    ],
)
def test_filters_leave_services_and_total_entries_counts_them(
    console: Console, filters: dict[str, Any], total: int
) -> None:
    found = board(console, **filters)
    assert found["total_entries"] == total
    assert len(found["services"]) == (0 if "offset" in filters else total)


@pytest.mark.parametrize(
    "wrong", [{"limit": 101}, {"offset": -1}, {"state": "x" * 5000}, {"tier": 5}, {"name": "x" * 201}]
)
def test_a_request_that_is_not_valid_says_which_parameter_is_wrong(console: Console, wrong: dict[str, Any]) -> None:
    problem = assert_problem(get(console, "rita", BOARD, **wrong), 422)
    assert next(iter(wrong)) in problem["detail"]
    assert len(problem["detail"]) < 1000


def test_the_document_names_each_route_and_nothing_unknown_is_there(console: Console) -> None:
    document = httpx.get(f"{console.base}/interlock/api/v1/openapi.json", timeout=60).raise_for_status().json()
    assert "/board" in document["paths"]
    assert_problem(get(console, "rita", "/interlock/api/v1/nothing"), 404)


def test_questions_are_only_those_for_the_reader_by_name_or_by_number(console: Console) -> None:
    def asked(user: str) -> list[tuple[str, str]]:
        found = get(console, user, QUESTIONS).raise_for_status().json()
        assert found["total_entries"] == len(found["questions"])
        return [(one["dag_id"], one["subject"][-5:]) for one in found["questions"] if one["run_id"] == RUN_ID]

    for user in ("audrey", "admin", "olga"):
        assert asked(user) == [], user
    (own,) = asked("cora")
    assert own == (RELEASE, "cora)")
    (first, *_) = get(console, "cora", QUESTIONS).json()["questions"]
    assert first["kind"] == "Shall this release be rolled out?"
    assert first["path"].endswith("/tasks/rollout.cast_ballot/mapped/1/required_actions")
    page = get(console, "fay", QUESTIONS, limit=1, offset=1).raise_for_status().json()
    assert len(page["questions"]) == min(1, page["total_entries"] - 1)


def test_what_one_asked_for_is_explained_and_others_releases_are_not_ones_own(console: Console) -> None:
    tell(console)
    mine = get(console, "rita", NEEDS_ME).raise_for_status().json()
    (standing,) = [one for one in mine["requested"] if one["flight"]["run_id"] == RUN_ID]
    assert standing["state"] in ("waits", "moves")
    assert "Waiting for" in standing["why"]
    assert standing["acts"][0]["kind"] == "answer"
    assert standing["path"].endswith("/plugin/release")
    assert get(console, "ben", NEEDS_ME).json()["requested"] == []


def test_a_release_of_a_paused_dag_is_stuck_and_says_who_can_move_it(console: Console) -> None:
    path = f"/api/v2/dags/{RELEASE}"
    console.ask("olga", "PATCH", path, {"is_paused": True}).raise_for_status()
    try:
        found = get(console, "ben", NEEDS_ME).raise_for_status().json()
        for one in found["stuck"]:
            assert "The Dag is paused" in one["why"]
        mine = get(console, "rita", NEEDS_ME).raise_for_status().json()["requested"]
        assert ["operators of Airflow"] in [act["by"] for one in mine for act in one["acts"]]
    finally:
        console.ask("olga", "PATCH", path, {"is_paused": False}).raise_for_status()


PAGE = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"```http\nGET (\S+)\n```\n+```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("path", "answer"), EXAMPLES, ids=[path for path, _ in EXAMPLES])
def test_the_examples_on_the_page_are_true(console: Console, path: str, answer: str) -> None:
    tell(console)
    assert_contains(get(console, "rita", path).json(), json.loads(answer))


def assert_contains(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            assert name in found
            assert_contains(found[name], value)
    elif isinstance(wanted, list) and isinstance(found, list):
        assert len(found) == len(wanted)
        for one, value in zip(found, wanted, strict=True):
            assert_contains(one, value)
    elif wanted != "…":
        assert found == wanted
