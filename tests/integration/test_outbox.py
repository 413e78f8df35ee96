"""The outbox in PostgreSQL: what is due, who has it, pauses and retries; and rounds of deliveries by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from interlock.adapters.ledger.deliveries import MAX_FAILURES, Outbox
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.outbox import runs
from interlock.adapters.outbox.runs import deliver_due, told_of
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.domain.errors import DeliveryRefused, SystemBusy, TransientError
from interlock.domain.ledger.kinds import FINDING
from interlock.domain.ledger.runs import run_of
from interlock.domain.outbox.delivery import Cursor, Delivery, Remote
from interlock.domain.outbox.facts import Statement
from interlock.estate.settings import Settings
from tests.factories.told_releases import chain_of, steps
from tests.integration.ledger_server import ledger_connection
from tests.unit.adapters.test_delivering import EVENTS


@pytest.fixture(scope="module")
def ledger(server: Settings) -> Iterator[Ledger]:
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


NUMBERS = count(1)


@pytest.fixture
def snow() -> str:
    """Return a system of this test alone."""
    return f"snow{next(NUMBERS)}"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    key = tmp_path_factory.mktemp("key") / "signing.pem"
    generate_key(key)
    return load_signer(key.as_uri())


class Records:
    """A system in memory with the records of many releases; ``refuses`` and ``fails`` say what it does to changes."""

    gathers = False

    def __init__(self) -> None:
        self.records: dict[str, Remote] = {}
        self.events: dict[str, list[str]] = {}
        self.error: Exception | None = None
        self.calls = 0

    def find(self, correlation: str) -> Sequence[Remote]:
        self.calls += 1
        if self.error:
            raise self.error
        return [self.records[correlation]] if correlation in self.records else []

    def create(self, correlation: str, statement: Statement) -> Remote:
        made = Remote(reference=correlation, number=f"CHG{len(self.records) + 1}")
        return self.records.setdefault(correlation, made)

    def change(self, remote: Remote, statement: Statement) -> Remote:
        self.events.setdefault(remote.reference, []).append(statement.event)
        self.records[remote.reference] = remote.model_copy(update={"told": statement.told})
        return self.records[remote.reference]

    def withdraw(self, duplicate: Remote, original: Remote) -> None:
        raise AssertionError("there are no duplicates")

    def close(self) -> None:
        return


def released(ledger: Ledger, signer: Signer, system: str, end: str = "deployed") -> str:
    chain = chain_of(next(NUMBERS))
    for place, (kind, payload) in enumerate(steps(end, records={system: "mirror"})):
        ledger.append(chain, kind, payload, actor="rita", key=f"{kind}/{place}")
    ledger.sign_head(chain, signer)
    return chain


def nothing_else(service: str) -> tuple[str, ...]:
    return (service,)


def test_releases_are_told_to_the_systems_that_their_policy_names(ledger: Ledger, signer: Signer, snow: str) -> None:
    chains = [released(ledger, signer, snow) for _ in range(3)]
    released(ledger, signer, "jira")
    system = Records()
    done = deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    assert (done.told, done.failing, done.refused) == (3, 0, ())
    assert [*system.events.values()] == [EVENTS] * 3
    rows = [one for one in Outbox(ledger).all() if one.system == snow]
    assert [one.chain for one in rows] == chains
    assert {one.state for one in rows} == {"told"}
    assert {one.number for one in rows} == {"CHG1", "CHG2", "CHG3"}
    assert deliver_due(snow, system, ledger, nothing_else, [signer.public_key]).told == 0


def test_what_comes_later_is_told_later_and_after_the_end_too(ledger: Ledger, signer: Signer, snow: str) -> None:
    chain = chain_of(next(NUMBERS))
    system = Records()
    for place, (kind, payload) in enumerate(steps(records={snow: "mirror"})):
        ledger.append(chain, kind, payload, actor="rita", key=f"{kind}/{place}")
        ledger.sign_head(chain, signer)
        deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    ledger.append(chain, FINDING, {"what": "A task was marked."}, actor="reconcile", key="finding/1")
    deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    assert [*system.events.values()] == [[*EVENTS, "contradiction"]]


def test_the_outbox_has_work_only_when_something_is_new_or_due(ledger: Ledger, signer: Signer, snow: str) -> None:
    outbox = Outbox(ledger)
    assert outbox.has_work([snow])
    deliver_due(snow, Records(), ledger, nothing_else, [signer.public_key])
    assert not outbox.has_work([snow])
    released(ledger, signer, snow)
    assert outbox.has_work([snow])
    deliver_due(snow, Records(), ledger, nothing_else, [signer.public_key])
    assert not outbox.has_work([snow])
    assert outbox.next_at([snow]) is not None  # the record is read again after the end


def test_a_refusal_is_shown_and_a_retry_makes_it_due(ledger: Ledger, signer: Signer, snow: str) -> None:
    chain, other = released(ledger, signer, snow), released(ledger, signer, snow)
    system, outbox = Records(), Outbox(ledger)
    system.error = DeliveryRefused("assignment_group is mandatory")
    done = deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    assert [one.chain for one in done.refused] == [chain, other]
    assert outbox.due(snow, 10) == ()
    system.error = None
    assert [one.chain for one in outbox.retry(snow, other)] == [other]
    assert deliver_due(snow, system, ledger, nothing_else, [signer.public_key]).told == 1
    assert {one.chain: one.state for one in outbox.all() if one.system == snow} == {chain: "refused", other: "told"}
    outbox.retry(snow)
    assert deliver_due(snow, system, ledger, nothing_else, [signer.public_key]).told == 1


def test_a_busy_system_is_left_alone_until_the_time_that_it_names(ledger: Ledger, signer: Signer, snow: str) -> None:
    for _ in range(20):
        released(ledger, signer, snow, "failed")
    system = Records()
    until = datetime.now(UTC) + timedelta(hours=1)
    system.error = SystemBusy("429", until=until)
    deliver_due(snow, system, ledger, nothing_else, [signer.public_key], parallel=2)
    assert system.calls <= 2
    assert Outbox(ledger).due(snow, 10) == ()
    assert Outbox(ledger).next_at([snow]) == until


def test_a_system_that_does_not_answer_is_asked_less(ledger: Ledger, signer: Signer, snow: str) -> None:
    for _ in range(20):
        released(ledger, signer, snow, "failed")
    system, outbox = Records(), Outbox(ledger)
    system.error = TransientError("no answer")
    deliver_due(snow, system, ledger, nothing_else, [signer.public_key], parallel=1)
    assert outbox.due(snow, 30) == ()
    assert system.calls == MAX_FAILURES + 1, "the other releases wait without an attempt of their own"
    with ledger.writing() as connection:
        over = text("UPDATE ledger.delivery_systems SET paused_until = now() WHERE system = :snow")
        connection.execute(over, {"snow": snow})
    assert len(outbox.due(snow, 30)) == 1, "one release is tried, before the others follow"
    outbox.answered(snow)
    assert len(outbox.due(snow, 30)) > 1
    outbox.pause(snow, "no answer", datetime.now(UTC) + timedelta(hours=1))
    outbox.retry(snow)
    assert outbox.due(snow, 30) != ()


def test_one_process_at_a_time_delivers_to_a_system(ledger: Ledger, signer: Signer, snow: str) -> None:
    released(ledger, signer, snow)
    with ledger.alone(f"delivery/{snow}") as first:
        assert first
        assert deliver_due(snow, Records(), ledger, nothing_else, [signer.public_key]).told == 0


def test_a_process_that_was_overtaken_changes_no_row(ledger: Ledger, signer: Signer, snow: str) -> None:
    chain = released(ledger, signer, snow)
    outbox = Outbox(ledger)
    outbox.discover(snow, lambda _: [chain])
    ((version, delivery),) = outbox.due(snow, 10)
    told = delivery.found(Remote(reference="a", number="CHG1", told=Cursor(3, 0)))
    assert outbox.keep(version, told) == version + 1
    assert outbox.keep(version, delivery) is None
    (kept,) = outbox.all(chains=[chain])
    assert (kept.number, kept.told) == ("CHG1", Cursor(3, 0))
    assert isinstance(kept, Delivery)


def test_an_intent_is_kept_as_it_was(ledger: Ledger, signer: Signer, snow: str) -> None:
    chain = released(ledger, signer, snow)
    outbox = Outbox(ledger)
    outbox.discover(snow, lambda _: [chain])
    ((version, delivery),) = outbox.due(snow, 10)
    asked = delivery.intends("create", Cursor(2, 1), datetime(2026, 3, 2, 12, tzinfo=UTC))
    outbox.keep(version, asked)
    ((_, kept),) = outbox.due(snow, 10)
    assert kept == asked


def test_what_is_said_of_a_release_is_read_from_the_ledger(ledger: Ledger, signer: Signer, snow: str) -> None:
    chain = released(ledger, signer, snow, "rejected")
    assert [one.event for one in told_of(ledger, chain, nothing_else, [signer.public_key]).statements] == [
        "planned",
        "frozen",
        "decided",
        "closed",
    ]


def test_what_another_key_signed_is_not_told_until_the_installation_signs_it(
    ledger: Ledger, signer: Signer, snow: str, tmp_path: Path
) -> None:
    generate_key(tmp_path / "other.pem")
    chain = released(ledger, load_signer((tmp_path / "other.pem").as_uri()), snow)
    system, outbox = Records(), Outbox(ledger)
    deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    assert [*system.events.values()] == [["planned"]]
    (waiting,) = [one for one in outbox.all() if one.system == snow]
    assert (waiting.state, waiting.error) == ("waiting", "")
    assert waiting.next_at is not None
    ledger.sign_head(chain, signer)
    with ledger.writing() as connection:
        connection.execute(text("UPDATE ledger.deliveries SET next_at = now() WHERE system = :snow"), {"snow": snow})
    deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    assert [*system.events.values()] == [EVENTS]


def test_people_see_what_nobody_signs(
    ledger: Ledger, signer: Signer, snow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SIGNED_WITHIN", timedelta())
    chain = chain_of(next(NUMBERS))
    for place, (kind, payload) in enumerate(steps(records={snow: "mirror"})):
        ledger.append(chain, kind, payload, actor="rita", key=f"{kind}/{place}")
    deliver_due(snow, Records(), ledger, nothing_else, [signer.public_key])
    (failing,) = [one for one in Outbox(ledger).all() if one.system == snow]
    assert failing.state == "failing"
    assert f"Entry 3 of {chain} (rollout.frozen) is not signed by the key of this installation" in failing.error


def test_all_events_of_a_release_can_be_sent_again_from_the_ledger(ledger: Ledger, signer: Signer, snow: str) -> None:
    chain, other = released(ledger, signer, snow), released(ledger, signer, snow)
    outbox = Outbox(ledger)

    class Receiver(Records):
        """Has no record that says what it was told."""

        def __init__(self) -> None:
            super().__init__()
            self.sent: list[tuple[str, Cursor]] = []

        def find(self, correlation: str) -> tuple[Remote, ...]:
            return (Remote(reference=correlation, number=correlation),)

        def change(self, remote: Remote, statement: Statement) -> Remote:
            self.sent.append((statement.change.chain, statement.told))
            return remote.model_copy(update={"told": statement.told})

    system = Receiver()
    deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    first = [one for one in system.sent if one[0] == chain]
    system.sent.clear()
    assert [one.chain for one in outbox.replay(snow, chain)] == [chain]
    deliver_due(snow, system, ledger, nothing_else, [signer.public_key])
    assert system.sent == first
    assert {one.chain: one.state for one in outbox.all() if one.system == snow} == {chain: "told", other: "told"}


@pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")  # Airflow's routes import it
def test_the_api_says_what_was_refused_and_why_to_those_who_may_read_the_release(
    ledger: Ledger, snow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlock.console.api import deliveries as api

    refused, waits = chain_of(next(NUMBERS)), chain_of(next(NUMBERS))
    for chain in (refused, waits):
        kind, payload = next(iter(steps()))
        ledger.append(chain, kind, payload, actor="rita", key="resolved")
    outbox = Outbox(ledger)
    outbox.discover(snow, lambda _: (refused, waits))
    ((version, one),) = [due for due in outbox.due(snow, 10) if due[1].chain == refused]
    outbox.keep(version, one.failed(DeliveryRefused("category is mandatory"), datetime.now(UTC)))
    app = SimpleNamespace(state=SimpleNamespace(open_ledger=lambda: nullcontext(ledger)))
    request: Any = SimpleNamespace(app=app)

    def asked(*readable: str, **wanted: Any) -> list[Any]:
        monkeypatch.setattr(api, "readable_dags", lambda _: frozenset(readable))
        found = api.deliveries(request, SimpleNamespace(), limit=100, **wanted)
        return [row for row in found.deliveries if row.system == snow]

    first, second = asked("release_bike_shop")
    run = run_of(refused)
    assert run is not None
    assert (first.state, (first.dag_id, first.run_id), first.number) == ("refused", run, "")
    assert first.reason.startswith("category is mandatory")
    assert (second.state, second.reason) == ("waiting", "")
    assert asked("release_bike_shop", state=["refused"], dag_id=run[0], dag_run_id=run[1]) == [first]
    assert asked("release_bike_shop", state=["told"]) == asked("release_till") == []
    every = [one for one in outbox.all() if one.chain.startswith("release/release_bike_shop/")]
    pages = [outbox.page(["release_bike_shop"], limit=1, offset=number) for number in range(2)]
    assert [page for page, _ in pages] == [(one,) for one in every[:2]]
    assert {total for _, total in pages} == {len(every)}
    for one in every[:20]:
        found, _ = outbox.page(["release_bike_shop"], states=[one.state], chain=one.chain, limit=99, offset=0)
        assert one in found, "the database and Delivery.state agree"
