"""After the vote: what is changed around an approved release before its first wave.

One approved release waits for support to acknowledge its training. What is changed is changed for real, a permit is
asked for as the wave's task asks, and it is changed back; at the end, everything is in the release's way at once, and
Airflow is let go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import pytest

from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, EMERGENCY_STOP_LIFTED
from tests.end_to_end.people import Release
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import approved, go
from .suite import HOST, KEEPER, MANAGER, MEMBER, OWNER, attack, case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.attacks]
FREEZE_IN = timedelta(minutes=10)
"""By then the release is approved, and everything has been tried that is not the freeze, on a slow machine, too."""
CHANGED = "The policy, the board or the file of the service changed after the release started."


class Changes:
    """What is changed about a stack, and how it was."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.catalogue = stack, stack.settings.catalogue

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """Have a file of the catalogue say something else for a block."""
        path = self.catalogue / name
        before = path.read_text()
        assert before.count(old) == 1, f"{name} says {old!r} {before.count(old)} times"
        path.write_text(before.replace(old, new))
        try:
            yield
        finally:
            path.write_text(before)

    @contextmanager
    def added(self, name: str, text: str) -> Iterator[None]:
        """Have another file in the catalogue for a block."""
        path = self.catalogue / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        try:
            yield
        finally:
            path.unlink()

    @contextmanager
    def without_cora(self) -> Iterator[None]:
        """Have a board without one of those who approved for a block, and nothing that asks for her."""
        with (
            self.edited("board.yaml", "[ben, cora, dan, rita]", "[ben, dan, rita]"),
            self.edited("board.yaml", "      veto: [cora]", "      veto: [dan]"),
            self.edited("board.yaml", "operations: 1, security: 1 }\n\n# Delegates", "operations: 1 }\n\n# Delegates"),
        ):
            yield

    @contextmanager
    def bundle(self, release: Release, data: bytes | None) -> Iterator[None]:
        """Have other bytes, or none, in the place of the bundle for a block."""
        path = Path(urlsplit(wave.plan_of(release).bundle.uri).path)
        before, mode = path.read_bytes(), path.stat().st_mode
        path.chmod(0o600)
        path.unlink() if data is None else path.write_bytes(data)
        try:
            yield
        finally:
            path.write_bytes(before)
            path.chmod(mode)

    @contextmanager
    def stopped(self, scope: str) -> Iterator[None]:
        """Have an emergency stop for a block."""
        until = datetime.now(UTC) + timedelta(hours=1)
        stop = EmergencyStop(id=token_hex(4), scope=scope, reason="The warehouse burns", by="olga", until=until)
        self._record(EMERGENCY_STOP_DECLARED, stop.model_dump(mode="json"), stop.id)
        try:
            yield
        finally:
            self._record(
                EMERGENCY_STOP_LIFTED, {"id": stop.id, "scope": scope, "by": "olga", "reason": "It is out"}, stop.id
            )

    @contextmanager
    def another_port(self, database: AirflowDatabase, connection: str) -> Iterator[None]:
        """Have a connection lead to another port for a block, of which Airflow's audit log has no row."""
        edit = "UPDATE connection SET port = %s WHERE conn_id = %s"
        database.run(edit, self.stack.settings.ssh_port + 1, connection)
        try:
            yield
        finally:
            database.run(edit, self.stack.settings.ssh_port, connection)

    def _record(self, kind: str, payload: dict[str, object], key: str) -> None:
        with wave.ledger() as ledger:
            ledger.append(INSTALLATION, kind, payload, actor="olga", key=f"{kind}/{key}")


@pytest.fixture(scope="module")
def changes(stack: Stack) -> Changes:
    return Changes(stack)


def freeze(title: str, begins: datetime) -> str:
    """Return a calendar with a day's freeze."""
    first, last = (at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (begins, begins + timedelta(days=1)))
    entry = f"{{ name: freeze, title: {title}, kind: freeze, from: {first}, until: {last} }}"
    return f"title: Freezes\nowner: the office\ntime_zone: UTC\nentries:\n  - {entry}\n"


@pytest.fixture(scope="module")
def freeze_begins(changes: Changes) -> Iterator[datetime]:
    """Have a freeze in a calendar from before the release was asked for; it begins after the vote."""
    begins = datetime.now(UTC) + FREEZE_IN
    with changes.added("calendars/stocktaking.yaml", freeze("Stocktaking", begins)):
        yield begins


@pytest.fixture(scope="module")
def waiting(stack: Stack, freeze_begins: datetime) -> Release:
    """A release that is approved, and waits for support."""
    return approved(stack)


def test_the_release_would_get_a_permit_if_nothing_happened(waiting: Release, freeze_begins: datetime) -> None:
    assert wave.refusal(waiting) == ""
    assert datetime.now(UTC) < freeze_begins, "the machine is too slow: the freeze has begun already"


