"""What the owner of the ledger's database does: migrate the tables, check all chains, record that a clock was wrong.

Each logs in with the URL in ``INTERLOCK_LEDGER_OWNER_URL``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import ValidationError
from sqlalchemy import Engine

from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import AssetMissing, LedgerBroken, LedgerError
from interlock.domain.ledger.chain import INSTALLATION, Entry, SignedHead, instant
from interlock.domain.ledger.integrity import cut_end, ends_by_chain, unsigned_since
from interlock.domain.ledger.kinds import CLOCK_CORRECTED, RELEASE_ENDED

from ._database_errors import explain_errors
from .ledger import BEING_SIGNED, Ledger, engine_of
from .migrations import WITNESS, WRITER, find_weaknesses, migrate, versions

OWNER_URL = "INTERLOCK_LEDGER_OWNER_URL"


class Checked(NamedTuple):
    """The result of a check: a sentence for each intact chain, and for each problem."""

    chains: tuple[str, ...]
    problems: tuple[str, ...]


def migrate_database(url: str, writer: str = WRITER, witness: str = WITNESS) -> str:
    """Bring the tables of a database to the newest version, as its owner; return the version."""
    with explain_errors(), engine_of(url, OWNER_URL).begin() as connection:
        return migrate(connection, writer, witness)


def pending_migration(url: str) -> str:
    """Say which migration a database needs, as "from … to …"; empty: its tables are those of this version."""
    with explain_errors(), engine_of(url, OWNER_URL).connect() as connection:
        is_at, newest = versions(connection)
    return "" if is_at == newest else f"from {is_at or 'nothing'} to {newest}"


def migrate_ledger(writer: str = WRITER, witness: str = WITNESS) -> str:
    """Create or upgrade the tables of the ledger that the environment names; return their version."""
    return migrate_database(_url(), writer, witness)


def check_ledger(keys: Sequence[bytes], writer: str = WRITER, kept: Iterable[str] = ()) -> Checked:
    """Check all chains, and that triggers and rights keep the writer from changing entries.

    :param keys: the public keys that sign heads, PEM.
    :param kept: lines that :func:`newest_heads` returned earlier, and that were kept elsewhere.
    """
    outside = _read_heads(kept)
    engine = _engine()
    with explain_errors(), engine.connect() as connection:
        problems = [f"{weakness}." for weakness in find_weaknesses(connection, writer)]
    chains: list[str] = []
    with Ledger(engine) as ledger:
        ends = _read_ends(ledger)
        for chain in sorted({*ledger.chains(), *ends, *(head.chain for head in outside)}):
            found, last = ledger.check(chain, keys, [one for one in outside if one.chain == chain]), ledger.heads(chain)
            entries = () if found else ledger.entries(chain)
            settled = [entry for entry in entries if datetime.now(UTC) - entry.at > BEING_SIGNED]
            if found := found or unsigned_since(chain, settled, last) or cut_end(chain, entries, ends):
                problems.append(found.sentence)
                continue
            chains.append(f"{chain}: {len(entries)} entries, signed up to {last[-1].sequence if last else 0}")
    return Checked(tuple(chains), tuple(problems))


def newest_heads() -> list[str]:
    """Return the newest signed head of each chain, a line of JSON each: to be kept outside of the installation."""
    with Ledger(_engine()) as ledger:
        newest = [heads[-1] for chain in ledger.chains() if (heads := ledger.heads(chain))]
    return [canonical_bytes(head.model_dump(mode="json")).decode() for head in newest]


def _read_heads(lines: Iterable[str]) -> list[SignedHead]:
    try:
        return [SignedHead.model_validate_json(line) for line in lines if line.strip()]
    except ValidationError as error:
        raise LedgerError(
            f"The kept heads cannot be read: {error.errors()[0]['msg']}.",
            next_step="name a file that interlock ledger heads wrote",
        ) from error


def _read_ends(ledger: Ledger) -> dict[str, Entry]:
    """Return how the installation's chain says that releases ended; nothing if that chain does not hold."""
    try:
        return ends_by_chain(ledger.entries(INSTALLATION, kind=RELEASE_ENDED))
    except LedgerBroken:
        return {}


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
