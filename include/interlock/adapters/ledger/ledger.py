"""The ledger: what was decided and done, append-only, in chains of hashes, in a PostgreSQL database of its own.

What the owner of the database does with it is in :mod:`.owner`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, func, select, text, union
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from interlock.adapters.signing.signing import Signer, said
from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import (
    AlreadyRecorded,
    AssetMissing,
    ClockError,
    LedgerBroken,
    LedgerConflict,
    LedgerError,
    TransientError,
)
from interlock.domain.ledger.chain import (
    HEAD_TYPE,
    IN_ANY_CASE,
    Break,
    Entry,
    SignedHead,
    broken_by,
    instant,
    next_entry,
    same_thing,
)
from interlock.domain.ledger.integrity import first_break, unsigned_since
from interlock.domain.ledger.kinds import CLOCK_CORRECTED

from ._database_errors import describe_error, explain_errors, is_temporary
from ._rows import (
    ENTRIES,
    HEADS,
    SETTINGS,
    Tail,
    chains_with_open,
    ends_of_chains,
    entries_among,
    entries_of_kind,
    entry_with_key,
    has_gaps,
    heads_of,
    last_entry,
    parsed,
    rows_of_chain,
    stretch,
    tail_of,
    whole_chains,
)
from .migrations import find_weaknesses

WITNESS_URL_FILE = "INTERLOCK_WITNESS_LEDGER_URL_FILE"
"""Environment variable of Airflow's API server alone: the file with the URL that it logs in to the ledger with."""
MAX_ATTEMPTS = 6
DATABASE_TIMEOUT = "20s"
"""Maximum time that a statement may wait for the database."""
MAX_CLOCK_SKEW = timedelta(seconds=2)
"""Machines' clocks differ by so much: an entry waits until its own clock has passed its predecessor's time."""
MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
"""How far a clock may be from the database server's."""

BEING_SIGNED = timedelta(seconds=10)
"""So long after an entry, its head may not be signed yet."""

DATABASE = "interlock_ledger"

_DRIVER = "postgresql+psycopg2"
_SSL = ("sslmode", "sslrootcert", "sslcert", "sslkey")


class _NotYet(Exception):
    """Another machine's clock is a little ahead."""


