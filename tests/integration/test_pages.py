"""The pages made with React in a browser: the board, what needs the reader, and the way from an answer to the next."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from interlock.domain.paths import question_page
from tests.browser import BROWSER_WAIT_MS, opened_context, visit
from tests.integration.conftest import logged_in, own_console
from tests.integration.console_airflow import BACKED_OUT_ID, RELEASE, RUN_ID
from tests.integration.console_server import Console
from tests.npm import fetch_packages

AXE = Path(__file__).parent / "axe"
NASTY = "<img src=x onerror=alert(1)>\u202e=1+1 " + "x" * 10_000
WAYS = ("test", "integration", "staging", "production")


console = own_console


@pytest.fixture(scope="module")
def airflow(console: Console) -> str:
    console.ask("olga", "PATCH", f"/api/v2/dags/{RELEASE}", {"is_paused": False}).raise_for_status()
    return console.base


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script that looks for barriers."""
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(AXE / name, folder)
    fetch_packages(folder)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


def barriers(page: Page, axe: str, root: str, *, but: str = "") -> list[str]:
    """Return what axe-core finds serious or worse below an element.

    :param but: a rule that is not asked for.
    """
    page.evaluate(axe)
    found = page.evaluate("root => axe.run(root)", root)
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical") and one["id"] != but]
    return [f"{one['id']}: {node['html'][:200]}" for one in serious for node in one["nodes"]]


def cell(number: int, place: int) -> dict[str, Any]:
    return {
        "environment": WAYS[place],
        "version": f"1.{number}.{place}",
        "since": "2026-11-20T10:00:00Z",
        "dag_id": f"release_service_{number}",
        "run_id": "r+1",
        "certain": number % 4 != 1,
        "drift": [{"at": "2026-11-20T10:00:00Z", "host": "h", "what": NASTY}] if number % 4 == 2 else [],
        "marked_bad": [],
        "pinned": {"version": "1.0.0", "by": "rita", "reason": NASTY} if number % 4 == 3 else None,
        "closed": {"what": NASTY, "place": "", "until": None} if number % 4 == 0 else None,
    }


