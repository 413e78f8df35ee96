"""The page Measures on a real Airflow, in a browser: figures, the releases that they count, filters in the address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from interlock.adapters.ledger.ledger import open_ledger
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    PLAN_MADE,
    QUESTION_MAILED,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    WAVE_DEPLOYED,
)
from tests.integration.conftest import own_console
from tests.integration.console_airflow import RELEASE
from tests.integration.console_server import Console
from tests.integration.ledger_server import superuser_connection

MEASURED = "7.1.0"
ATTACK = "<img src=x onerror=alert(1)>"
"""A user name; none of it may become markup."""


console = own_console


@pytest.fixture(scope="module")
def airflow(console: Console) -> str:
    """An Airflow whose ledger has a release that is measured."""
    tell(console)
    return console.base


def tell(console: Console) -> None:
    """Tell the ledger of a release that was deployed, with a commit of two days before and two votes."""
    chain = release_chain(RELEASE, MEASURED)
    committed = datetime.now(UTC) - timedelta(days=2)
    ballot = {"task_id": "rollout.cast_ballot", "map_index": 0}
    end = {"service": "bike-shop", "version": MEASURED, "change_type": "emergency", "outcome": "deployed"}
    steps: list[tuple[str, dict[str, Any]]] = [
        (RELEASE_REQUESTED, {"service": "bike-shop", "change_type": "emergency"}),
        (PLAN_MADE, {"service": "bike-shop", "commits": [{"at": committed.isoformat()}]}),
        (QUESTION_MAILED, {**ballot, "users": ["ben", ATTACK]}),
        (ANSWER_GIVEN, {**ballot, "user": "ben"}),
        (ANSWER_GIVEN, {**ballot, "user": ATTACK}),
        (WAVE_DEPLOYED, {"number": 1}),
    ]
    with open_ledger(superuser_connection(console.postgres)) as ledger:  # answers are the API server's to append
        for number, (kind, payload) in enumerate(steps):
            ledger.append(chain, kind, payload, actor="test", key=f"measured/{number}")
        ledger.append(
            INSTALLATION, RELEASE_ENDED, {**end, "run": f"{RELEASE}/{MEASURED}"}, actor="test", key="measured"
        )


def opened(page: Page, airflow: str, query: str = "") -> None:
    page.goto(f"{airflow}/plugin/measures{query}")
    expect(page.get_by_role("heading", name="Measures", level=1)).to_be_visible()
    expect(page.get_by_role("heading", name="Change lead time")).to_be_visible()


def test_a_figure_opens_into_the_releases_that_it_counts(airflow: str, page: Page) -> None:
    opened(page, airflow)
    row = page.locator("[data-measure=change_lead_time]")
    expect(row).to_contain_text("2 d")
    counted = row.get_by_role("button", name="Releases that Change lead time counts")
    expect(counted).to_have_attribute("aria-expanded", "false")
    counted.press("Enter")
    expect(row.get_by_role("link", name=f"bike-shop {MEASURED}")).to_have_attribute(
        "href", f"/dags/{RELEASE}/runs/{MEASURED}/plugin/release"
    )
    expect(row).to_contain_text("emergency, deployed")


def test_plots_have_the_same_as_a_table(airflow: str, page: Page) -> None:
    opened(page, airflow, "?days=30")
    plot = page.get_by_role("figure").filter(has_text="Releases that ended")
    expect(plot.get_by_role("img", name="Releases that ended, by week")).to_be_visible()
    plot.get_by_text("As a table").press("Enter")
    rows = plot.get_by_role("region", name="Releases that ended, as a table").get_by_role("row")
    expect(rows).to_have_count(1 + 5)
    expect(rows.last).to_contain_text("1")


def test_seats_show_what_people_took_and_names_are_text(airflow: str, page: Page) -> None:
    opened(page, airflow)
    expect(page.get_by_role("row", name="Rollout plan and CAB ben 1")).to_be_visible()
    expect(page.get_by_role("cell", name=ATTACK)).to_be_visible()
    assert page.locator("img[src=x]").count() == 0


def test_filters_are_in_the_address(airflow: str, page: Page) -> None:
    opened(page, airflow, "?days=30")
    expect(page.get_by_label("Time", exact=True)).to_have_value("30")
    page.get_by_label("Service", exact=True).select_option("bike-shop")
    expect(page).to_have_url(f"{airflow}/plugin/measures?days=30&service=bike-shop")
    opened(page, airflow, "?service=nothing")
    row = page.locator("[data-measure=releases]")
    expect(row).to_contain_text("0 releases")
    expect(page.get_by_text("No question was answered in this time.")).to_be_visible()
