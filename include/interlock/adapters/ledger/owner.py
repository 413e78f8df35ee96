"""What the owner of the ledger's database does: migrate the tables, check all chains, record that a clock was wrong.

Each logs in with the URL in ``INTERLOCK_LEDGER_OWNER_URL``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Engine

from interlock.domain.errors import AssetMissing, LedgerError
from interlock.domain.ledger.chain import Entry, instant
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.kinds import CLOCK_CORRECTED

from ._database_errors import explain_errors
from .ledger import BEING_SIGNED, Ledger, engine_of
from .migrations import WITNESS, WRITER, find_weaknesses, migrate

OWNER_URL = "INTERLOCK_LEDGER_OWNER_URL"


class Checked(NamedTuple):
    """The result of a check: a sentence for each intact chain, and for each problem."""

    chains: tuple[str, ...]
    problems: tuple[str, ...]


def migrate_database(url: str, writer: str = WRITER, witness: str = WITNESS) -> str:
    """Bring the tables of a database to the newest version, as its owner; return the version."""
    with explain_errors(), engine_of(url, OWNER_URL).begin() as connection:
        return migrate(connection, writer, witness)


def migrate_ledger(writer: str = WRITER, witness: str = WITNESS) -> str:
    """Create or upgrade the tables of the ledger that the environment names; return their version."""
    return migrate_database(_url(), writer, witness)


def check_ledger(keys: Sequence[bytes], writer: str = WRITER) -> Checked:
    """Check all chains, and that triggers and rights keep the writer from changing entries.

    :param keys: the public keys that sign heads, PEM.
    """
    engine = _engine()
    with explain_errors(), engine.connect() as connection:
        problems = [f"{weakness}." for weakness in find_weaknesses(connection, writer)]
    chains: list[str] = []
    with Ledger(engine) as ledger:
        for chain in ledger.chains():
            found, last = ledger.check(chain, keys), ledger.heads(chain)
            entries = () if found else ledger.entries(chain)
            settled = [entry for entry in entries if datetime.now(UTC) - entry.at > BEING_SIGNED]
            if found := found or unsigned_since(chain, settled, last):
                problems.append(found.sentence)
                continue
            chains.append(f"{chain}: {len(entries)} entries, signed up to {last[-1].sequence if last else 0}")
    return Checked(tuple(chains), tuple(problems))


def correct_clock(chain: str, *, actor: str, reason: str) -> Entry:
    """Record that the last entry of a chain has a wrong time, so that the chain goes on; return the record.

    :raises LedgerError: the chain does not exist.
    """
    with Ledger(_engine()) as ledger:
        last = ledger.last(chain)
        if last is None:
            raise LedgerError(f"The ledger has no chain {chain}.")
        payload = {"reason": reason, "was": instant(last.at)}
        return ledger.append(chain, CLOCK_CORRECTED, payload, actor=actor, key=f"{CLOCK_CORRECTED}/{last.sequence}")


def _engine() -> Engine:
    return engine_of(_url(), OWNER_URL)


def _url() -> str:
    url = os.environ.get(OWNER_URL)
    if not url:
        raise AssetMissing(f"{OWNER_URL} is not set.", next_step="set it to postgresql://owner:password@host/database")
    return url