def many(page: Page, total: int = 1000) -> list[int]:
    """Let the browser read a board of many services; return the offsets that are asked for, as they come."""
    asked: list[int] = []

    def answer(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        offset, limit = int(query.get("offset", ["0"])[0]), int(query["limit"][0])
        asked.append(offset)
        reply = route.fetch(url=re.sub(r"offset=\d+", "offset=0", route.request.url))  # the real board has one page
        found = reply.json()
        (row,) = found["services"]
        rows = [
            {
                **row,
                "service": f"service-{number}",
                "title": NASTY if number == 1 else f"Service {number}",
                "cells": [cell(number, place) for place in range(len(WAYS))],
            }
            for number in range(offset, min(offset + limit, total))
        ]
        route.fulfill(response=reply, json={**found, "services": rows, "total_entries": total, "environments": WAYS})

    page.route(re.compile(r"/interlock/api/v1/board"), answer)
    return asked


def test_the_board_shows_what_runs_and_its_filters_are_in_the_address(airflow: str, page: Page) -> None:
    page.goto(f"{airflow}/plugin/board")
    board = page.get_by_test_id("interlock-board")
    row = board.get_by_role("row", name=re.compile("Bike shop"))
    expect(row).to_be_visible()
    expect(row.get_by_role("link", name="1.1.0", exact=True)).to_be_visible()
    expect(row.get_by_text("7 Rollout plan and CAB: waits for answers")).to_be_visible()
    board.get_by_label("State").select_option("uncertain")
    expect(board.get_by_text("No service matches these filters.")).to_be_visible()
    assert parse_qs(urlsplit(page.url).query) == {"state": ["uncertain"]}
    board.get_by_label("State").select_option("in_flight")
    expect(row).to_be_visible()
    board.get_by_label("Part of the service's name").fill("bike")
    page.wait_for_url("**name=bike**")
    page.goto(f"{airflow}/plugin/board?tier=1")  # as somebody was sent it
    expect(board.get_by_text("No service matches these filters.")).to_be_visible()
    page.goto(f"{airflow}/plugin/board")
    row.get_by_role("link", name="Roll Bike shop back").click()
    page.wait_for_url("**/dags/rollback_bike_shop**")


def test_a_thousand_services_are_drawn_while_they_are_in_view(airflow: str, page: Page) -> None:
    asked = many(page)
    page.goto(f"{airflow}/plugin/board")
    board = page.get_by_test_id("interlock-board")
    expect(board.get_by_text("1,000 services")).to_be_visible()
    expect(board.get_by_role("table")).to_have_attribute("aria-rowcount", "1001")
    expect(board.get_by_text("Service 0", exact=True)).to_be_visible()
    rows = board.get_by_role("row")
    assert rows.count() < 60
    board.get_by_label("Rows").focus()
    page.keyboard.press("End")
    expect(board.get_by_text("Service 999", exact=True)).to_be_visible()
    assert rows.count() < 60
    assert set(asked) <= {0, 100, 200, 300, 400, 500, 600, 700, 800, 900}
    assert {0, 900} <= set(asked)
    link = board.get_by_role("link", name="Service 999 1.999.3 in production: the release")
    assert link.get_attribute("href").endswith("/dags/release_service_999/runs/r%2B1/plugin/release")  # type: ignore[union-attr]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_pages_have_no_serious_barriers(
    airflow: str, browser: Browser, login: Any, axe: str, width: int, scheme: Any
) -> None:
    view = {"width": width, "height": 900}
    with opened_context(browser, viewport=view, color_scheme=scheme, storage_state=login) as context:
        page = context.new_page()
        many(page)
        page.goto(f"{airflow}/plugin/board")
        expect(page.get_by_role("row", name=re.compile("Service 2"))).to_be_visible()
        assert barriers(page, axe, "[data-testid=interlock-board]") == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
        delivered(page)
        for name, shows in (
            ("needs-me", "Leaves within 24 hours"),
            ("measures", "Change lead time"),
            ("deliveries", "Deliveries to other systems"),
            ("timeline", ""),
        ):
            visit(page, f"{airflow}/plugin/{name}")
            seen = page.get_by_role("heading", name=shows) if shows else page.get_by_role("list", name="Lanes")
            expect(seen).to_be_visible()
            assert barriers(page, axe, f"[data-testid=interlock-{name}]") == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        visit(page, f"{airflow}/plugin/release-calendar")
        expect(page.get_by_role("tab", name="Agenda")).to_be_visible()
        # FullCalendar names the cell of a day by its date, whatever is written in it.
        assert barriers(page, axe, "[data-testid=interlock-calendar]", but="label-content-name-mismatch") == []
        for name, shows in (("release", "Stages"), ("test-matrix", "Test matrix"), ("quality-report", "")):
            visit(page, f"{airflow}/dags/{RELEASE}/runs/{quote(RUN_ID, safe='')}/plugin/{name}")
            shown = page.get_by_test_id(f"interlock-{name}")
            expect(shown.get_by_role("heading", name=shows) if shows else shown.locator("iframe")).to_be_visible()
            assert barriers(page, axe, f"[data-testid=interlock-{name}]") == []
            assert shown.evaluate("one => one.scrollWidth <= one.clientWidth"), name


def delivered(page: Page) -> None:
    """Let the browser read deliveries that another system refused, with text that it wrote."""
    release = {"dag_id": RELEASE, "run_id": RUN_ID, "attempts": 3, "next_at": "2026-11-30T10:00:00Z"}
    rows = [
        {
            **release,
            "system": "snow",
            "state": "refused",
            "number": "CHG1",
            "url": "javascript:0",
            "reason": NASTY,
        },
        {**release, "system": "jira", "state": "failing", "number": NASTY, "url": "", "reason": "No answer."},
    ]
    found = {"deliveries": rows, "total_entries": 60, "at": "2026-11-30T10:00:00Z"}
    page.route(re.compile(r"/interlock/api/v1/deliveries"), lambda route: route.fulfill(json=found))


