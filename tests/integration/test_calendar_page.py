"""The release calendar on a real Airflow: what a reader sees in a browser, and the feed to subscribe to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from icalendar import Calendar
from playwright.sync_api import Browser, Page, expect, sync_playwright

from include.interlock.adapters.catalogue import FOLDER
from include.interlock.domain.bookings import BOOKED, booking_chain
from include.interlock.domain.ledger import INSTALLATION, release_chain
from tests.integration.console_airflow import RELEASE, RUN_ID
from tests.integration.console_server import Console

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
FREEZE = f"""\
title: Calendar
owner: o
time_zone: UTC
entries:
  - name: audit
    title: The yearly audit
    kind: freeze
    from: {NOW:%Y-%m-%d}
    until: {NOW + timedelta(days=1):%Y-%m-%d}
"""


@pytest.fixture(scope="module")
def airflow(console: Console) -> str:
    """An Airflow whose catalogue has a train and a freeze, and whose ledger a release and a booking."""
    folder = console.home / "catalogue"
    for name in ("trains", "calendars"):
        shutil.copytree(FOLDER / name, folder / name, dirs_exist_ok=True)
    (folder / "calendars" / "audit.yaml").write_text(FREEZE)
    run = f"{RELEASE}/{RUN_ID}"
    told = {"run": run, "service": "bike-shop", "version": "1.1.0", "change_type": "normal", "outcome": "backed_out"}
    booking = {
        "environment": "production",
        "service": "bike-shop",
        "holder": release_chain(RELEASE, RUN_ID),
        "version": "1.1.0",
        "by": "rita",
        "since": NOW.isoformat(),
        "until": (NOW + timedelta(hours=6)).isoformat(),
    }
    with console.ledger() as ledger:
        ledger.append(INSTALLATION, "release.ended", told, actor="x", key=f"release.ended/{run}")
        ledger.append(booking_chain("production", "bike-shop"), BOOKED, booking, actor="x", key=f"{BOOKED}/1")
    return console.base


def schedule(console: Console, user: str, days: int = 60) -> dict[str, Any]:
    asked = (
        f"start={quote((NOW - timedelta(days=2)).isoformat())}&end={quote((NOW + timedelta(days=days)).isoformat())}"
    )
    answer = console.ask(user, "GET", f"/interlock/schedule?{asked}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_it_has_departures_calendars_bookings_and_past_releases(airflow: str, console: Console) -> None:
    found = schedule(console, "rita")
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for one in found["items"]:
        by_kind.setdefault(one["kind"], []).append(one)
    assert len(by_kind["departure"]) >= 7
    assert by_kind["departure"][0]["title"] == "The weekly train"
    assert [one["title"] for one in by_kind["freeze"]] == ["The yearly audit"]
    (release,) = by_kind["release"]
    assert (release["title"], release["state"]) == ("bike-shop 1.1.0: backed out", "backed_out")
    assert release["path"] == f"dags/{RELEASE}/runs/{RUN_ID}"
    assert by_kind["booking"][0]["about"].startswith("production of bike-shop is booked by release_bike_shop/")
    assert found["faults"] == []


def test_a_year_ahead_is_known_at_once(airflow: str, console: Console) -> None:
    found = schedule(console, "rita", days=366)
    assert len([one for one in found["items"] if one["kind"] == "departure"]) >= 50


def test_runs_are_shown_to_those_who_may_read_them_and_nobody_reads_without_logging_in(
    airflow: str, console: Console
) -> None:
    kinds = {one["kind"] for one in schedule(console, "nora")["items"]}
    assert "freeze" in kinds
    assert not kinds & {"release", "booking", "train"}
    for path in ("calendar", "schedule?start=2027-01-01T00:00:00Z&end=2027-02-01T00:00:00Z", "calendar.ics"):
        assert httpx.get(f"{airflow}/interlock/{path}").status_code in (401, 422)


def test_the_feed_is_read_with_the_token_of_somebody_and_no_other(airflow: str, console: Console) -> None:
    address = f"{airflow}/{schedule(console, 'rita')['feed']}"
    answer = httpx.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/calendar")
    events = {str(one["UID"]): one for one in Calendar.from_ical(answer.text).walk("VEVENT")}
    release = events[f"{RELEASE}/{RUN_ID}@interlock"]
    assert str(release["SUMMARY"]) == "bike-shop 1.1.0: backed out"
    assert str(release["URL"]) == f"{airflow}/dags/{RELEASE}/runs/{RUN_ID}"
    assert any(uid.startswith("train/weekly/") for uid in events)
    token = urlsplit(address).query.removeprefix("token=")
    user, until, mark = token.split("~")
    for forged in (f"admin~{until}~{mark}", f"{user}~29990101~{mark}", f"{user}~{until}~{'0' * 64}", "", "~~", user):
        assert httpx.get(f"{airflow}/interlock/calendar.ics?token={forged}").status_code == 401
    nora = httpx.get(f"{airflow}/{schedule(console, 'nora')['feed']}")
    assert "backed out" not in nora.text


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        yield launched
        launched.close()


@pytest.fixture
def page(airflow: str, browser: Browser) -> Iterator[Page]:
    """Return rita's browser; whatever it asks of anybody but this Airflow, or what fails there, fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(30_000)
    opened = context.new_page()
    opened.goto(f"{airflow}/auth/login/")
    opened.fill("input[name=username]", "rita")
    opened.fill("input[name=password]", "rita")
    opened.click("input[type=submit]")
    opened.wait_for_selector("[data-testid=nav-sidebar]")
    strangers: list[str] = []
    wrong: list[str] = []
    opened.on("request", lambda asked: strangers.extend(() if is_ours(airflow, asked.url) else (asked.url,)))
    opened.on("console", lambda line: wrong.extend((line.text,) if "Content Security Policy" in line.text else ()))
    yield opened
    context.close()
    assert strangers == []
    assert wrong == []


def is_ours(airflow: str, url: str) -> bool:
    return url.startswith((airflow, "data:", "blob:"))


def test_the_calendar_is_a_page_of_airflows_with_month_week_and_agenda(
    airflow: str, page: Page, tmp_path: Path
) -> None:
    page.goto(f"{airflow}/plugin/release-calendar")
    shown = page.frame_locator("iframe[title='Release calendar']")
    expect(shown.get_by_role("heading", name="Release calendar")).to_be_visible()
    expect(shown.get_by_text("The yearly audit").first).to_be_visible()
    shown.get_by_role("tab", name="Week").click()
    expect(shown.get_by_text("bike-shop in production is booked").first).to_be_visible()
    shown.get_by_role("tab", name="Agenda").click()
    expect(shown.get_by_text("The yearly audit").first).to_be_visible()
    expect(shown.get_by_role("link", name="iCalendar feed")).to_be_visible()
    page.screenshot(path=tmp_path / "calendar.png")


def test_a_click_leads_to_the_run(airflow: str, page: Page) -> None:
    page.goto(f"{airflow}/plugin/release-calendar")
    shown = page.frame_locator("iframe[title='Release calendar']")
    shown.get_by_role("tab", name="Agenda").click()
    shown.get_by_text("bike-shop 1.1.0: backed out").first.click()
    page.wait_for_url(f"**/dags/{RELEASE}/runs/**")
