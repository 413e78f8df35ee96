"""The release calendar on a real Airflow: what a reader sees in a browser, and the feed to subscribe to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest
from icalendar import Calendar
from playwright.sync_api import Locator, Page, Route, expect

from interlock.adapters.calendars.feeds import path_of_copy
from interlock.domain.calendars.bookings import booking_chain
from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    EMERGENCY_STOP_DECLARED,
    EMERGENCY_STOP_LIFTED,
    ENVIRONMENT_BOOKED,
    TRAIN_OPENED,
)
from interlock.domain.trains.arrivals import Arrival, PassengerOutcome
from interlock.domain.trains.manifest import LeftBehind, PlannedRun
from tests.browser import visit
from tests.integration.console_airflow import BACKED_OUT_ID, RELEASE, ROOT, RUN_ID
from tests.integration.console_server import Console, console_server
from tests.unit.domain.test_train_manifest import manifest

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
BERLIN = ZoneInfo("Europe/Berlin")
NEXT_WEEK = datetime.now(BERLIN).date() + timedelta(days=7 - datetime.now(BERLIN).weekday())
"""Its Monday."""
MOVED = datetime(NEXT_WEEK.year, NEXT_WEEK.month, NEXT_WEEK.day, 6, tzinfo=BERLIN) + timedelta(days=2)
"""When next week's train departs: the morning after the freeze that only the calendar at a URL has."""
SATURDAY = datetime(NEXT_WEEK.year, NEXT_WEEK.month, NEXT_WEEK.day, 9, tzinfo=UTC) + timedelta(days=5)
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
  - name: migration
    title: The database is moved
    kind: freeze
    ical: {{ url: "https://calendars.example/theirs.ics" }}
  - name: never-fetched
    title: Never fetched
    kind: freeze
    ical: {{ url: "https://nowhere.example/theirs.ics" }}
"""
THEIRS = f"""\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VEVENT
UID:migration
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:{MOVED - timedelta(hours=12):%Y%m%dT%H%M%S}
DTEND;TZID=Europe/Berlin:{MOVED:%Y%m%dT%H%M%S}
SUMMARY:The database is moved
END:VEVENT
END:VCALENDAR
"""
ANOTHER = """\
name: {name}
title: {title}
owner: o
time_zone: Europe/Berlin
{when}
passengers:
  - {{ service: bike-shop, tags: "1.*" }}
"""
EVENING = 'cadence: { cron: "30 20 * * TUE" }'
FAIR = f"""\
target:
  at: {NEXT_WEEK + timedelta(days=10)}T20:00
  milestones:
    - {{ name: scope, title: Scope is fixed, working_days_before: 6 }}"""
BY_HAND = "manual__saturday"
QUORUM = {"kind": "quorum", "severity": "severe", "what": "The CAB cannot come to its quorum.", "next_free": None}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """An Airflow of our own: it has the Dag of a train, as it is delivered."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(ROOT / "dags" / "trains.py", home / "dags")
    with console_server(home) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(console: Console) -> str:
    """An Airflow whose catalogue has trains and freezes, and whose ledger releases, a booking and a train under way."""
    furnish(console)
    return console.base


def furnish(console: Console) -> None:
    folder = console.home / "catalogue"
    (folder / "calendars" / "audit.yaml").write_text(FREEZE)
    copy = path_of_copy(console.home / "state" / "calendars", Feed(url="https://calendars.example/theirs.ics"))
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(THEIRS)
    for name, title, when in (("evening", "The evening train", EVENING), ("fair", "The spring fair", FAIR)):
        (folder / "trains" / f"{name}.yaml").write_text(ANOTHER.format(name=name, title=title, when=when))
    booking = {
        "environment": "production",
        "service": "bike-shop",
        "holder": release_chain(RELEASE, RUN_ID),
        "version": "1.1.0",
        "by": "rita",
        "since": NOW.isoformat(),
        "until": (NOW + timedelta(hours=6)).isoformat(),
    }
    sent = {"dag_run_id": BY_HAND, "logical_date": None, "conf": {"departure": SATURDAY.isoformat()}}
    assert console.ask("rita", "POST", "/api/v2/dags/train_weekly/dagRuns", sent).status_code == 200
    planned_run = PlannedRun(
        train="weekly", departure=SATURDAY, cut_off=SATURDAY - timedelta(hours=50), asked_by="rita"
    )
    with console.ledger() as ledger:
        for run_id, version, outcome in ((RUN_ID, "1.1.0", "backed_out"), (BACKED_OUT_ID, "1.0.0", "deployed")):
            run = f"{RELEASE}/{run_id}"
            told = {"run": run, "service": "bike-shop", "version": version, "change_type": "normal", "outcome": outcome}
            ledger.append(INSTALLATION, "release.ended", told, actor="x", key=f"release.ended/{run}")
        ledger.append(
            booking_chain("production", "bike-shop"),
            ENVIRONMENT_BOOKED,
            booking,
            actor="x",
            key=f"{ENVIRONMENT_BOOKED}/1",
        )
        chain = release_chain("train_weekly", BY_HAND)
        ledger.append(chain, TRAIN_OPENED, planned_run.to_xcom(), actor="x", key="1")
        ledger.append(chain, "conflicts.found", {"conflicts": [QUORUM]}, actor="x", key="2")