def test_what_was_not_delivered_is_shown_with_the_reason_and_the_way_to_retry(airflow: str, page: Page) -> None:
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(f"{airflow}/plugin/deliveries")
    seen = page.get_by_test_id("interlock-deliveries")
    expect(seen.get_by_text("Every system was told everything.")).to_be_visible()
    delivered(page)
    page.reload()
    expect(seen.get_by_role("listitem")).to_have_count(2)
    expect(seen.get_by_role("listitem").first).to_contain_text(NASTY)
    assert seen.locator("img").count() == 0
    assert seen.get_by_role("link", name="CHG1").count() == 0, "what is no address is no link"
    seen.get_by_role("button", name="Next page (10 more)").click()
    expect(seen.get_by_role("button", name="Previous page")).to_be_visible()
    seen.get_by_label("State").select_option("refused")
    expect(seen.get_by_role("button", name="Previous page")).to_have_count(0)
    assert parse_qs(urlsplit(page.url).query) == {"state": ["refused"]}
    seen.get_by_role("link", name="Retry deliveries").click()
    page.wait_for_url("**/dags/retry_deliveries**")


TEXTS = {"title", "reason", "comment", "evidence", "note", "text", "subject", "body"}
"""Names of fields that people fill in; a text of any other name is one if it has several words."""


def attack(page: Page) -> None:
    """Let each text that the browser reads of our API, and of questions, have in it what attacks."""

    def attacked(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: attacked(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [attacked(one, name) for one in value]
        return f"{value} {NASTY}" if isinstance(value, str) and (name in TEXTS or " " in value) else value

    def answer(route: Route) -> None:
        reply = route.fetch(timeout=BROWSER_WAIT_MS, max_retries=3)
        route.fulfill(response=reply, json=attacked(reply.json()))

    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.route(re.compile(r"/interlock/api/v1/|/hitlDetails\?"), answer)


def assert_is_text(page: Page, address: str, name: str, *, may_widen: bool = False) -> None:
    """Assert that what attacks is text on a page, and makes it no wider.

    :param may_widen: assert only that it is text: a word of 10,000 characters makes this page wider.
    """
    page.goto(address)
    shown = page.get_by_test_id(f"interlock-{name}")
    expect(shown).to_contain_text("onerror=alert(1)>")
    assert shown.locator("img[src=x]").count() == 0
    assert may_widen or shown.evaluate("one => one.scrollWidth <= one.clientWidth"), f"{name} is wider than the screen"


@pytest.mark.parametrize("name", ["board", "needs-me", "timeline", "measures", "release-calendar"])
def test_what_people_wrote_is_text(airflow: str, page: Page, name: str) -> None:
    attack(page)
    assert_is_text(page, f"{airflow}/plugin/{name}", name.removeprefix("release-"), may_widen=name == "needs-me")


@pytest.mark.parametrize("run_id", [RUN_ID, BACKED_OUT_ID])
def test_what_people_wrote_is_text_on_the_tab_of_a_release(airflow: str, page: Page, run_id: str) -> None:
    attack(page)
    assert_is_text(page, f"{airflow}/dags/{RELEASE}/runs/{quote(run_id, safe='')}/plugin/release", "release")


def test_a_ledger_that_does_not_answer_is_said_with_what_to_do(airflow: str, page: Page) -> None:
    problem = {"detail": "The ledger is down.", "who": "the platform engineer", "next_step": "start it"}
    page.route(
        re.compile(r"/interlock/api/v1/"),
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem)),
    )
    for name in ("board", "needs-me", "timeline"):
        page.goto(f"{airflow}/plugin/{name}")
        said = page.get_by_role("alert").filter(has_text="The ledger is down.")
        expect(said).to_contain_text("Who can change it: the platform engineer. Next: start it.")


