"""What the triggerer watches while a board has not decided, against a small real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string
from airflow.sdk.serde import deserialize, serialize

from interlock.domain.errors import LedgerError
from interlock.domain.ledger.kinds import RELEASE_WITHDRAWN
from interlock.stages.runtime import resources, triggers
from interlock.stages.runtime.triggers import AnswersTrigger, StartTrigger, digest_of_answers
from tests.airflow_server import CHAIN, RUN, AirflowServer
from tests.factories import releases
from tests.memory_ledger import MemoryLedger

BALLOT = "rollout.cast_ballot"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "POLL", 0.02)


def known() -> str:
    """Return the answers that there are now, as a trigger knows them."""
    with resources.airflow_api() as api:
        return digest_of_answers(api.answers(*RUN, BALLOT))


def trigger(known: str = digest_of_answers(()), until: datetime | None = None) -> AnswersTrigger:
    return AnswersTrigger(
        dag_id=RUN[0],
        run_id=RUN[1],
        task_id=BALLOT,
        known=known,
        until=until,
        connection=resources.AIRFLOW,
    )


def fired(waiting: AnswersTrigger, within: float = 30) -> dict[str, Any]:
    """Return what a trigger fires with; it fires once."""

    async def collect() -> list[Any]:
        return [event.payload async for event in waiting.run()]

    (event,) = asyncio.run(asyncio.wait_for(collect(), within))
    return dict(event)


def looked(airflow: AirflowServer) -> int:
    return sum(path == "/interlock/answered" for _, path in airflow.asked)


def after_looks(airflow: AirflowServer, number: int, then: Any) -> threading.Thread:
    """Do something once the trigger has looked some times."""

    def wait() -> None:
        while looked(airflow) < number:
            threading.Event().wait(0.005)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_new_answer_fires(airflow: AirflowServer) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben"), "ben", "Approve")
    second = airflow.ask(BALLOT, "cora", map_index=1)
    airflow.answer(airflow.ask("acceptance.ask_approver", "fay"), "fay", "Approve")
    waiting, logins, looks = trigger(known()), airflow.logins, looked(airflow)
    after_looks(airflow, looks + 3, lambda: airflow.answer(second, "cora", "Reject"))
    assert fired(waiting) == {"why": "2 answers"}
    assert looked(airflow) > looks + 3
    assert airflow.logins == logins + 1


def test_an_answer_that_came_before_the_trigger_fires_at_once(airflow: AirflowServer) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben"), "ben", "Approve")
    assert fired(trigger()) == {"why": "1 answers"}


def test_an_answer_that_was_wiped_fires_too(airflow: AirflowServer) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben"), "ben", "Approve")
    before = known()
    airflow.wipe(BALLOT)
    assert fired(trigger(before)) == {"why": "0 answers"}


def test_an_answer_in_place_of_one_that_was_wiped_fires_although_there_are_as_many(airflow: AirflowServer) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben"), "ben", "Approve")
    second, before = airflow.ask(BALLOT, "cora", map_index=1), known()
    airflow.wipe(BALLOT)
    airflow.answer(second, "cora", "Reject")
    assert fired(trigger(before)) == {"why": "1 answers"}


def test_the_deadline_fires(airflow: AirflowServer) -> None:
    airflow.ask(BALLOT, "ben")
    assert fired(trigger(until=datetime.now(UTC) + timedelta(seconds=0.3))) == {"why": "the deadline has passed"}
    past = trigger(until=datetime.now(UTC) - timedelta(days=1))
    before = len(airflow.asked)
    assert fired(past) == {"why": "the deadline has passed"}
    assert len(airflow.asked) == before


def test_an_airflow_that_is_away_for_a_while_is_waited_for(airflow: AirflowServer) -> None:
    question = airflow.ask(BALLOT, "ben")
    airflow.troubles = [(500, b"broken"), (0, b""), (503, b"starting")]

    def away() -> None:
        airflow.troubles = [(0, b""), (502, b"gateway"), (200, b"<html>Back soon</html>")]
        airflow.answer(question, "ben", "Approve")

    after_looks(airflow, 2, away)
    assert fired(trigger()) == {"why": "1 answers"}
    assert airflow.troubles == []


def test_an_airflow_that_stays_away_does_not_hold_up_the_deadline(airflow: AirflowServer) -> None:
    airflow.troubles = [(500, b"broken")] * 10_000
    assert fired(trigger(until=datetime.now(UTC) + timedelta(seconds=0.3))) == {"why": "the deadline has passed"}


def test_a_token_that_expires_leads_to_logging_in_again(airflow: AirflowServer) -> None:
    question = airflow.ask(BALLOT, "ben")

    def expire() -> None:
        airflow.forget_tokens()
        after_looks(airflow, looked(airflow) + 3, lambda: airflow.answer(question, "ben", "Approve"))

    after_looks(airflow, 2, expire)
    assert fired(trigger()) == {"why": "1 answers"}
    assert airflow.logins == 2


def test_an_account_that_is_refused_ends_the_waiting_with_the_reason(airflow: AirflowServer) -> None:
    airflow.accounts["reader"] = "changed"
    event = fired(trigger())
    assert "Airflow answered 401" in event["why"]
    assert "check address, account and password" in event["why"]


def test_a_trigger_survives_being_stored(airflow: AirflowServer) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben"), "ben", "Approve")
    for until in (None, datetime(2126, 11, 23, 6, 17, 0, 123456, tzinfo=UTC)):
        path, arguments = trigger(until=until).serialize()
        restored = import_string(path)(**deserialize(serialize(arguments)))
        assert type(restored) is AnswersTrigger
        assert restored.serialize() == (path, arguments)
        assert fired(restored) == {"why": "1 answers"}


def of_run(name: str) -> AnswersTrigger:
    return AnswersTrigger(**{**trigger().serialize()[1], "run_id": name})


def test_many_that_wait_are_read_together(airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "POLL", 3600)  # one reading

    async def first_reading() -> None:
        tasks = [asyncio.create_task(anext(aiter(of_run(str(number)).run()))) for number in range(120)]
        while looked(airflow) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(first_reading(), 60))
    assert (looked(airflow), airflow.logins) == (3, 1)


def test_a_question_that_cannot_be_asked_for_holds_up_no_other(airflow: AirflowServer) -> None:
    question = airflow.ask(BALLOT, "ben")

    async def both() -> tuple[str, str]:
        ours, refused = (asyncio.create_task(anext(aiter(one.run()))) for one in (trigger(), of_run("..")))
        why = (await refused).payload["why"]
        assert not ours.done()
        airflow.answer(question, "ben", "Approve")
        return why, (await ours).payload["why"]

    why, answers = asyncio.run(asyncio.wait_for(both(), 60))
    assert "'..'" in why
    assert answers == "1 answers"


# --- the start of a deployment ----------------------------------------------------------------------------------------


class Book(MemoryLedger):
    """A ledger that counts looks, and does something after some of them."""

    def __init__(self, then: Callable[[Book], None] = lambda _: None, *, broken: int = 0) -> None:
        super().__init__()
        self.looks, self._then, self._broken = 0, then, broken

    def among(self, chains: Any, kinds: Any) -> Any:
        self.looks += 1
        if self.looks <= self._broken:
            raise LedgerError("The database does not answer.")
        found = super().among(chains, kinds)
        self._then(self)
        return found


def withdraw(book: Book, chain: str = CHAIN) -> None:
    payload = releases.WITHDRAWAL.model_dump(mode="json")
    book.append(chain, RELEASE_WITHDRAWN, payload, actor="rita", key=RELEASE_WITHDRAWN)


def starting(book: Book, patch: pytest.MonkeyPatch, *, seconds: float = 3600) -> StartTrigger:
    patch.setattr(triggers, "LEDGER_POLL", 0.02)
    patch.setattr("interlock.adapters.ledger.ledger.open_ledger", lambda _: book)
    patch.setenv(f"AIRFLOW_CONN_{resources.LEDGER.upper()}", "postgres://tasks@127.0.0.1/ledger")
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return StartTrigger(moment=moment, chain=CHAIN, connection=resources.LEDGER)


def test_a_release_that_is_withdrawn_while_it_waits_for_its_start_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book(lambda seen: withdraw(seen) if seen.looks == 3 else None, broken=1)
    assert fired(starting(book, monkeypatch)) == {"why": "the release was called off"}
    assert book.looks == 4, "a ledger that does not answer is asked again"


def test_a_release_waits_for_its_own_start_and_withdrawal(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book()
    withdraw(book, "release/release_bike_shop/another")
    assert fired(starting(book, monkeypatch, seconds=0.1)) == {"why": "the time has come"}
    assert fired(starting(Book(), monkeypatch, seconds=-1)) == {"why": "the time has come"}


def test_the_wait_for_a_start_survives_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = starting(Book(), monkeypatch)
    path, arguments = waiting.serialize()
    again = import_string(path)(**deserialize(serialize(arguments)))
    assert (again.moment, again.chain, again.connection) == (waiting.moment, waiting.chain, waiting.connection)
