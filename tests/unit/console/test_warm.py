"""What the pages share is read before somebody asks for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import BackgroundTasks, Request

from interlock.adapters.calendars.copies import CopiesThere
from interlock.adapters.overview.plans import KnownPlans
from interlock.domain.errors import CatalogueError
from interlock.locations import CATALOGUE
from tests.memory_ledger import MemoryLedger

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with `starlette.testclient`"
)  # Airflow's routes import it


def test_catalogue_and_ledger_are_read_once_a_page_is_loaded(tmp_path: Path) -> None:
    from interlock.console.api.board import Overview
    from interlock.console.pages.pages import create_app, static_file

    opened: list[MemoryLedger] = []

    def open_ledger() -> MemoryLedger:
        opened.append(MemoryLedger())
        return opened[-1]

    known = KnownPlans(CATALOGUE, lambda now: CopiesThere(tmp_path, now=now))
    overview = Overview(open_ledger, flights=dict, plans=known)
    app, later = create_app(), BackgroundTasks()
    app.state.overview = overview
    static_file("pages.js", Request({"type": "http", "app": app}), later)
    assert [task.func for task in later.tasks] == [overview.warm]
    overview.warm()
    overview.warm()
    assert len(opened) == 1
    assert known.at(datetime.now(UTC)) is known.at(datetime.now(UTC))


def test_a_ledger_that_cannot_be_read_does_not_keep_a_page_from_being_loaded(tmp_path: Path) -> None:
    from interlock.console.api.board import Overview

    def broken() -> MemoryLedger:
        raise CatalogueError("It is not there.")

    known = KnownPlans(CATALOGUE, lambda now: CopiesThere(tmp_path, now=now))
    overview = Overview(broken, flights=dict, plans=known)
    overview.warm()
    with pytest.raises(CatalogueError):
        overview.recorded({})
