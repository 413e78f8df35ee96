from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import event

from interlock.adapters.ledger import ledger as ledgers
from interlock.adapters.ledger import owner
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.signing.signing import Signer, generate_key, load_signer, verify
from interlock.cli.app import main
from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import (
    AlreadyRecorded,
    AssetMissing,
    ClockError,
    LedgerBroken,
    LedgerConflict,
    LedgerError,
    ReleaseError,
    TransientError,
)
from interlock.domain.ledger.chain import IN_ANY_CASE, Break
from interlock.domain.ledger.integrity import first_break
from interlock.domain.ledger.kinds import CLOCK_CORRECTED, WITNESSED
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from interlock.stages.runtime import resources
from tests.estate_process import wait_until
from tests.integration.ledger_server import ledger_connection, witness_connection

WRITERS = 8
PAYLOAD = {
    "plan": "8f7875fb",
    "for": 2,
    "risk": 12.5,
    "small": 1e-7,
    "large": 1e22,
    "minus": -0.0,
    "odd": "ü \0 😀 '%s' :x",
}


@pytest.fixture
def ledger(server: Settings) -> Iterator[Ledger]:
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


@pytest.fixture
def chain(request: pytest.FixtureRequest) -> str:
    return f"release/{request.node.name}"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    generate_key(tmp_path / "signing.pem")
    return load_signer((tmp_path / "signing.pem").as_uri())


