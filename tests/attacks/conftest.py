"""One stack for all attacks, and what holds after each of them: production runs what it ran before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.locations import PROJECT
from tests.end_to_end.people import Release
from tests.end_to_end.stack import Stack, running_stack

from . import wave
from .databases import AirflowDatabase, LedgerDatabase
from .people import INJECTION, accepted, vote

NETWORK = "127.43.0"


def catalogue_to_attack(folder: Path) -> Path:
    """Copy the catalogue: the emergency board has 20 seconds, the release manager sits on the CAB, and the train
    takes a version that works.

    The bypass detector looks when it is asked to: what attacks change for a moment must not meet it by chance.
    """
    shutil.copytree(PROJECT / "include" / "catalogue", folder)
    for name, old, new in (
        ("board.yaml", "deadline: PT1H", "deadline: PT20S"),
        ("board.yaml", "[ben, cora, dan]", "[ben, cora, dan, rita]"),
        ("policy.yaml", "every: PT5M", "every: PT24H"),
        ("trains/weekly.yaml", 'tags: "1.*"', 'tags: "1.1.0"'),
    ):
        text = (folder / name).read_text()
        assert text.count(old) == 1, f"{old} is elsewhere in {name} now"
        (folder / name).write_text(text.replace(old, new))
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack whose production runs 1.0.0; this process has its connections."""
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, catalogue_to_attack, network=NETWORK) as running, pytest.MonkeyPatch.context() as patch:
        wave.connect(running.settings, patch)
        yield running


@pytest.fixture(scope="session")
def database(stack: Stack) -> AirflowDatabase:
    """Airflow's database."""
    return AirflowDatabase(stack.settings)


@pytest.fixture(scope="session")
def ledger_database(stack: Stack) -> LedgerDatabase:
    """The ledger's database."""
    return LedgerDatabase(stack.settings)


@pytest.fixture(autouse=True)
def _production_is_untouched(stack: Stack) -> Iterator[None]:
    before = stack.production()
    yield
    assert stack.production() == before
    assert stack.in_service() == len([host for host in stack.settings.hosts() if host.environment == "production"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what changes production last, in whatever order the files are named: the others expect what ran before."""
    items.sort(key=lambda item: item.path.stem == "test_when_deployed")


@pytest.fixture(scope="module")
def at_board(stack: Stack) -> Iterator[Release]:
    """A release on which the board is voting; its requester sits on the board, and its summary wants to be believed."""
    release = accepted(stack, summary=INJECTION)
    yield release
    reject(stack, release)


@pytest.fixture(scope="session")
def rejected(stack: Stack) -> Release:
    """Such a release, which one member approved, when the member with the veto has rejected it and it was closed."""
    release = accepted(stack, summary=INJECTION)
    vote(stack, release, "ben", "Approve")
    reject(stack, release)
    return release


def reject(stack: Stack, release: Release) -> None:
    """Have the member with the veto reject a release, and wait for its end."""
    vote(stack, release, "cora", "Reject", "The basket cookie is not marked secure")
    assert release.finish() == "failed"