Change = Callable[[Changes, Release], AbstractContextManager[None]]


def edit(name: str, old: str, new: str) -> Change:
    """Return a change of the catalogue."""
    return lambda changes, release: changes.edited(name, old, new)


BIKE_SHOP = "services/bike-shop.yaml"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        case(
            lambda changes, release: changes.bundle(release, b"something else"),
            "The bundle has the digest",
            what="replace the artifact's bytes in the store",
            by=HOST,
            way="store",
            stopped="its bytes are read again before each wave",
        ),
        case(
            lambda changes, release: changes.bundle(release, None),
            "The bundle is not in the artifact store",
            what="delete the artifact from the store",
            by=HOST,
            way="store",
            stopped="its bytes are read again before each wave",
        ),
        case(
            edit(BIKE_SHOP, "    count: 3\n", "    count: 2\n"),
            CHANGED,
            what="change the hosts in the catalogue after the vote",
            by=KEEPER,
            way="catalogue",
            stopped="the plan that was voted on has the catalogue's digest",
        ),
        case(
            edit("board.yaml", "      approvals: 2\n      veto", "      approvals: 1\n      veto"),
            CHANGED,
            what="lower the quorum after the vote",
            by=KEEPER,
            way="catalogue",
            stopped="the plan that was voted on has the catalogue's digest",
        ),
        case(
            edit(BIKE_SHOP, "max_skipped_tests: 0", "max_skipped_tests: 1"),
            CHANGED,
            what="change a threshold after the vote",
            by=KEEPER,
            way="catalogue",
            stopped="the plan that was voted on has the catalogue's digest",
        ),
        case(
            edit("board.yaml", "[ben, cora, dan, rita]", "[ben, dan, rita]"),
            "quorum.veto",
            what="keep the vote of a member who was taken from the board, but not from its quorum",
            by=MEMBER,
            way="catalogue",
            stopped="a catalogue that contradicts itself permits nothing",
        ),
        case(
            lambda changes, release: changes.without_cora(),
            "only 1 of 2 approvals",
            what="keep the vote of a member who left the board after voting",
            by=MEMBER,
            way="catalogue",
            stopped="votes are counted again before each wave, by the board as it is then",
        ),
        case(
            lambda changes, release: changes.stopped("everything"),
            "Emergency stop: everything, by olga: The warehouse burns",
            what="go on when everything was stopped after the vote",
            by=MANAGER,
            way="ledger",
            stopped="emergency stops are looked for before each wave",
        ),
        case(
            lambda changes, release: changes.stopped("bike-shop"),
            "Emergency stop: bike-shop",
            what="go on when the service was stopped after the vote",
            by=MANAGER,
            way="ledger",
            stopped="emergency stops are looked for before each wave",
        ),
    ],
)
def test_what_changes_after_the_vote_stops_the_release(
    changes: Changes, waiting: Release, change: Change, why: str
) -> None:
    with change(changes, waiting):
        refused = wave.refusal(waiting)
    assert refused
    assert why in refused
    assert wave.refusal(waiting) == "", "it is not as it was"


@attack(
    "go on when a freeze was added after the vote",
    by=MANAGER,
    way="catalogue",
    stopped="freezes are looked for before each wave",
)
def test_a_freeze_that_is_added_holds(changes: Changes, waiting: Release) -> None:
    with changes.added("calendars/fire.yaml", freeze("Fire", datetime.now(UTC))):
        assert "closed by Fire (freeze in calendars/fire.yaml)" in wave.refusal(waiting)
    assert wave.refusal(waiting) == ""


@attack(
    "edit a connection of production after the vote, without a row in the audit log that names it",
    by=OWNER,
    way="database",
    stopped="connections are compared with those of the plan before each wave, by what they are",
)
@attack(
    "go on into a freeze that begins after the vote",
    by=MANAGER,
    way="API",
    stopped="no permit is given during a freeze, whenever the board voted",
)
def test_everything_at_once_is_refused_by_airflow_with_every_reason(
    stack: Stack, changes: Changes, waiting: Release, freeze_begins: datetime, database: AirflowDatabase
) -> None:
    time.sleep(max((freeze_begins - datetime.now(UTC)).total_seconds(), 0) + 1)
    with (
        changes.bundle(waiting, b"something else"),
        changes.stopped("retail"),
        changes.another_port(database, "interlock_hosts"),
    ):
        go(stack, waiting)
        assert waiting.finish() == "failed"
    outcome = waiting.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "implementation")
    for why in (
        "closed by Stocktaking",
        "Emergency stop: retail, by olga",
        "The bundle has the digest",
        "The connection interlock_hosts is not what it was when the plan was frozen: it differs in port.",
    ):
        assert why in outcome["reason"], outcome["reason"]
    assert {one.payload["permit"]["purpose"] for one in wave.entries(waiting, "permit.issued")} == {"inspect"}