@pytest.fixture
def owner_url(server: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    password = postgres.ledger_password(server, postgres.LEDGER_OWNER)
    url = f"postgres://{postgres.LEDGER_OWNER}:{password}@{LOOPBACK}:{server.postgres_port}/{postgres.LEDGER}"
    monkeypatch.setenv("INTERLOCK_LEDGER_OWNER_URL", url)
    return url


def record(ledger: Ledger, chain: str, key: str, **other: Any) -> Any:
    fields: dict[str, Any] = {"kind": "board.decided", "payload": {"key": key}, "actor": "rita", **other}
    return ledger.append(chain, fields.pop("kind"), fields.pop("payload"), key=key, **fields)


def run_as(settings: Settings, role: str, *statements: str, database: str = postgres.LEDGER) -> None:
    """Run statements as one of the ledger's roles, or as the owner of the whole server."""
    if role == postgres.OWNER:
        connection = postgres.connect(settings, database)
    else:
        connection = psycopg2.connect(
            host=LOOPBACK,
            port=settings.postgres_port,
            user=role,
            password=postgres.ledger_password(settings, role),
            dbname=database,
        )
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def tamper(settings: Settings, *statements: str) -> None:
    """Do what only whoever holds the owner's password can, and leave no trace but the rows."""
    off, on = "DISABLE TRIGGER append_only", "ENABLE ALWAYS TRIGGER append_only"
    run_as(
        settings,
        postgres.LEDGER_OWNER,
        *(f"ALTER TABLE ledger.{table} {off}" for table in ("entries", "heads")),
        *statements,
        *(f"ALTER TABLE ledger.{table} {on}" for table in ("entries", "heads")),
    )


# --- appending -------------------------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_written(ledger: Ledger, chain: str) -> None:
    first = ledger.append(chain, "board.decided", PAYLOAD, actor="rita", key="decision")
    second = record(ledger, chain, "next")
    assert ledger.entries(chain) == (first, second)
    assert canonical_bytes(ledger.entries(chain)[0]) == canonical_bytes(first)
    assert first.payload == PAYLOAD
    assert (ledger.last(chain), ledger.find(chain, "decision")) == (second, first)
    assert ledger.find(chain, "nothing") is None
    assert chain in ledger.chains()
    assert ledger.check(chain) is None


def test_chain_that_nobody_wrote_to_is_empty(ledger: Ledger, chain: str) -> None:
    assert ledger.entries(chain) == ()
    assert ledger.entries(chain, after=3) == ()
    assert ledger.last(chain) is None
    assert ledger.heads(chain) == ()
    assert ledger.check(chain) is None


def test_same_again_is_the_entry_that_is_there(ledger: Ledger, chain: str) -> None:
    first = record(ledger, chain, "decision")
    record(ledger, chain, "other")
    assert record(ledger, chain, "decision") == first
    assert len(ledger.entries(chain)) == 2


@pytest.mark.parametrize(
    "other",
    [{"payload": {"key": "changed"}}, {"kind": "plan.decided"}, {"actor": "ben"}],
    ids=["payload", "kind", "actor"],
)
def test_key_that_stands_for_something_else_is_a_conflict(ledger: Ledger, chain: str, other: dict[str, Any]) -> None:
    record(ledger, chain, "decision")
    with pytest.raises(LedgerConflict, match=r"entry 1 there, board.decided by rita at"):
        record(ledger, chain, "decision", **other)
    assert len(ledger.entries(chain)) == 1


def test_same_key_in_another_chain_is_another_thing(ledger: Ledger, chain: str) -> None:
    assert record(ledger, chain, "decision").sequence == record(ledger, f"{chain}/2", "decision").sequence == 1


def test_what_may_happen_once_is_recorded_once(ledger: Ledger, chain: str) -> None:
    entry = ledger.append_once(chain, "permit.used", {"wave": 1}, actor="wave_1", key="permit-1")
    with pytest.raises(AlreadyRecorded, match="'permit-1' is already in the chain") as refused:
        ledger.append_once(chain, "permit.used", {"wave": 1}, actor="wave_1", key="permit-1")
    assert refused.value.entry == entry


def test_payload_that_is_not_json_is_refused_and_nothing_is_written(ledger: Ledger, chain: str) -> None:
    with pytest.raises(LedgerError, match=r"payload\.x is inf"):
        ledger.append(chain, "board.decided", {"x": float("inf")}, actor="rita", key="decision")
    assert ledger.entries(chain) == ()


def test_entries_can_be_asked_for_by_kind_and_place(ledger: Ledger, chain: str) -> None:
    for number, kind in enumerate(["emergency_stop.set", "finding", "emergency_stop.lifted", "emergency_stops"], 1):
        record(ledger, chain, str(number), kind=kind)

    def places(**asked: Any) -> list[int]:
        return [entry.sequence for entry in ledger.entries(chain, **asked)]

    assert places(kind="finding") == [2]
    assert places(kind="emergency_stop.*") == [1, 3]
    assert places(kind="emergency_stop.*", after=1) == [3]
    assert places(after=2) == [3, 4]
    assert places(kind="emergency_stop.*", since=ledger.entries(chain)[1].at) == [3]
    assert places(after=4) == places(after=9) == []


def test_chains_in_which_something_is_open_are_found_without_reading_the_others(ledger: Ledger) -> None:
    histories = {
        "open/held": [("environment.booked", "a")],
        "open/freed": [("environment.booked", "a"), ("environment.freed", "a")],
        "open/again": [("environment.booked", "a"), ("environment.freed", "a"), ("environment.booked", "a")],
        "open/left-the-line": [("environment.booked", "a"), ("environment.queued", "b"), ("environment.freed", "b")],
        "open/unreadable": [("environment.booked", "\x00"), ("environment.freed", "\x00")],
        "other/held": [("environment.booked", "a")],
    }
    for chain, told in histories.items():
        for number, (kind, holder) in enumerate(told):
            ledger.append(chain, kind, {"holder": holder, "note": 'says "holder":"z"'}, actor="x", key=str(number))
    found = ledger.open_chains("open/", "environment.booked", ("environment.freed",), field="holder")
    assert found == ("open/again", "open/held", "open/left-the-line")


# --- many writers ----------------------------------------------------------------------------------------------------


def append_many(settings: Settings, chain: str, writer: int, count: int) -> list[int]:
    """Append as one of several writers; every one of them also records what all of them know."""
    with open_ledger(ledger_connection(settings)) as ledger:
        return [
            record(ledger, chain, key).sequence
            for number in range(count)
            for key in (f"writer-{writer}-{number}", f"shared-{number}")
        ]


def test_threads_that_append_at_once_make_one_whole_chain(server: Settings, ledger: Ledger, chain: str) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda writer: append_many(server, chain, writer, 5), range(WRITERS)))
    entries = ledger.entries(chain)
    assert len({entry.key for entry in entries}) == len(entries) == WRITERS * 5 + 5
    assert first_break(chain, entries) is None


def test_processes_that_append_at_once_make_one_whole_chain(server: Settings, ledger: Ledger, chain: str) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures: list[Future[list[int]]] = [pool.submit(append_many, server, chain, writer, 5) for writer in range(4)]
        told = {sequence for future in futures for sequence in future.result(120)}
    assert told == {entry.sequence for entry in ledger.entries(chain)} == set(range(1, 4 * 5 + 5 + 1))


def test_of_many_that_redeem_at_once_one_succeeds(ledger: Ledger, chain: str) -> None:
    def redeem(wave: int) -> bool:
        try:
            ledger.append_once(chain, "permit.used", {"wave": wave}, actor=f"wave_{wave}", key="permit-1")
        except AlreadyRecorded:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        assert sum(pool.map(redeem, range(WRITERS))) == 1