class Ledger:
    """Chains of entries, and their signed heads; safe with many writers, in threads and on machines."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine, self._clock = engine, clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def append(self, chain: str, kind: str, payload: Mapping[str, Any], *, actor: str, key: str) -> Entry:
        """Record an entry, or return the existing entry. LedgerConflict if its key exists with other content."""
        entry, is_new = self._record(chain, kind, payload, actor, key)
        if is_new or same_thing(entry, actor=actor, kind=kind, payload=payload):
            return entry
        raise LedgerConflict(
            f"{kind} cannot be recorded as {key!r} in the chain {chain}: entry {entry.sequence} there, {entry.kind} by "
            f"{entry.actor} at {instant(entry.at)}, has the same key but other content.",
            rule="entries of the ledger never change",
            next_step="compare this action with that entry",
        )

    def append_once(self, chain: str, kind: str, payload: Mapping[str, Any], *, actor: str, key: str) -> Entry:
        """Record an event that may happen once; AlreadyRecorded if its key exists, by any actor."""
        entry, is_new = self._record(chain, kind, payload, actor, key)
        if is_new:
            return entry
        raise AlreadyRecorded(
            f"{key!r} is already in the chain {chain}: entry {entry.sequence}, {entry.kind} by {entry.actor} at "
            f"{instant(entry.at)}.",
            entry=entry,
            rule=f"{kind} is recorded once",
        )

    def sign_head(self, chain: str, signer: Signer, *, seals: Entry | None = None) -> SignedHead:
        """Check the chain from its last head on, and sign its last entry, or return the existing head.

        :param seals: vouch for this entry, and for nothing after it. Refused, with LedgerBroken, if what was decided
            before it is not signed: its heads were taken away, or somebody else wrote it, and may have written more.
        """
        keys = [signer.public_key]
        with self._reading() as connection:
            if seals is not None:
                signed = [head for head in heads_of(connection, chain) if not _head_problem(head, keys)]
                before = stretch(connection, chain, 0)[: seals.sequence - 1]
                if gap := unsigned_since(chain, before, signed):
                    raise broken_by(gap)
            own = heads_of(connection, chain, signer.key_id)
            trusted = own[-1] if own and not _head_problem(own[-1], keys) else None
            new = stretch(connection, chain, trusted.sequence if trusted else 0)
            new = new if seals is None else tuple(one for one in new if one.sequence <= seals.sequence)
        if not new:
            if trusted:
                return trusted
            raise LedgerError(f"The chain {chain} has no entries to sign.")
        claim = {"chain": chain, "sequence": new[-1].sequence, "hash": new[-1].hash}
        envelope = signer.sign(canonical_bytes({**claim, "at": instant(self._clock())}), HEAD_TYPE)
        row = {**claim, "key_id": signer.key_id, "envelope": envelope}
        with explain_errors(), self._engine.begin() as connection:
            connection.execute(insert(HEADS).values(row).on_conflict_do_nothing())
            kept = heads_of(connection, chain, signer.key_id, new[-1].sequence)[0]
        if problem := _head_problem(kept, keys):
            raise broken_by(problem)
        return kept

    def _record(self, chain: str, kind: str, payload: Mapping[str, Any], actor: str, key: str) -> tuple[Entry, bool]:
        """Return the entry with the key, and whether it was written here."""
        tried: set[str] = set()
        for attempt in range(MAX_ATTEMPTS):
            try:
                with self._engine.begin() as connection:
                    now = self._hold(connection, chain, kind)
                    known = entry_with_key(connection, chain, key)
                    if known is not None:
                        # Ours, if the connection was lost after it was written and before that was said.
                        return known, known.hash in tried
                    tail = tail_of(connection, chain)
                    _wait_for(tail, now, kind)
                    entry = next_entry(tail, chain=chain, at=now, actor=actor, kind=kind, key=key, payload=payload)
                    tried.add(entry.hash)
                    connection.execute(ENTRIES.insert(), entry.model_dump())
                return entry, True
            except _NotYet as early:
                time.sleep(float(early.args[0]))
            except DBAPIError as error:
                if not is_temporary(error) or attempt == MAX_ATTEMPTS - 1:
                    raise describe_error(error) from error
                time.sleep(random.uniform(0, 0.05 * 2**attempt))
        raise TransientError(f"{kind} could not be recorded in the chain {chain}: each time, its last entry was later.")

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Let one process at a time do what has a name, on all machines; the others wait.

        :raises TransientError: it is not this one's turn in time.
        """
        with explain_errors(), self._engine.connect() as connection, connection.begin():
            connection.execute(select(func.set_config("lock_timeout", DATABASE_TIMEOUT, True)))
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 1))))
            yield

    def now(self) -> datetime:
        """Return what time it is; if this machine's clock and the database's do not agree, the later of both."""
        return max(self._clock(), self.server_time())

    def server_time(self) -> datetime:
        """Return the time on the clock of the database's server."""
        with self._reading() as connection:
            theirs: datetime = connection.scalar(select(func.clock_timestamp()))
        return theirs.astimezone(UTC)

    def _hold(self, connection: Connection, chain: str, kind: str) -> datetime:
        """Lock the chain for other writers until the transaction ends; return the current time."""
        settled = select(
            func.set_config("lock_timeout", DATABASE_TIMEOUT, True),
            func.set_config("statement_timeout", DATABASE_TIMEOUT, True),
        )
        connection.execute(settled)
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(chain, 0))))
        theirs, ours = connection.scalar(select(func.clock_timestamp())), self._clock()
        if abs(ours - theirs) > MAX_CLOCK_DIFFERENCE:
            if kind in IN_ANY_CASE:
                return datetime.fromtimestamp(min(ours, theirs).timestamp(), UTC)
            raise ClockError(
                f"The clock of this machine is at {instant(ours)}, but the clock of the ledger's database is at "
                f"{instant(theirs)}.",
                rule=f"the clocks differ by at most {MAX_CLOCK_DIFFERENCE} "
                "(include/interlock/adapters/ledger/ledger.py)",
                who="the operators of these machines",
                next_step="correct the wrong clock and try again",
            )
        return ours

    def entries(
        self, chain: str, *, kind: str | None = None, after: int = 0, since: datetime | None = None
    ) -> tuple[Entry, ...]:
        """Return the entries of a chain after a sequence; LedgerBroken if they or the signed heads do not hold.

        :param kind: only those of this kind, or, with ``.*`` at its end, of these. Then each entry is checked by itself
            and the chain for gaps only, which stays quick when the chain is long.
        :param since: of a kind, only those that were recorded then or later.
        """
        with self._reading() as connection:
            if kind is None:
                return stretch(connection, chain, after)
            if has_gaps(connection, chain):
                stretch(connection, chain, 0)  # says where
            return entries_of_kind(connection, chain, kind, after, since)

    def look(self, *queries: tuple[str, str, int]) -> tuple[datetime, tuple[tuple[Entry, ...], ...]]:
        """Return the database's time, and entries of chains of a kind after a sequence, all in one snapshot.

        :param queries: chain, kind (as in :meth:`entries`) and sequence.
        """
        with self._reading() as connection:
            found = tuple(entries_of_kind(connection, *one) for one in queries)
            return connection.scalar(select(func.clock_timestamp())), found

    def among(self, chains: Collection[str], kinds: Collection[str]) -> tuple[Entry, ...]:
        """Return the entries of some kinds in some chains, each checked by itself.

        For what is shown of many chains: that none is missing is not checked, and nothing may be decided by it.
        """
        with self._reading() as connection:
            return entries_among(connection, chains, kinds)

    def find(self, chain: str, key: str) -> Entry | None:
        """Return the entry with a key."""
        with self._reading() as connection:
            return entry_with_key(connection, chain, key)

    def last(self, chain: str) -> Entry | None:
        """Return the last entry of a chain."""
        with self._reading() as connection:
            return last_entry(connection, chain)

    def whole(self, chains: Collection[str]) -> dict[str, tuple[Entry, ...] | Break]:
        """Return the entries of each chain, in one snapshot, or the first place where the chain is not intact."""
        with self._reading() as connection:
            return whole_chains(connection, chains)

    def chains(self, beginning: str = "") -> tuple[str, ...]:
        """Return the names of all chains, or of those with a prefix."""
        tables = (ENTRIES.c.chain, HEADS.c.chain)
        both = union(*(select(one).where(one.startswith(beginning, autoescape=True)) for one in tables))
        with self._reading() as connection:
            return tuple(sorted(connection.scalars(both)))

    def open_chains(self, beginning: str, opens: str, closes: Collection[str], field: str) -> tuple[str, ...]:
        """Return the chains with a prefix in which something is open; nothing of it is checked here.

        That is, no entry of the kinds ``closes`` with the same text in a field of its payload follows the last entry of
        the kind ``opens``.
        """
        with self._reading() as connection:
            return chains_with_open(connection, beginning, opens, closes, field)

    def began(self, beginning: str) -> dict[str, datetime]:
        """Return when each chain with a prefix began; nothing of it is checked here."""
        first = select(ENTRIES.c.chain, ENTRIES.c.at).where(
            ENTRIES.c.sequence == 1, ENTRIES.c.chain.startswith(beginning, autoescape=True)
        )
        with self._reading() as connection:
            return {chain: at for chain, at in connection.execute(first)}

    def ends(self, beginning: str) -> dict[str, datetime | None]:
        """Return when the last entry of each chain with a prefix was recorded; none: it is not there or not good."""
        with self._reading() as connection:
            return ends_of_chains(connection, beginning)

    def heads(self, chain: str) -> tuple[SignedHead, ...]:
        """Return the signed heads of a chain, in order; who signed them is not checked here."""
        with self._reading() as connection:
            return heads_of(connection, chain)

    def signed_up_to(self, chain: str, keys: Sequence[bytes]) -> int:
        """Return up to which entry one of the keys signed a chain; 0: none of them did.

        :param keys: public keys, PEM.
        """
        heads = self.heads(chain)
        return next((head.sequence for head in reversed(heads) if not _head_problem(head, keys)), 0)

    def check(self, chain: str, keys: Sequence[bytes] = (), kept: Sequence[SignedHead] = ()) -> Break | None:
        """Return the first place where a chain is not intact, or None.

        :param keys: public keys, PEM; with any, each head must be signed by one of them.
        :param kept: heads of the chain that were kept outside of the database.
        """
        try:
            with self._reading() as connection:
                heads = (*heads_of(connection, chain), *kept)
                rows = [parsed(row) for row in connection.execute(rows_of_chain(chain))]
        except LedgerBroken as error:
            return error.broken
        problems = (_head_problem(head, keys) for head in heads) if keys else ()
        found = [first_break(chain, rows, heads=heads), *problems]
        return min(filter(None, found), key=lambda problem: problem.sequence, default=None)

    def weaknesses(self) -> tuple[str, ...]:
        """Say how the database would let this role change recorded entries."""
        with self._reading() as connection:
            return tuple(find_weaknesses(connection, str(connection.scalar(text("SELECT session_user")))))

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction for the tables beside the chains."""
        with explain_errors(), self._engine.begin() as connection:
            connection.execute(select(func.set_config("lock_timeout", DATABASE_TIMEOUT, True)))
            yield connection

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Say whether this process is the only one that does what has a name, on all machines, and stay it."""
        with explain_errors(), self._engine.connect() as connection, connection.begin():
            yield bool(connection.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 2)))))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Open a snapshot of the database: what is written meanwhile is not there."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with explain_errors(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection


