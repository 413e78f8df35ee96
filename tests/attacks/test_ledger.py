"""In the ledger's database, as its superuser, who takes the triggers away and writes what they like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import psycopg2
import pytest

from interlock.domain.ledger.chain import START, Entry, entry_hash, release_chain
from interlock.locations import PROJECT
from tests.end_to_end.people import Release
from tests.end_to_end.stack import Stack

from . import wave
from .databases import LedgerDatabase
from .suite import LEDGER_OWNER, LEDGER_WRITER, attack, case

pytestmark = pytest.mark.timeout(1800)
Tampering = Callable[[LedgerDatabase, str], None]
"""What is done to a chain in the database."""


def of_owner(what: str, tamper: Tampering, said: str) -> object:
    """Return a case: the superuser changes a chain."""
    return case(
        *(tamper, said),
        what=what,
        by=LEDGER_OWNER,
        way="database",
        stopped="the chain names it, and no permit is given",
    )


def change_a_payload(database: LedgerDatabase, chain: str) -> None:
    database.run(
        "UPDATE ledger.entries SET payload = replace(payload::text, 'bike', 'tank')::json"
        " WHERE chain = %s AND kind = 'release.requested'",
        chain,
    )


def drop_an_entry(database: LedgerDatabase, chain: str) -> None:
    database.run("DELETE FROM ledger.entries WHERE chain = %s AND kind = 'quality.judged'", chain)


def drop_the_end(database: LedgerDatabase, chain: str) -> None:
    database.run(
        "DELETE FROM ledger.entries e WHERE chain = %s AND sequence >="
        " (SELECT min(sequence) FROM ledger.entries WHERE chain = e.chain AND kind = 'board.decided')",
        chain,
    )


def cut_to_an_older_head(database: LedgerDatabase, chain: str) -> None:
    """Cut the release's end off, with every head that was signed there: what is left has a signed head at its end."""
    ((older,),) = database.run(
        "SELECT max(sequence) FROM ledger.heads h WHERE chain = %s AND sequence <"
        " (SELECT min(sequence) FROM ledger.entries WHERE chain = h.chain AND kind = 'board.decided')",
        chain,
    )
    for table in ("ledger.heads", "ledger.entries"):
        database.run(f"DELETE FROM {table} WHERE chain = %s AND sequence > %s", chain, older)


def put_in_another_order(database: LedgerDatabase, chain: str) -> None:
    for old, new in ((2, 1_000_000), (3, 2), (1_000_000, 3)):
        database.run("UPDATE ledger.entries SET sequence = %s WHERE chain = %s AND sequence = %s", new, chain, old)


def write_anew(database: LedgerDatabase, chain: str) -> None:
    """Write the chain as if the board had approved, each link of it right."""
    columns = "chain, sequence, at, actor, kind, key, payload, previous, hash"
    rows = database.run(f"SELECT {columns} FROM ledger.entries WHERE chain = %s ORDER BY sequence", chain)
    previous = START
    for row in rows:
        fields = dict(zip(columns.split(", "), row, strict=True))
        if fields["kind"] == "board.decided":
            fields["payload"] = {**fields["payload"], "approved": True, "reason": "Everybody is in favour."}
        entry = Entry.model_validate({**fields, "previous": previous, "hash": START})
        previous_of, previous = previous, entry_hash(entry)
        database.run(
            "UPDATE ledger.entries SET payload = %s, previous = %s, hash = %s WHERE chain = %s AND sequence = %s",
            *(json.dumps(fields["payload"]), previous_of, previous, chain, fields["sequence"]),
        )