def test_connection_lost_after_the_commit_is_no_second_entry(ledger: Ledger, chain: str) -> None:
    """The server has written it; the answer never arrived."""
    lost: list[int] = []

    @event.listens_for(ledger._engine, "commit")
    def lose(connection: Any) -> None:
        if not lost:
            lost.append(1)
            connection.connection.commit()
            raise ledgers.DBAPIError("COMMIT", {}, psycopg2.OperationalError("server closed the connection"))

    entry = ledger.append_once(chain, "permit.used", {}, actor="wave_1", key="permit-1")
    assert lost
    assert ledger.entries(chain) == (entry,)


def test_writer_that_takes_no_lock_is_let_through_or_waited_for(server: Settings, ledger: Ledger, chain: str) -> None:
    """Somebody else's entry arrives between the look at the last one and the insert."""
    rival = open_ledger(ledger_connection(server))
    slipped_in: list[Any] = []

    @event.listens_for(ledger._engine, "before_cursor_execute")
    def slip_in(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT") and not slipped_in:
            slipped_in.append(True)
            with_lock, rival._hold = rival._hold, lambda *_: datetime.now(UTC)  # type: ignore[method-assign]
            slipped_in[0] = record(rival, chain, "rival")
            rival._hold = with_lock  # type: ignore[method-assign]

    ours = record(ledger, chain, "ours")
    assert ledger.entries(chain) == (slipped_in[0], ours)


# --- clocks ----------------------------------------------------------------------------------------------------------


def at_offset(settings: Settings, offset: timedelta) -> Ledger:
    return open_ledger(ledger_connection(settings), clock=lambda: datetime.now(UTC) + offset)


def test_clock_that_was_turned_back_is_refused(server: Settings, ledger: Ledger, chain: str) -> None:
    record(ledger, chain, "first")
    with pytest.raises(ClockError, match=r"but entry 1 of the chain .* Next: correct the clock"):
        record(at_offset(server, timedelta(minutes=-1)), chain, "second")
    assert len(ledger.entries(chain)) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_far_from_the_servers_is_refused(server: Settings, chain: str, hours: int) -> None:
    with pytest.raises(ClockError, match="but the clock of the ledger's database"):
        record(at_offset(server, timedelta(hours=hours)), chain, "first")


@pytest.mark.parametrize("kind", sorted(IN_ANY_CASE))
@pytest.mark.parametrize("hours", [-100, -1, 0, 1, 100])
def test_an_emergency_stop_is_taken_with_every_clock(
    server: Settings, ledger: Ledger, chain: str, kind: str, hours: int
) -> None:
    record(at_offset(server, timedelta(minutes=4)), chain, "first")
    one = open_ledger(witness_connection(server), clock=lambda: datetime.now(UTC) + timedelta(hours=hours))
    entry = one.append_once(chain, kind, {"id": "x"}, actor="olga", key="stop")
    assert entry.at == ledger.entries(chain)[0].at, "the later ones are not kept out for long"
    assert ledger.check(chain) is None
    assert one.now() >= datetime.now(UTC) - timedelta(seconds=2), "the stop is not over before it has begun"


def test_clock_a_little_behind_anothers_is_waited_for(server: Settings, ledger: Ledger, chain: str) -> None:
    ahead = record(at_offset(server, timedelta(seconds=0.5)), chain, "first")
    entry = record(ledger, chain, "second")
    assert entry.at >= ahead.at
    assert ledger.check(chain) is None


def test_chain_with_a_time_in_the_future_goes_on_when_somebody_says_why(
    server: Settings, ledger: Ledger, chain: str, owner_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    future = record(at_offset(server, timedelta(minutes=4)), chain, "first")
    with pytest.raises(ClockError, match="correct-clock"):
        record(ledger, chain, "second")
    command = ["ledger", "correct-clock", chain, "--actor", "olga", "--reason", "the battery was empty"]
    assert main(command) == 0
    assert f"Entry 2 of {chain}" in capsys.readouterr().out
    correction = ledger.entries(chain)[1]
    assert correction.kind == CLOCK_CORRECTED
    assert correction.at < future.at
    assert correction.payload["reason"] == "the battery was empty"
    assert record(ledger, chain, "second").sequence == 3
    assert ledger.check(chain) is None
    assert main(["ledger", "correct-clock", "release/none", "--actor", "olga", "--reason", "none"]) == 2


# --- heads -----------------------------------------------------------------------------------------------------------


def test_signed_head_vouches_for_the_last_entry(ledger: Ledger, chain: str, signer: Signer) -> None:
    record(ledger, chain, "first")
    last = record(ledger, chain, "second")
    head = ledger.sign_head(chain, signer)
    assert (head.sequence, head.hash) == (2, last.hash)
    assert head.envelope["payloadType"] == "application/vnd.interlock.chain-head+json"
    assert b'"sequence":2}' in verify(head.envelope, signer.public_key)
    assert ledger.sign_head(chain, signer) == head
    record(ledger, chain, "third")
    newer = ledger.sign_head(chain, signer)
    assert ledger.heads(chain) == (head, newer)
    assert ledger.check(chain, [signer.public_key]) is None


def test_what_is_signed_while_a_chain_is_read_does_not_disturb(
    server: Settings, ledger: Ledger, chain: str, signer: Signer
) -> None:
    first = record(ledger, chain, "first")
    meanwhile: list[Any] = []

    @event.listens_for(ledger._engine, "after_cursor_execute")
    def sign(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM ledger.entries" in statement and not meanwhile:
            meanwhile.append(True)
            with open_ledger(ledger_connection(server)) as other:
                record(other, chain, "second")
                other.sign_head(chain, signer)

    assert ledger.entries(chain) == (first,)
    assert len(ledger.entries(chain)) == 2


def test_each_key_signs_for_itself(ledger: Ledger, chain: str, signer: Signer, tmp_path: Path) -> None:
    record(ledger, chain, "first")
    generate_key(tmp_path / "new.pem")
    new = load_signer((tmp_path / "new.pem").as_uri())
    assert ledger.sign_head(chain, signer) != ledger.sign_head(chain, new)
    assert ledger.check(chain, [signer.public_key, new.public_key]) is None
    broken = ledger.check(chain, [new.public_key])
    assert broken is not None
    assert broken.sentence == f"Entry 1 of the chain {chain} has a signature of an unknown key."


def test_empty_chain_has_no_head(ledger: Ledger, chain: str, signer: Signer) -> None:
    with pytest.raises(LedgerError, match="has no entries to sign"):
        ledger.sign_head(chain, signer)


def test_chain_whose_heads_were_taken_away_is_not_signed_again(
    server: Settings, ledger: Ledger, chain: str, signer: Signer
) -> None:
    for name, kind in (("frozen", "rollout.frozen"), ("decided", "board.decided")):
        ledger.sign_head(chain, signer, seals=record(ledger, chain, name, kind=kind))
    closed = record(ledger, chain, "closed", kind="release.closed")
    tamper(server, f"DELETE FROM ledger.heads WHERE chain = '{chain}'")
    with pytest.raises(LedgerBroken, match=r"Entry 1 of the chain .* \(rollout.frozen\) is not signed"):
        ledger.sign_head(chain, signer, seals=closed)
    assert ledger.heads(chain) == ()


def test_who_seals_something_vouches_for_no_decision_of_somebody_else(
    server: Settings, ledger: Ledger, chain: str, signer: Signer
) -> None:
    ledger.sign_head(chain, signer, seals=record(ledger, chain, "frozen", kind="rollout.frozen"))
    found = record(ledger, chain, "a finding", kind="finding")
    record(ledger, chain, "forged", kind="board.decided")  # by whoever has the writer's password
    assert ledger.sign_head(chain, signer, seals=found).sequence == found.sequence, (
        "what comes after is not vouched for"
    )
    late = record(ledger, chain, "another finding", kind="finding")
    for junk in ("", "a head that nobody signed"):
        if junk:
            columns = "chain, sequence, hash, key_id, envelope"
            values = f"'{chain}', {late.sequence}, '{late.hash}', 'nobody', '{{\"payload\": \"e30=\"}}'"
            run_as(server, postgres.LEDGER_WRITER, f"INSERT INTO ledger.heads ({columns}) VALUES ({values})")
        with pytest.raises(LedgerBroken, match=r"\(board.decided\) is not signed"):
            ledger.sign_head(chain, signer, seals=late)


def test_forged_head_is_noticed_and_not_returned(server: Settings, ledger: Ledger, chain: str, signer: Signer) -> None:
    last = record(ledger, chain, "first")
    columns = "chain, sequence, hash, key_id, envelope"
    values = f"'{chain}', 1, '{last.hash}', '{signer.key_id}', '{{\"payload\": \"e30=\"}}'"
    run_as(server, postgres.LEDGER_WRITER, f"INSERT INTO ledger.heads ({columns}) VALUES ({values})")
    with pytest.raises(LedgerBroken, match="a signature of an unknown key"):
        ledger.sign_head(chain, signer)
    assert ledger.check(chain, [signer.public_key]) is not None
    other = record(ledger, f"{chain}/2", "first")
    values = f"'{chain}/2', 1, '{other.hash}', '{signer.key_id}', '[]'"
    run_as(server, postgres.LEDGER_WRITER, f"INSERT INTO ledger.heads ({columns}) VALUES ({values})")
    broken = ledger.check(f"{chain}/2")
    assert broken is not None
    assert "has a signed head that cannot be read" in broken.sentence


def test_head_that_was_signed_for_something_else_is_noticed(
    server: Settings, ledger: Ledger, chain: str, signer: Signer
) -> None:
    record(ledger, f"{chain}/other", "first")
    envelope = canonical_bytes(ledger.sign_head(f"{chain}/other", signer).envelope).decode()
    last = record(ledger, chain, "first")
    values = f"'{chain}', 1, '{last.hash}', '{signer.key_id}', '{envelope}'"
    run_as(
        server,
        postgres.LEDGER_WRITER,
        f"INSERT INTO ledger.heads (chain, sequence, hash, key_id, envelope) VALUES ({values})",
    )
    broken = ledger.check(chain, [signer.public_key])
    assert broken is not None
    assert "has a signature for other content" in broken.sentence


# --- what the database refuses ---------------------------------------------------------------------------------------

CHANGES = [
    "UPDATE ledger.entries SET actor = 'mallory'",
    "UPDATE ledger.entries SET actor = 'mallory' WHERE false",
    "DELETE FROM ledger.entries",
    "TRUNCATE ledger.entries CASCADE",
    "UPDATE ledger.heads SET hash = 'f'",
    "DELETE FROM ledger.heads",
    "TRUNCATE ledger.heads",
]


@pytest.mark.parametrize("statement", CHANGES)
@pytest.mark.parametrize("role", [postgres.LEDGER_WRITER, postgres.LEDGER_OWNER, postgres.OWNER])
def test_nobody_changes_or_removes_a_row(server: Settings, role: str, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run_as(server, role, statement)


@pytest.mark.parametrize("table", ["entries", "heads"])
def test_session_that_replicates_changes_no_row_either(server: Settings, table: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="the ledger is append-only"):
        run_as(server, postgres.OWNER, "SET session_replication_role = replica", f"DELETE FROM ledger.{table}")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE ledger.entries CASCADE",
        "ALTER TABLE ledger.entries DISABLE TRIGGER ALL",
        "CREATE TABLE ledger.other (x int)",
        "CREATE TABLE public.other (x int)",
        "CREATE TEMPORARY TABLE entries (x int)",
        "CREATE SCHEMA mine",
        "SELECT * FROM ledger.migrations",
        "SET session_replication_role = replica",
        "SET ROLE interlock_ledger_owner",
        "SELECT * FROM ledger.entries FOR UPDATE",
        "INSERT INTO ledger.entries (chain, recorded_by) VALUES ('installation', 'somebody')",
        "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
    ],
)
def test_writer_may_insert_and_read_and_nothing_else(server: Settings, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run_as(server, postgres.LEDGER_WRITER, statement)


@pytest.mark.parametrize("kind", WITNESSED)
def test_what_came_in_at_the_api_is_appended_by_its_server_only(
    server: Settings, ledger: Ledger, chain: str, kind: str
) -> None:
    with pytest.raises(LedgerError, match=r"refused the request: .* is appended by Airflow's API server only"):
        ledger.append(chain, kind, {}, actor="mallory", key="forged")
    assert ledger.entries(chain) == ()
    with open_ledger(witness_connection(server)) as witness:
        witness.append(chain, kind, {}, actor="rita", key="real")
    assert [entry.actor for entry in ledger.entries(chain)] == ["rita"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger.entries",
        "INSERT INTO ledger.heads (chain) VALUES ('installation')",
        "ALTER TABLE ledger.entries DISABLE TRIGGER witnessed",
        "CREATE OR REPLACE FUNCTION ledger.require_witness() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
    ],
)
def test_the_witness_may_insert_entries_and_read_and_nothing_else(server: Settings, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run_as(server, postgres.LEDGER_WITNESS, statement)


def test_the_api_servers_login_comes_from_a_file_and_from_no_connection(
    server: Settings, chain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ledgers.WITNESS_URL_FILE, raising=False)
    assert ledgers.open_as_witness() is None
    file = tmp_path / "url"
    file.write_text(postgres.ledger_url(server, postgres.LEDGER_WITNESS) + "\n")
    monkeypatch.setenv(ledgers.WITNESS_URL_FILE, str(file))
    opened = ledgers.open_as_witness()
    assert opened is not None
    with opened:
        opened.append(chain, WITNESSED[0], {}, actor="rita", key="1")
    file.unlink()
    with pytest.raises(AssetMissing, match="cannot be read"):
        ledgers.open_as_witness()


def test_airflow_and_the_ledger_stay_out_of_each_others_database(server: Settings) -> None:
    airflow = (postgres.secrets_folder(server) / "postgres_airflow").read_text()
    writer = postgres.ledger_password(server, postgres.LEDGER_WRITER)
    for user, password, database in (
        (postgres.USER, airflow, postgres.LEDGER),
        (postgres.LEDGER_WRITER, writer, postgres.DATABASE),
    ):
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            psycopg2.connect(
                host=LOOPBACK, port=server.postgres_port, user=user, password=password, dbname=database
            ).close()


@pytest.mark.parametrize(("place", "start"), [(1, False), (3, False), (2, True)])
def test_writer_can_neither_fork_a_chain_nor_leave_a_gap(
    server: Settings, ledger: Ledger, chain: str, place: int, start: bool
) -> None:
    first = record(ledger, chain, "first")
    previous = first.previous if start else first.hash
    fields = f"'{chain}', {place}, now(), 'mallory', 'finding', 'forged', '{{}}', '{previous}', '{'f' * 64}'"
    with pytest.raises(psycopg2.errors.SerializationFailure, match="does not follow the last entry"):
        run_as(
            server,
            postgres.LEDGER_WRITER,
            f"INSERT INTO ledger.entries (chain, sequence, at, actor, kind, key, payload, previous, hash) "
            f"VALUES ({fields})",
        )


# --- what is noticed -------------------------------------------------------------------------------------------------


@pytest.fixture
def signed(ledger: Ledger, chain: str, signer: Signer) -> str:
    """A chain of five entries of which the fourth was the last one when it was signed."""
    for number in range(1, 5):
        record(ledger, chain, f"step-{number}", kind="finding" if number == 3 else "board.decided")
    ledger.sign_head(chain, signer)
    record(ledger, chain, "step-5")
    return chain


@pytest.mark.parametrize(
    ("statement", "place", "what"),
    [
        pytest.param("UPDATE ledger.entries SET actor = 'mallory' WHERE {} AND sequence = 2", 2, "changed", id="edit"),
        pytest.param(
            "UPDATE ledger.entries SET payload = '[1]' WHERE {} AND sequence = 2", 2, "unreadable", id="no object"
        ),
        pytest.param(
            "UPDATE ledger.entries SET payload = '{{\"x\": 1e999}}' WHERE {} AND sequence = 2",
            2,
            "unreadable",
            id="no number",
        ),
        pytest.param(
            "UPDATE ledger.entries SET payload = (repeat('[', 4000) || repeat(']', 4000))::json "
            "WHERE {} AND sequence = 2",
            2,
            "unreadable",
            id="bottomless",
        ),
        pytest.param("DELETE FROM ledger.entries WHERE {} AND sequence = 3", 3, "missing", id="removal"),
        pytest.param("DELETE FROM ledger.entries WHERE {} AND sequence = 5", None, None, id="unsigned end"),
    ],
)
def test_change_by_the_owner_is_noticed(
    server: Settings, ledger: Ledger, signed: str, statement: str, place: int | None, what: str | None
) -> None:
    tamper(server, statement.format(f"chain = '{signed}'"))
    broken = ledger.check(signed)
    assert (broken and broken.sequence, broken and broken.what) == (place, what)
    other = f"{signed}/other"
    entry = record(ledger, other, "alone")
    of_signed = broken or ledger.entries(signed)
    assert ledger.whole([signed, other, "release/none"]) == {signed: of_signed, other: (entry,), "release/none": ()}
    if broken:
        with pytest.raises(LedgerBroken, match=f"Entry {place} of the chain"):
            ledger.entries(signed)


def test_removed_entry_of_a_kind_is_noticed_when_that_kind_is_asked_for(
    server: Settings, ledger: Ledger, signed: str
) -> None:
    assert len(ledger.entries(signed, kind="finding")) == 1
    tamper(server, f"DELETE FROM ledger.entries WHERE chain = '{signed}' AND sequence = 3")
    with pytest.raises(LedgerBroken, match=r"Entry 3 of the chain .* is missing"):
        ledger.entries(signed, kind="finding")


def test_end_that_was_cut_off_is_noticed_by_the_head(
    server: Settings, ledger: Ledger, signed: str, signer: Signer
) -> None:
    run_as(server, postgres.LEDGER_OWNER, "ALTER TABLE ledger.heads DROP CONSTRAINT heads_chain_sequence_fkey")
    tamper(server, f"DELETE FROM ledger.entries WHERE chain = '{signed}' AND sequence >= 3")
    asked: list[Callable[[], object]] = [
        lambda: ledger.entries(signed),
        lambda: ledger.entries(signed, kind="plan.made"),
        lambda: ledger.sign_head(signed, signer),
    ]
    for ask in asked:
        with pytest.raises(LedgerBroken, match=r"Entry 3 of the chain .* is missing"):
            ask()
    cut = ledger.whole([signed])[signed]
    assert isinstance(cut, Break)
    assert (cut.sequence, cut.what) == (3, "missing")


def test_when_chains_ended_is_not_known_of_those_whose_end_is_gone_or_changed(
    server: Settings, ledger: Ledger, chain: str, signed: str, signer: Signer
) -> None:
    kept, changed, gone = (record(ledger, f"{chain}/{name}", "step") for name in ("kept", "changed", "gone"))
    ledger.sign_head(gone.chain, signer)
    run_as(
        server, postgres.LEDGER_OWNER, "ALTER TABLE ledger.heads DROP CONSTRAINT IF EXISTS heads_chain_sequence_fkey"
    )
    tamper(
        server,
        f"UPDATE ledger.entries SET at = at - interval '40 days' WHERE chain = '{changed.chain}'",
        f"DELETE FROM ledger.entries WHERE chain = '{gone.chain}'",
    )
    last = ledger.entries(signed)[-1]
    assert ledger.ends(chain) == {signed: last.at, kept.chain: kept.at, changed.chain: None, gone.chain: None}


def test_finding_can_be_recorded_in_a_chain_that_was_tampered_with(
    server: Settings, ledger: Ledger, signed: str, signer: Signer
) -> None:
    tamper(server, f"UPDATE ledger.entries SET actor = 'mallory' WHERE chain = '{signed}' AND sequence = 5")
    finding = record(ledger, signed, "finding-1", kind="finding")
    assert finding.sequence == 6
    assert ledger.find(signed, "finding-1") == finding
    with pytest.raises(LedgerBroken, match="Entry 5"):
        ledger.sign_head(signed, signer)
    with pytest.raises(LedgerBroken, match="Entry 5"):
        record(ledger, signed, "step-5")


# --- migrations and the command --------------------------------------------------------------------------------------


def test_migrating_again_changes_nothing(
    ledger: Ledger, chain: str, owner_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = record(ledger, chain, "first")
    assert main(["ledger", "migrate"]) == 0
    assert main(["ledger", "migrate"]) == 0
    assert capsys.readouterr().out == "The ledger is at version 0003.\n" * 2
    assert ledger.entries(chain) == (entry,)


def test_migrating_gives_the_writer_no_more_than_it_needs(server: Settings, ledger: Ledger, owner_url: str) -> None:
    run_as(server, postgres.LEDGER_OWNER, "GRANT ALL ON ledger.entries TO interlock_ledger_writer")
    assert main(["ledger", "migrate"]) == 0
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="permission denied"):
        run_as(server, postgres.LEDGER_WRITER, "UPDATE ledger.entries SET actor = 'mallory'")


def test_two_that_migrate_a_new_database_at_once_both_succeed(server: Settings, owner_url: str) -> None:
    run_as(
        server,
        postgres.OWNER,
        "DROP DATABASE IF EXISTS another",
        f"CREATE DATABASE another OWNER {postgres.LEDGER_OWNER}",
    )
    url = f"{owner_url.removesuffix(postgres.LEDGER)}another"
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(owner.migrate_database, url)
        assert owner.migrate_database(url) == other.result(60) == "0003"
    with open_ledger(ledger_connection(server, schema="another")) as opened:
        assert record(opened, "installation", "first").sequence == 1
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run_as(server, postgres.LEDGER_WRITER, "CREATE TEMPORARY TABLE entries (x int)", database="another")


def test_check_prints_every_chain_and_names_the_break(
    server: Settings, owner_url: str, tmp_path: Path, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a database of its own: in the other one, tests have broken chains."""
    run_as(
        server,
        postgres.OWNER,
        "DROP DATABASE IF EXISTS checked",
        f"CREATE DATABASE checked OWNER {postgres.LEDGER_OWNER}",
    )
    key = str(tmp_path / "signing.pem.pub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERLOCK_LEDGER_OWNER_URL", f"{owner_url.removesuffix(postgres.LEDGER)}checked")
        assert main(["ledger", "migrate"]) == 0
        with open_ledger(ledger_connection(server, schema="checked")) as ledger:
            record(ledger, "installation", "first")
            record(ledger, "installation", "second")
            ledger.sign_head("installation", signer)
        capsys.readouterr()
        assert main(["ledger", "check", "--key", key]) == 0
        assert capsys.readouterr().out == "installation: 2 entries, signed up to 2\n"
        assert main(["ledger", "check"]) == 0
        assert "Signatures were not checked" in capsys.readouterr().out
        assert main(["ledger", "heads"]) == 0
        kept = tmp_path / "kept.jsonl"
        kept.write_text(capsys.readouterr().out)
        assert main(["ledger", "check", "--key", key, "--kept", str(kept)]) == 0
        capsys.readouterr()
        kept.write_text(kept.read_text().replace('"sequence":2', '"sequence":3'))
        assert main(["ledger", "check", "--kept", str(kept)]) == 1, "as if its end had been cut off since"
        assert "Entry 3 of the chain installation is missing" in capsys.readouterr().out
        kept.write_text("no head")
        assert main(["ledger", "check", "--kept", str(kept)]) == 2
        assert "interlock ledger heads" in capsys.readouterr().err
        with closing(postgres.connect(server, "checked")) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER TABLE ledger.entries DISABLE TRIGGER append_only")
            cursor.execute("UPDATE ledger.entries SET actor = 'mallory' WHERE sequence = 1")
            cursor.execute("GRANT DELETE ON ledger.heads TO interlock_ledger_writer")
        assert main(["ledger", "check", "--key", key]) == 1
        assert capsys.readouterr().out.splitlines() == [
            "BROKEN: the trigger append_only of ledger.entries is missing or disabled.",
            "BROKEN: interlock_ledger_writer can change or delete rows of ledger.heads.",
            "BROKEN: Entry 1 of the chain installation was changed: its hash does not match its content.",
        ]


def test_command_without_a_database_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("INTERLOCK_LEDGER_OWNER_URL", raising=False)
    assert main(["ledger", "check"]) == 2
    assert "INTERLOCK_LEDGER_OWNER_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv("INTERLOCK_LEDGER_OWNER_URL", "no url")
    assert main(["ledger", "check"]) == 2
    assert "is not a URL" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--writer", "--witness"])
def test_missing_role_is_named_with_what_makes_one(
    owner_url: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "migrate", option, "somebody"]) == 2
    assert "CREATE ROLE somebody LOGIN" in capsys.readouterr().err


# --- connections -----------------------------------------------------------------------------------------------------


def test_server_that_does_not_answer_is_worth_another_try(server: Settings, chain: str) -> None:
    nobody = open_ledger(ledger_connection(server, port=1))
    for attempt in (lambda: record(nobody, chain, "first"), lambda: nobody.entries(chain)):
        with pytest.raises(TransientError, match="The ledger does not answer"):
            attempt()


def test_ledger_without_tables_says_what_makes_them(server: Settings) -> None:
    run_as(server, postgres.OWNER, "DROP DATABASE IF EXISTS bare", "CREATE DATABASE bare")
    with pytest.raises(AssetMissing, match="interlock ledger migrate"):
        record(open_ledger(ledger_connection(server, schema="bare")), "installation", "first")


def test_connection_without_an_address_says_who_can_change_it(server: Settings) -> None:
    with pytest.raises(AssetMissing, match="correct the connection interlock_ledger"):
        open_ledger(ledger_connection(server, host=""))


def test_opening_connects_to_nothing(server: Settings) -> None:
    open_ledger(ledger_connection(server, port=1)).close()


def test_server_that_has_no_encryption_is_refused_when_it_is_asked_for(server: Settings, chain: str) -> None:
    strict = open_ledger(ledger_connection(server, extra_dejson={"sslmode": "require", "other": "ignored"}))
    with pytest.raises(ReleaseError, match="SSL"):
        strict.entries(chain)


def test_a_task_logs_in_to_the_ledger_once(server: Settings, chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def connection(name: str) -> Any:
        asked.append(name)
        return ledger_connection(server)

    monkeypatch.setattr(resources.BaseHook, "get_connection", connection)
    begin = logins_since(server)
    with resources.one_ledger():
        with resources.ledger() as first:
            record(first, chain, "first")
        with resources.ledger() as again, resources.ledger() as within:
            record(again, chain, "second")
            assert [entry.key for entry in within.entries(chain)] == ["first", "second"]
        assert logins_since(server, begin) == 1
    assert asked == [resources.LEDGER]
    wait_until(lambda: logins_since(server, begin) == 0, "the end of the session")
    with resources.ledger() as first, resources.ledger() as again:
        assert first is not again


def logins_since(server: Settings, begin: Any = None) -> Any:
    """Return how many are logged in as tasks are, and have been since an instant; without one, what time it is."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND backend_start > %s"
    with closing(postgres.connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute(count, (postgres.LEDGER_WRITER, begin)) if begin else cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def test_a_ledger_goes_on_when_its_connection_is_cut(server: Settings, ledger: Ledger, chain: str) -> None:
    record(ledger, chain, "before")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'"
    run_as(server, postgres.OWNER, cut % postgres.LEDGER_WRITER)
    assert [entry.key for entry in ledger.entries(chain)] == ["before"]
