"""An Airflow that is served below a path, ``https://host/airflow``: its doors are as closed, and its pages find it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from interlock.adapters.airflow.execution_api import refuse_unguarded, served_by
from interlock.adapters.airflow.rest_api import AirflowApi, url_of
from interlock.adapters.airflow.watched_runs import watched_runs
from interlock.stages.runtime.notices import page_link
from tests.browser import chromium, log_in, opened_page
from tests.clock import NOW
from tests.integration.console_airflow import RELEASE, RUN_ID
from tests.integration.console_server import Console, console_server

BELOW = "/airflow"
RUN = quote(RUN_ID, safe="")
TASKS = f"/api/v2/dags/{RELEASE}/dagRuns/{RUN}/taskInstances"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console_server(tmp_path_factory.mktemp("below"), below=BELOW) as running:
        assert running.base.endswith(BELOW)
        yield running


@pytest.mark.parametrize("host", ["with the path", "without it"])
def test_nobody_goes_round_a_release(console: Console, host: str) -> None:
    base = console.base if host == "with the path" else console.base.removesuffix(BELOW)
    headers = {"Authorization": f"Bearer {console.token('admin')}"}
    for method, path, body in (
        ("PATCH", f"{TASKS}/rollout.await_board", {"new_state": "success"}),
        ("DELETE", f"/api/v2/dags/{RELEASE}/dagRuns/{RUN}", None),
        ("PATCH", "/api/v2/connections/interlock_ledger", {"connection_id": "interlock_ledger", "conn_type": "http"}),
        ("POST", f"/api/v2/dags/{RELEASE}/dagRuns", {"logical_date": None, "conf": {"version": "x"}}),
    ):
        answer = httpx.request(method, base + path, json=body, headers=headers, timeout=60)
        assert answer.status_code in (403, 422), f"{method} {path}: {answer.status_code} {answer.text}"


def test_tasks_find_its_api_below_the_path_that_airflow_is_configured_with(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = urlsplit(console.base)
    login = SimpleNamespace(
        host=where.hostname, port=where.port, schema="http", login="interlock_reader", password="interlock_reader"
    )
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"https://airflow.example.com{BELOW}/")
    assert url_of(login) == console.base
    with AirflowApi.of(login) as api:
        assert api.run_state(RELEASE, RUN_ID) == "running"
        assert watched_runs(api, {(RELEASE, RUN_ID): NOW})[RELEASE, RUN_ID].state == "running"
        assert api.answers(RELEASE, RUN_ID)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    assert url_of(SimpleNamespace(**vars(login), extra_dejson={"path": "airflow/"})) == console.base
    assert url_of(SimpleNamespace(**vars(login), extra_dejson={})) == console.base.removesuffix(BELOW)


def test_releases_see_that_it_is_guarded(console: Console) -> None:
    refuse_unguarded(f"{console.base}/execution/")
    said = served_by(f"{console.base}/execution", "bike-shop")
    assert said is not None
    assert said.guard == "auth manager"
    assert set(said.rules) == {"standard", "normal", "emergency"}


def test_mails_and_calendars_lead_below_the_path(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"https://airflow.example.com{BELOW}/")
    assert page_link("dags/x") == f"<https://airflow.example.com{BELOW}/dags/x>"
    when = "start=2026-11-01T00:00:00Z&end=2026-12-31T00:00:00Z"
    feed = console.ask("audrey", "GET", f"/interlock/api/v1/schedule?{when}").json()["feed"]
    text = httpx.get(f"{console.base}/{feed}", timeout=60).raise_for_status().text
    links = [line.partition(":")[2] for line in text.splitlines() if line.startswith("URL")]
    assert all(urlsplit(link).path.startswith(f"{BELOW}/") for link in links), links


def test_the_pages_of_a_release_find_airflow_and_lead_to_it(console: Console) -> None:
    with chromium() as browser, opened_page(browser) as page:
        page.goto(f"{console.base}/dags/{RELEASE}/runs/{RUN}/plugin/release")
        log_in(page, "cora", "cora")
        page.goto(f"{console.base}/dags/{RELEASE}/runs/{RUN}/plugin/release")
        shown = page.get_by_test_id("interlock-release")
        expect(shown.get_by_role("heading", name="Bike shop 1.1.0 running")).to_be_visible()
        shown.get_by_role("link", name="Build and configure").click()
        page.wait_for_url(f"**{BELOW}/dags/**/tasks/group/build**")
        page.goto(f"{console.base}/plugin/release-calendar")
        calendar = page.get_by_test_id("interlock-calendar")
        expect(calendar.get_by_role("tab", name="Week")).to_be_visible()
        page.goto(f"{console.base}/")
        home = page.get_by_test_id("interlock-home")
        expect(home.get_by_role("link")).to_have_count(2)
        home.get_by_role("link").first.click()
        page.wait_for_url(f"**{BELOW}/dags/{RELEASE}/**/required_actions**")