def test_the_timeline_shows_what_goes_on_and_what_is_chosen_is_in_the_address(airflow: str, page: Page) -> None:
    page.goto(f"{airflow}/plugin/timeline")
    line = page.get_by_test_id("interlock-timeline")
    lane = line.get_by_role("listitem").filter(has_text="Bike shop")
    under_way = lane.get_by_role("link", name=re.compile(r"^under way: bike-shop 1\.1\.0: under way"))
    expect(under_way).to_be_visible()
    line.get_by_label("Time shown").select_option("Quarter")
    line.get_by_label("Lanes", exact=True).and_(page.locator("select")).select_option("By environment")
    expect(line.get_by_role("listitem").filter(has_text="production").get_by_role("link").first).to_be_visible()
    assert parse_qs(urlsplit(page.url).query) == {"days": ["92"], "by": ["environment"]}
    line.get_by_role("button", name="Later").click()
    page.wait_for_url("**from=20**")
    page.goto(f"{airflow}/plugin/timeline?days=7&name=bike")  # as somebody was sent it
    under_way.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/plugin/release")


def test_what_people_wrote_is_text_on_the_timeline(airflow: str, page: Page) -> None:
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))

    def answer(route: Route) -> None:
        reply = route.fetch()
        found = reply.json()
        bar = {"id": "x", "kind": "freeze", "title": NASTY, "start": found["at"], "end": found["until"], "about": NASTY}
        lane = {"key": "x", "title": NASTY, "bars": [bar, {**bar, "id": "y", "path": "dags/x"}], "more": 0}
        route.fulfill(response=reply, json={**found, "lanes": [lane], "conflicts": [bar], "notes": [NASTY]})

    page.route(re.compile(r"/interlock/api/v1/timeline"), answer)
    page.goto(f"{airflow}/plugin/timeline")
    line = page.get_by_test_id("interlock-timeline")
    expect(line.get_by_role("link", name=re.compile("img src=x")).first).to_be_visible()
    assert line.locator("img").count() == 0


@pytest.fixture(scope="module")
def coras_browser(console: Console, browser: Browser) -> Iterator[BrowserContext]:
    """Return the browser of a member of the board."""
    with opened_context(browser, storage_state=logged_in(console, "cora")) as context:
        yield context


def test_from_a_question_one_comes_to_it_and_after_the_answer_to_the_next(
    airflow: str, coras_browser: BrowserContext
) -> None:
    with closing(coras_browser.new_page()) as page:
        page.goto(f"{airflow}/plugin/needs-me")
        page.get_by_test_id("interlock-needs-me").get_by_role("link", name=re.compile(r"production\? \(cora\)")).click()
        page.wait_for_url(f"**/{question_page(RELEASE, RUN_ID, 'rollout.cast_ballot', 1)}")
        expect(page.get_by_test_id("hitl-option-Abstain")).to_be_visible()
        bar = page.get_by_test_id("interlock-next")
        expect(bar).to_have_count(0)
        following = {
            "subject": "Another question",
            "kind": "",
            "dag_id": "release_x",
            "run_id": "r",
            "task_id": "t",
            "map_index": 0,
            "asked_at": None,
            "until": None,
            "path": "dags/release_x/runs/r/tasks/t/mapped/0/required_actions",
        }
        answer: dict[str, Any] = {"questions": [following], "total_entries": 1, "at": "2026-11-23T06:17:00Z"}
        page.route(re.compile(r"/api/v1/questions"), lambda route: route.fulfill(json=answer))
        expect(bar.get_by_role("link", name="Another question")).to_be_visible()
        answer["questions"] = []
        expect(bar).to_contain_text("No other question is for you.")
        bar.get_by_role("link").click()
        page.wait_for_url("**/plugin/needs-me")
