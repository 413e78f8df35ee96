"""The OpenAPI document in docs/ is that of the code; the pages' client is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.console.api.document import document

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")  # Airflow's routes import it
def test_the_document_is_current() -> None:
    assert (DOCS / "openapi.json").read_text() == document(), "run make api"
