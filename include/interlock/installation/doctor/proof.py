"""Checks of what every proof rests on: the ledger, its clock and rights, and the keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import open_signer, verified_statement
from interlock.adapters.signing.witness import witness_key
from interlock.domain.permits.installation import faults_of_ledger

from .inspection import Finding, well, wrong


def ledger() -> Iterator[Finding]:
    """Read the ledger as tasks do, and look at the rights of their role and at the clock."""
    with open_ledger(stored_connection("interlock_ledger")) as opened:
        weaknesses, before, now, after = opened.weaknesses(), datetime.now(UTC), opened.server_time(), datetime.now(UTC)
    found = list(faults_of_ledger(weaknesses, max(before - now, now - after)))
    for fault in found:
        yield wrong("ledger", fault.what, fault.fix)
    if not found:
        yield well("ledger", "It can be read; its entries cannot be changed by tasks; its clock is right.")


def signing_key() -> Iterator[Finding]:
    """Sign something with the key of the installation, and verify it."""
    signer = open_signer(stored_connection("interlock_signing_key"))
    verified_statement(signer.envelope({"_type": "doctor"}), signer.public_key)
    yield well("signing key", f"It signs; its id is {signer.key_id[:16]}.")


def public_key_of_answers() -> Iterator[Finding]:
    """Read the public key by which answers count."""
    witness_key()
    yield well("key of answers", "INTERLOCK_WITNESS_PUBLIC_KEY names a key that can be read.")