def open_ledger(connection: Any, *, clock: Callable[[], datetime] | None = None, connections: int = 1) -> Ledger:
    """Open the ledger that an Airflow connection of type ``postgres`` names.

    :param clock: what time it is, for tests.
    :param connections: how many connections to its database are kept: as many as threads use it.
    """
    if not connection.host or not connection.login:
        raise AssetMissing(
            "The connection of the ledger has no host or no login.",
            rule="every decision is recorded in the ledger before it takes effect",
            who="the platform engineer",
            next_step=f"correct {SETTINGS}",
        )
    extra = connection.extra_dejson
    url = URL.create(
        _DRIVER,
        username=connection.login,
        password=connection.password or None,
        host=connection.host,
        port=connection.port or 5432,
        database=connection.schema or DATABASE,
        query={name: str(extra[name]) for name in _SSL if extra.get(name)},
    )
    return Ledger(_engine(url, connections), **({"clock": clock} if clock else {}))


def open_as_witness() -> Ledger | None:
    """Open the ledger with the URL in the file that :data:`WITNESS_URL_FILE` names; None: it names none.

    It is a file of its own, and no Airflow connection: tasks can ask Airflow for every connection.
    """
    path = os.environ.get(WITNESS_URL_FILE)
    if not path:
        return None
    try:
        return Ledger(engine_of(Path(path).read_text("utf-8").strip(), WITNESS_URL_FILE))
    except OSError as error:
        raise AssetMissing(
            f"{path}, which {WITNESS_URL_FILE} names, cannot be read: {error.strerror}.",
            who="the platform engineer",
            next_step="make it readable only for the user that runs Airflow's API server",
        ) from error


