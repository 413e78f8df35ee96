"""Measure what a permit's check asks of a ledger with many entries.

  python -m benchmarks.ledger [--entries 100000] [--rounds 20] [--write PAGE]

It runs a PostgreSQL with a ledger in it: releases of 80 entries, and a fifth of all entries in the installation's chain
(refused attempts, ends of releases, one finding in fifty, some stops). Then it asks what a wave's permit asks of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from psycopg2.extras import execute_values

from benchmarks.table import machine, medians, publish
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.domain.calendars.stops import STOPS
from interlock.domain.canonical import canonical_bytes
from interlock.domain.ledger.chain import INSTALLATION, Entry, next_entry, release_chain
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.kinds import ATTEMPT_REFUSED, EMERGENCY_STOP_DECLARED, FINDING, RELEASE_ENDED
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from tests.integration.ledger_server import ledger_connection, ledger_server

OF_A_RELEASE = 80
ASKED = release_chain("release_service_0", "asked")
RARE = {2000: EMERGENCY_STOP_DECLARED, 50: FINDING, 2: ATTEMPT_REFUSED}
"""Each so many entries of the installation's chain are of this kind; the others are ends of releases."""


def chained(chain: str, kinds: Iterator[str], count: int) -> Iterator[Entry]:
    """Yield the entries of a chain, an hour after each other."""
    last = None
    at = datetime.now(UTC) - timedelta(hours=count + 1)
    for number in range(count):
        payload = {
            "number": number,
            "what": "Something that was seen and has to be looked at by a person",
            "chain": chain,
        }
        at += timedelta(hours=1)
        last = next_entry(
            last, chain=chain, at=at, actor="bench", kind=next(kinds), key=f"{chain}/{number}", payload=payload
        )
        yield last


def kinds_of_installation() -> Iterator[str]:
    """Yield the kinds of the installation's chain."""
    number = 0
    while True:
        number += 1
        yield next((kind for every, kind in RARE.items() if number % every == 0), RELEASE_ENDED)


def fill(settings: Settings, entries: int) -> int:
    """Write the entries as the owner of the database, past the check that they are linked; return how many."""
    many = entries // 5
    chains = [(INSTALLATION, kinds_of_installation(), many), (ASKED, iter(lambda: "note", ""), 60)]
    for number in range((entries - many - 60) // OF_A_RELEASE):
        chains.append(
            (release_chain(f"release_service_{number % 1000}", str(number)), iter(lambda: "note", ""), OF_A_RELEASE)
        )
    columns = ("chain", "sequence", "at", "actor", "kind", "key", "payload", "previous", "hash")
    with closing(postgres.connect(settings, postgres.LEDGER)) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger.entries DISABLE TRIGGER linked")
        written = 0
        for chain, kinds, count in chains:
            rows = [
                [canonical_bytes(one.payload).decode() if name == "payload" else getattr(one, name) for name in columns]
                for one in chained(chain, kinds, count)
            ]
            execute_values(cursor, f"INSERT INTO ledger.entries ({', '.join(columns)}) VALUES %s", rows, page_size=1000)
            written += len(rows)
        cursor.execute("ALTER TABLE ledger.entries ENABLE TRIGGER linked")
        cursor.execute("ANALYZE ledger.entries")
    return written


def asked(ledger: Ledger, signer: Signer) -> dict[str, float]:
    """Return how many milliseconds each question of a permit's check takes."""
    questions = {
        "The release's chain, checked (ms)": lambda: ledger.check(ASKED, [signer.public_key]),
        "The release's entries and heads (ms)": lambda: unsigned_since(
            ASKED, ledger.entries(ASKED), ledger.heads(ASKED)
        ),
        "Stops (ms)": lambda: ledger.entries(INSTALLATION, kind=STOPS),
        "Findings of the installation (ms)": lambda: ledger.entries(INSTALLATION, kind=FINDING),
    }
    found = {}
    for what, ask in questions.items():
        began = time.perf_counter()
        ask()
        found[what] = 1000 * (time.perf_counter() - began)
    return found | {"All of them (ms)": sum(found.values())}


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as name, ledger_server(Path(name, "state")) as settings:
        generate_key(Path(name, "signing.pem"))
        signer = load_signer(Path(name, "signing.pem").as_uri())
        written = fill(settings, options.entries)
        with open_ledger(ledger_connection(settings)) as ledger:
            ledger.sign_head(ASKED, signer)
            for _ in range(options.rounds):
                for what, value in asked(ledger, signer).items():
                    found.setdefault(what, []).append(value)
    about = f"{written:,} entries; median of {options.rounds}. {machine()}"
    publish(f"{about}\n\n{medians(found)}", options.write, "ledger")
    return 0


if __name__ == "__main__":
    sys.exit(main())
