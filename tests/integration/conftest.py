"""What the integration tests share: an Airflow takes long to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.console_server import Console, console_server


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Airflow with our auth manager; see ``console_airflow``."""
    with console_server(tmp_path_factory.mktemp("airflow")) as running:
        yield running