def _engine(url: URL, connections: int = 1) -> Engine:
    """Return the engine of a ledger: it keeps connections until the ledger is closed, for a login takes long."""
    about = {"connect_timeout": 10, "application_name": "interlock"}
    kept: dict[str, Any] = {"pool_size": connections, "max_overflow": -1, "pool_pre_ping": True}
    return create_engine(url, **kept, json_serializer=_json, connect_args=about, use_native_hstore=False)


def _json(value: dict[str, Any]) -> str:
    return canonical_bytes(value).decode()


def _wait_for(tail: Tail | None, now: datetime, kind: str) -> None:
    """Make the caller wait if the last entry's clock was slightly ahead; the domain refuses a larger difference."""
    if tail and kind != CLOCK_CORRECTED and timedelta() < tail.at - now <= MAX_CLOCK_SKEW:
        raise _NotYet((tail.at - now).total_seconds())


def _head_problem(head: SignedHead, keys: Sequence[bytes]) -> Break | None:
    """Say what is wrong with a head if none of the keys signed just this."""
    claims = (said(head.envelope, key, HEAD_TYPE) for key in keys)
    claim = next((one for one in claims if isinstance(one, dict)), None)
    wanted = {"chain": head.chain, "sequence": head.sequence, "hash": head.hash}
    if claim is not None and {name: claim.get(name) for name in wanted} == wanted:
        return None
    what = "has a signature for other content" if claim else "has a signature of an unknown key"
    sentence = f"Entry {head.sequence} of the chain {head.chain} {what}."
    return Break(chain=head.chain, sequence=head.sequence, what="head", sentence=sentence)


def engine_of(url: str, variable: str) -> Engine:
    """Return the engine of a database.

    :param url: as the variable has it, which messages name.
    :raises AssetMissing: it is no URL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise AssetMissing(f"{variable} is not a URL such as postgresql://role:password@host/database.") from error
    return _engine(parsed.set(drivername=_DRIVER))