def schedule(console: Console, user: str, days: int = 60) -> dict[str, Any]:
    asked = (
        f"start={quote((NOW - timedelta(days=2)).isoformat())}&end={quote((NOW + timedelta(days=days)).isoformat())}"
    )
    answer = console.ask(user, "GET", f"/interlock/api/v1/schedule?{asked}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def by_kind(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    sorted_out: dict[str, list[dict[str, Any]]] = {}
    for one in found["items"]:
        sorted_out.setdefault(one["kind"], []).append(one)
    return sorted_out


def at(one: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(one["start"])


def test_it_has_departures_calendars_bookings_and_past_releases(airflow: str, console: Console) -> None:
    found = schedule(console, "rita")
    kinds = by_kind(found)
    weekly = [one for one in kinds["departure"] if one["title"].startswith("The weekly train")]
    assert len(weekly) >= 7
    assert {one["title"] for one in kinds["freeze"]} == {"The yearly audit", "The database is moved"}
    assert [(one["title"], one["state"]) for one in kinds["release"]] == [
        ("bike-shop 1.1.0: backed out", "backed_out"),
        ("bike-shop 1.0.0: deployed", "deployed"),
    ]
    assert kinds["release"][0]["path"] == f"dags/{RELEASE}/runs/{RUN_ID}"
    assert kinds["booking"][0]["about"].startswith("production of bike-shop is booked by release_bike_shop/")
    assert [(one["title"], one["day"]) for one in kinds["milestone"]] == [
        ("The spring fair: Scope is fixed", f"{NEXT_WEEK + timedelta(days=2)}")
    ]
    assert found["faults"] == []


def test_a_calendar_at_a_url_moves_departures_as_it_was_fetched_and_what_never_was_is_said(
    airflow: str, console: Console
) -> None:
    found = schedule(console, "rita")
    (moved,) = [
        one for one in by_kind(found)["departure"] if at(one) == MOVED and one["title"].startswith("The weekly")
    ]
    planned = (MOVED - timedelta(hours=10)).astimezone(UTC)
    assert f"moved from {planned:%Y-%m-%d %H:%M} UTC by a calendar" in moved["about"]
    assert moved["id"] == f"train/weekly/{planned.isoformat()}"
    assert found["notes"] == ["A calendar at nowhere.example is not shown, because it has not been fetched yet."]


def test_a_train_off_schedule_is_shown_so_until_its_file_says_otherwise(airflow: str, console: Console) -> None:
    def first() -> dict[str, Any]:
        found = by_kind(schedule(console, "rita"))["departure"]
        return next(one for one in found if one["dag_id"] == "train_weekly" and not one["run_id"])

    assert (first()["title"], first()["state"]) == ("The weekly train (off schedule)", "paused")
    file = console.home / "catalogue" / "trains" / "weekly.yaml"
    before = file.read_text()
    try:
        file.write_text(before.replace("on_schedule: false", "on_schedule: true"))
        assert (first()["title"], first()["state"] in ("planned", "moved")) == ("The weekly train", True)
    finally:
        file.write_text(before)


def test_a_train_is_triggered_without_being_unpaused_and_paused_by_nobody(airflow: str, console: Console) -> None:
    dag = console.ask("rita", "GET", "/api/v2/dags/train_weekly").json()
    assert (dag["is_paused"], dag["next_dagrun_run_after"]) == (False, None)
    for user in ("rita", "olga", "admin"):
        answer = console.ask(user, "PATCH", "/api/v2/dags/train_weekly", {"is_paused": True})
        assert answer.status_code == 403, answer.text
        assert "a train cannot be paused" in answer.json()["detail"]
        assert "on_schedule: false" in answer.json()["detail"]
    sent = console.ask("rita", "POST", "/api/v2/dags/train_weekly/dagRuns", {"logical_date": None, "conf": {}})
    assert sent.status_code == 200, sent.text
    assert re.fullmatch(r"by-hand__20\d\d-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z", sent.json()["dag_run_id"])
    assert console.ask("rita", "GET", "/api/v2/dags/train_weekly").json()["next_dagrun_run_after"] is None


def test_a_train_sent_by_hand_is_shown_to_all_and_its_run_to_those_who_may_read_it(
    airflow: str, console: Console
) -> None:
    seen, blind = (
        next(one for one in by_kind(schedule(console, user))["departure"] if at(one) == SATURDAY)
        for user in ("rita", "nora")
    )
    assert (seen["title"], seen["path"]) == ("The weekly train (manual)", f"dags/train_weekly/runs/{BY_HAND}")
    assert seen["about"].startswith("Triggered by rita")
    assert (blind["title"], blind["path"], blind["about"]) == (seen["title"], "", "")


def test_conflicts_are_items_and_named_whatever_is_looked_at(airflow: str, console: Console) -> None:
    found = schedule(console, "rita", days=-1)
    assert "conflict" not in by_kind(found)
    first = found["conflicts"][0]
    assert first["title"].startswith("Warning: The evening train (evening) departs at ")
    assert first["about"].startswith("Next free slot: ")
    kinds = by_kind(schedule(console, "rita"))["conflict"]
    assert [one for one in kinds if one["id"] == first["id"]] == [first]
    assert [at(one) for one in kinds if one["state"] == "severe"] == [SATURDAY]
    assert any(at(one) == MOVED for one in kinds)


def test_a_year_ahead_is_known_at_once(airflow: str, console: Console) -> None:
    found = schedule(console, "rita", days=366)
    assert len([one for one in found["items"] if one["kind"] == "departure"]) >= 50


def test_runs_are_shown_to_those_who_may_read_them_and_nobody_reads_without_logging_in(
    airflow: str, console: Console
) -> None:
    kinds = {one["kind"] for one in schedule(console, "nora")["items"]}
    assert "freeze" in kinds
    assert not kinds & {"release", "booking", "train"}
    assert "severe" not in {one["state"] for one in schedule(console, "nora")["items"]}
    for path in ("api/v1/schedule?start=2027-01-01T00:00:00Z&end=2027-02-01T00:00:00Z", "calendar.ics"):
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
    planned = (MOVED - timedelta(hours=10)).astimezone(UTC)
    assert events[f"train/weekly/{planned.isoformat()}@interlock"].decoded("DTSTART") == MOVED
    (severe,) = [one for one in events.values() if str(one["SUMMARY"]).startswith("Severe: ")]
    assert (severe.decoded("DTSTART"), str(severe["URL"])) == (SATURDAY, f"{airflow}/dags/train_weekly/runs/{BY_HAND}")
    clashes = [one for one in events.values() if str(one["SUMMARY"]).startswith("Warning: ")]
    assert all("Next free slot: " in str(one["DESCRIPTION"]) for one in clashes)
    assert any(one.decoded("DTSTART") == MOVED for one in clashes)
    assert events["milestone/fair/scope@interlock"].decoded("DTSTART") == NEXT_WEEK + timedelta(days=2)
    token = urlsplit(address).query.removeprefix("token=")
    user, until, mark = token.split("~")
    for forged in (f"admin~{until}~{mark}", f"{user}~29990101~{mark}", f"{user}~{until}~{'0' * 64}", "", "~~", user):
        assert httpx.get(f"{airflow}/interlock/calendar.ics?token={forged}").status_code == 401
    nora = httpx.get(f"{airflow}/{schedule(console, 'nora')['feed']}")
    assert "backed out" not in nora.text


def opened(airflow: str, page: Page) -> Locator:
    visit(page, f"{airflow}/plugin/release-calendar")
    shown = page.get_by_test_id("interlock-calendar")
    expect(shown.get_by_text("The yearly audit").first).to_be_visible()
    return shown


def next_week(shown: Locator) -> None:
    shown.get_by_role("tab", name="Week").click()
    shown.get_by_role("button", name="Next Week").click()
    expect(shown.get_by_text("The spring fair: Scope is fixed")).to_be_visible()


def color(one: Locator, part: str = "") -> str:
    return str(one.first.evaluate("(one, part) => getComputedStyle(one, part).backgroundColor", part))


def legend(shown: Locator, text: str) -> str:
    return color(shown.locator(".legend li", has_text=text), "::before")


def test_the_calendar_is_a_page_of_airflows_with_month_week_and_agenda(
    airflow: str, page: Page, tmp_path: Path
) -> None:
    shown = opened(airflow, page)
    expect(shown.get_by_role("heading", name="Release calendar")).to_be_visible()
    expect(shown.get_by_text("A calendar at nowhere.example is not shown")).to_be_visible()
    shown.get_by_role("tab", name="Week").click()
    expect(shown.get_by_text("bike-shop in production is booked").first).to_be_visible()
    shown.get_by_role("tab", name="Agenda").click()
    expect(shown.get_by_text("The yearly audit").first).to_be_visible()
    expect(shown.get_by_text("Closed: everything (audit in calendars/audit.yaml)").first).to_be_visible()
    expect(shown.get_by_role("link", name="iCalendar feed")).to_be_visible()
    page.screenshot(path=tmp_path / "calendar.png")


def test_the_page_names_its_time_zone_and_whole_days_stay_on_their_days(airflow: str, page: Page) -> None:
    """The browser is in Berlin, and the calendar with the audit in UTC."""
    shown = opened(airflow, page)
    expect(shown.get_by_text("Times are shown in your browser's time zone, Europe/Berlin.")).to_be_visible()
    shown.get_by_role("tab", name="Agenda").click()
    audit = shown.locator(".item.freeze", has_text="The yearly audit")
    expect(audit.first).to_contain_text("All-day")
    expect(shown.get_by_text("(audit in calendars/audit.yaml); days in UTC").first).to_be_visible()
    expect(audit.filter(has_not_text="All-day")).to_have_count(0)


def test_past_releases_are_coloured_by_outcome_as_the_legend_says(airflow: str, page: Page) -> None:
    shown = opened(airflow, page)
    failed = color(shown.locator(".item", has_text="bike-shop 1.1.0: backed out"))
    deployed = color(shown.locator(".item", has_text="bike-shop 1.0.0: deployed"))
    assert failed == legend(shown, "freeze, failed")
    assert deployed == legend(shown, "deployed")
    assert failed != deployed


def test_conflicts_stand_out_and_what_is_paused_does_not(airflow: str, page: Page, tmp_path: Path) -> None:
    shown = opened(airflow, page)
    expect(shown.get_by_text("Conflicts in the next 60 days")).to_be_visible()
    expect(shown.get_by_text(re.compile("Next free slot: .+ Only if The evening train")).first).to_be_visible()
    next_week(shown)
    severe = shown.locator(".item.conflict", has_text="⚠ Severe: The CAB cannot come to its quorum.")
    assert color(severe) == legend(shown, "conflict")
    for_now = shown.locator(".item.conflict", has_text="⚠ Warning: The evening train")
    paused = shown.locator(".item.departure", has_text="The weekly train (off schedule)")
    for muted in (for_now, paused):
        expect(muted.first).to_have_css("border-top-style", "dashed")
        expect(muted.first).to_have_css("font-style", "italic")
    assert color(shown.locator(".item.milestone")) == legend(shown, "milestone")
    page.screenshot(path=tmp_path / "week.png")


def test_a_click_leads_to_the_run(airflow: str, page: Page) -> None:
    shown = opened(airflow, page)
    shown.get_by_role("tab", name="Agenda").click()
    shown.get_by_text("bike-shop 1.1.0: backed out").first.click()
    page.wait_for_url(f"**/dags/{RELEASE}/runs/**")


def test_a_click_on_a_departure_sent_by_hand_leads_to_its_run(airflow: str, page: Page) -> None:
    shown = opened(airflow, page)
    next_week(shown)
    shown.get_by_text("The weekly train (manual)").first.click()
    page.wait_for_url(f"**/dags/train_weekly/runs/{BY_HAND}**")


def test_the_tab_release_of_a_train_says_who_did_not_come_along_and_why(airflow: str, page: Page) -> None:
    """Let the browser read what the tasks of a train left that took nobody."""
    left = LeftBehind(service="bike-shop", late=False, why="it runs 1.2.0 already")
    outcome = PassengerOutcome(service="bike-shop", boarded=False, outcome="left behind", reason=left.why)
    results = {
        "opened": PlannedRun(train="weekly", departure=SATURDAY, cut_off=SATURDAY, asked_by="rita"),
        "manifest": manifest(title="The weekly train", left=(left,)),
        "arrival": Arrival(train="weekly", departure=SATURDAY, departed=True, passengers=(outcome,)),
    }

    def left_there(route: Route) -> None:
        reply = route.fetch()
        found = reply.json()
        found["records"] |= {name: one.to_xcom() for name, one in results.items()}
        route.fulfill(response=reply, json=found)

    page.route("**/records?", left_there)
    visit(page, f"{airflow}/dags/train_weekly/runs/{BY_HAND}/plugin/release")
    shown = page.get_by_test_id("interlock-release")
    expect(shown.get_by_role("heading", name="The weekly train departed without passengers")).to_be_visible()
    expect(shown.get_by_text("No service is on board.")).to_be_visible()
    expect(shown.get_by_role("row", name="bike-shop nothing new it runs 1.2.0 already")).to_be_visible()
    expect(
        shown.get_by_role("row", name=re.compile("^1 Boarding .*0 services on board, 1 not on board"))
    ).to_be_visible()
    expect(shown.get_by_text("All times on this page are in UTC.")).to_be_visible()


def test_an_emergency_stop_in_force_is_on_the_pages(airflow: str, console: Console, page: Page) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    declared = EmergencyStop(id="a1", scope="bike-shop", reason="The warehouse burns", by="olga", until=until)
    with console.ledger() as ledger:
        payload = declared.model_dump(mode="json")
        ledger.append(INSTALLATION, EMERGENCY_STOP_DECLARED, payload, actor="olga", key="stop")
    try:
        assert httpx.get(f"{airflow}/interlock/api/v1/in-force").status_code == 401
        for asked in ("", f"?dag_id={RELEASE}", "?dag_id=train_weekly"):
            found = console.ask("nora", "GET", f"/interlock/api/v1/in-force{asked}").json()
            assert found["stops"] == [str(declared)]
            assert "audit in calendars/audit.yaml" in "".join(found["freezes"])
        for unknown in ("release_nothing", "train_nothing"):
            assert console.ask("nora", "GET", f"/interlock/api/v1/in-force?dag_id={unknown}").status_code == 503
        banner = f"Emergency stop in force: {declared}"
        both = [banner, re.compile("^Freeze in force: .*The yearly audit")]
        expect(opened(airflow, page).get_by_role("alert")).to_have_text(both)
        tab = page.get_by_test_id("interlock-release")
        visit(page, f"{airflow}/dags/{RELEASE}/runs/{quote(RUN_ID, safe='')}/plugin/release")
        expect(tab.get_by_role("alert")).to_have_text(both)
        visit(page, f"{airflow}/dags/{RELEASE}/runs/{quote(BACKED_OUT_ID, safe='')}/plugin/release")
        expect(tab.get_by_role("heading", name="Stages")).to_be_visible()
        expect(tab.get_by_role("alert")).to_have_count(0)  # it has ended: nothing stops it
        visit(page, f"{airflow}/")
        expect(page.get_by_test_id("interlock-home").get_by_role("alert")).to_have_text(both)
    finally:
        with console.ledger() as ledger:
            lifted = {"id": "a1", "by": "maya", "scope": "bike-shop", "reason": "It is out"}
            ledger.append(INSTALLATION, EMERGENCY_STOP_LIFTED, lifted, actor="maya", key="lift")
    assert console.ask("nora", "GET", "/interlock/api/v1/in-force").json()["stops"] == []