def write_anew_and_drop_the_heads(database: LedgerDatabase, chain: str) -> None:
    write_anew(database, chain)
    database.run("DELETE FROM ledger.heads WHERE chain = %s", chain)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        of_owner("change an entry of a release", change_a_payload, "was changed: its hash does not match its content"),
        of_owner("drop an entry of a release", drop_an_entry, "is missing"),
        of_owner(
            "drop the end of a release, its rejection with it", drop_the_end, "is missing: the chain was signed up to"
        ),
        of_owner(
            "put entries of a release in another order",
            put_in_another_order,
            "was changed: its hash does not match its content",
        ),
        of_owner("write a release anew, each link of it right", write_anew, "is not the entry that was signed"),
        of_owner("write a release anew, and drop its signed heads", write_anew_and_drop_the_heads, "is not signed"),
    ],
)
def test_what_is_changed_in_the_ledger_shows_and_stops(
    stack: Stack, rejected: Release, ledger_database: LedgerDatabase, tamper: Tampering, said: str
) -> None:
    chain, plan = release_chain(rejected.dag_id, rejected.id), wave.plan_of(rejected)
    with ledger_database.opened():
        tamper(ledger_database, chain)
        refused = wave.refusal(rejected, plan)
        code, printed = checked(stack, ledger_database)
    assert said in refused, refused
    assert code == 1, printed
    assert "BROKEN: Entry " in printed
    assert chain in printed
    code, printed = checked(stack, ledger_database)
    assert code == 0, printed


def checked(stack: Stack, database: LedgerDatabase) -> tuple[int, str]:
    """Have the ledger's own command check all chains."""
    key = stack.settings.signing_key.with_name("signing.pem.pub")
    done = subprocess.run(
        [sys.executable, "-m", "interlock", "ledger", "check", "--key", str(key)],
        cwd=PROJECT,
        env={**os.environ, "INTERLOCK_LEDGER_OWNER_URL": database.owner_url, "PYTHONPATH": str(PROJECT / "include")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@attack(
    "cut the end of a release off at an older signed head, its later heads with it",
    by=LEDGER_OWNER,
    way="database",
    stopped="the installation's chain has that the release ended, and the check names it; no votes are left to count",
)
def test_a_release_that_ended_is_not_reopened(stack: Stack, rejected: Release, ledger_database: LedgerDatabase) -> None:
    chain, plan = release_chain(rejected.dag_id, rejected.id), wave.plan_of(rejected)
    with ledger_database.opened():
        cut_to_an_older_head(ledger_database, chain)
        assert wave.refusal(rejected, plan)
        code, printed = checked(stack, ledger_database)
    assert code == 1, printed
    assert f"of the chain {chain} is missing: the release has ended by entry" in printed


@attack(
    "change, delete or empty the ledger with the password that tasks have",
    by=LEDGER_WRITER,
    way="database",
    stopped="the writer's role can insert and read, and nothing else",
)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.entries SET kind = 'note'",
        "DELETE FROM ledger.entries",
        "TRUNCATE ledger.entries CASCADE",
        "DELETE FROM ledger.heads",
        "ALTER TABLE ledger.entries DISABLE TRIGGER append_only",
        "DROP TABLE ledger.heads",
        "CREATE TABLE ledger.mine (id int)",
    ],
)
def test_the_writer_only_appends(stack: Stack, ledger_database: LedgerDatabase, statement: str) -> None:
    with pytest.raises(psycopg2.Error, match=r"permission denied|must be owner|append-only"):
        ledger_database.as_writer(statement)


@attack(
    "append to a chain with a gap, or a second time at the same place",
    by=LEDGER_WRITER,
    way="database",
    stopped="the database takes only the entry that follows the last one",
)
@pytest.mark.parametrize("step", [0, 2])
def test_the_writer_leaves_no_gap(rejected: Release, ledger_database: LedgerDatabase, step: int) -> None:
    chain = release_chain(rejected.dag_id, rejected.id)
    with pytest.raises(psycopg2.Error, match=r"does not follow the last entry|duplicate key"):
        ledger_database.as_writer(
            "INSERT INTO ledger.entries (chain, sequence, at, actor, kind, key, payload, previous, hash)"
            " SELECT chain, sequence + %s, now(), 'me', 'note', 'mine', '{}', hash, hash FROM ledger.entries"
            " WHERE chain = %s ORDER BY sequence DESC LIMIT 1",
            *(step, chain),
        )
