"""What the integration tests share: an Airflow takes long to start, and so does a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.console_server import Console, console_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER_WAIT_MS = 240_000
"""The longest wait for what a page shows. Airflow's pages load much, and other tests have the machine as well."""


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Airflow with our auth manager; see ``console_airflow``."""
    with console_server(tmp_path_factory.mktemp("airflow")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not of the session: Playwright keeps an event loop in this thread, in which no other test could run its own.
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=BROWSER_WAIT_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def login(airflow: str, browser: Browser) -> Any:
    """Log rita in through the page where people do, once; return what the browser then keeps."""
    return logged_in(airflow, browser, "rita")


def logged_in(airflow: str, browser: Browser, user: str) -> Any:
    """Log a user in through the page where people do; return what the browser then keeps."""
    context = browser.new_context()
    context.set_default_timeout(BROWSER_WAIT_MS)
    page = context.new_page()
    page.goto(f"{airflow}/auth/login/")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", user)
    page.click("input[type=submit]")
    page.wait_for_selector("[data-testid=nav-sidebar]")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def page(airflow: str, browser: Browser, login: Any) -> Iterator[Page]:
    """Return rita's browser; what it asks of another server, or what the content policy stops, fails the test."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 1150}, timezone_id="Europe/Berlin", storage_state=login
    )
    context.set_default_timeout(BROWSER_WAIT_MS)
    opened = context.new_page()
    strangers: list[str] = []
    stopped: list[str] = []
    ours = (airflow, "data:", "blob:")
    opened.on("request", lambda asked: strangers.extend(() if asked.url.startswith(ours) else (asked.url,)))
    opened.on("console", lambda line: stopped.extend((line.text,) if "Content Security Policy" in line.text else ()))
    yield opened
    context.close()
    assert strangers == []
    assert stopped == []
