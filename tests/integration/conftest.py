"""What the integration tests share: an Airflow takes long to start, and so does a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from interlock.estate.settings import LOOPBACK, Settings
from tests.browser import chromium, opened_context
from tests.integration.console_server import Console, console_server
from tests.integration.ledger_server import begin_again, ledger_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

VIEW: ViewportSize = {"width": 1400, "height": 1150}


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Airflow with our auth manager; see ``console_airflow``."""
    with console_server(tmp_path_factory.mktemp("airflow")) as running:
        yield running


@pytest.fixture(scope="module")
def own_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """An Airflow of a file's own: what it shows is what the file's tests put there (``console = own_console``)."""
    with console_server(tmp_path_factory.mktemp("airflow")) as running:
        yield running


@pytest.fixture(scope="session")
def started_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A PostgreSQL for all modules of a worker."""
    with ledger_server(tmp_path_factory.mktemp("postgres")) as settings:
        yield settings


@pytest.fixture(scope="module")
def server(started_server: Settings) -> Settings:
    """A PostgreSQL with an empty ledger."""
    begin_again(started_server)
    return started_server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not of the session: Playwright keeps an event loop in this thread, in which no other test could run its own.
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def login(console: Console) -> Any:
    """Return what the browser keeps once rita is logged in."""
    return logged_in(console, "rita")


def logged_in(console: Console, user: str) -> Any:
    """Return what a browser keeps once a user is logged in.

    Not through the form: FAB allows five log-ins in 40 seconds of an address, and all tests have the same one.
    """
    cookie = {"name": "_token", "value": console.token(user), "domain": LOOPBACK, "path": "/", "sameSite": "Lax"}
    return {"cookies": [{**cookie, "expires": -1, "httpOnly": True, "secure": False}], "origins": []}


@pytest.fixture(scope="module")
def readers(airflow: str, browser: Browser, login: Any) -> Iterator[BrowserContext]:
    """Return rita's browser, which loads and compiles Airflow's pages once for all tests of a module."""
    with opened_context(browser, viewport=VIEW, timezone_id="Europe/Berlin", storage_state=login) as context:
        yield context


@pytest.fixture(scope="module")
def tab(airflow: str, readers: BrowserContext) -> tuple[Page, list[str]]:
    """Return a page of rita's browser, and what it asked of another server or a content policy stopped, as it comes."""
    opened, wrong = readers.new_page(), []
    ours = (airflow, "data:", "blob:")
    opened.on("request", lambda asked: wrong.extend(() if asked.url.startswith(ours) else (asked.url,)))
    opened.on("console", lambda line: wrong.extend((line.text,) if "Content Security Policy" in line.text else ()))
    return opened, wrong


@pytest.fixture
def page(airflow: str, readers: BrowserContext, login: Any, tab: tuple[Page, list[str]]) -> Iterator[Page]:
    """Return a page of rita's browser; what it asks of another server, or the content policy stops, fails the test.

    It is the same one for all tests of a module, so that they need not load Airflow anew: see ``browser.visit``.
    """
    opened, wrong = tab
    yield opened
    # The next test finds nothing of this one: no made-up answer, no choice that Airflow remembers, no other login.
    opened.unroute_all(behavior="ignoreErrors")
    opened.set_viewport_size(VIEW)
    kept = {"origin": airflow, "storageTypes": "local_storage"}
    readers.new_cdp_session(opened).send("Storage.clearDataForOrigin", kept)
    readers.add_cookies(login["cookies"])  # never without: a page that is logged out loads itself anew
    found, wrong[:] = list(wrong), []
    assert found == []
