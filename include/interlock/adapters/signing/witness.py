"""Signatures of requests and answers at Airflow's API, and of the questions to people.

What people asked for and answered is signed by the API server, with a key that no task can read; so neither Airflow's
database nor the ledger's, written by somebody else, makes an answer. The words of questions are signed where they were
worded, with the installation's key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from interlock.domain.canonical import Model, Sha256, canonical_bytes
from interlock.domain.errors import AssetMissing
from interlock.domain.ledger.chain import Entry, instant
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    CASE_ATTACHED,
    CASE_GIVEN_BACK,
    CASE_TAKEN,
    QUESTION_WORDED,
    RECORD_ANSWERED,
    RUN_ASKED,
)
from interlock.domain.ledger.witness import ENVELOPE, MAX_CLOCK_SKEW, WITNESS_TYPE, WORDED_TYPE, told

from .signing import Signer, open_key, said

KEY = "INTERLOCK_WITNESS_KEY"
"""Environment variable of the API server alone: the URI of the key that it signs with."""
PUBLIC_KEY = "INTERLOCK_WITNESS_PUBLIC_KEY"
"""Environment variable of all that count answers: the file with the public key, PEM."""
SIGNED = (RUN_ASKED, ANSWER_GIVEN, CASE_TAKEN, CASE_GIVEN_BACK, CASE_ATTACHED, RECORD_ANSWERED)
"""The kinds of entries that the API server signs."""


def witness_signer() -> Signer:
    """Return what the API server signs with; AssetMissing if this is not an API server that was given a key."""
    uri = os.environ.get(KEY)
    if not uri:
        raise _not_set(KEY, "set it to the URI of a key, for Airflow's API server only")
    return open_key(uri)


def witness_key() -> bytes:
    """Return the public key by which answers count, PEM; AssetMissing if the installation names none."""
    path = os.environ.get(PUBLIC_KEY)
    if not path:
        raise _not_set(PUBLIC_KEY, "set it for scheduler, workers and triggerer to the API server's public key")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _not_set(PUBLIC_KEY, f"make {path} readable: {error.strerror}") from error


def _not_set(name: str, next_step: str) -> AssetMissing:
    return AssetMissing(
        f"{name} does not name a usable key.",
        rule="an answer counts only with a signature of Airflow's API server (docs/platform-engineer.md)",
        who="the platform engineer",
        next_step=next_step,
    )


def as_witnessed(kind: str, chain: str, what: Model, at: datetime, signer: Signer) -> dict[str, Any]:
    """Return the signed payload of an entry about a request or an answer at the API at an instant."""
    plain = what.model_dump(mode="json")
    return {**plain, ENVELOPE: signer.sign(canonical_bytes(_claim(kind, chain, instant(at), plain)), WITNESS_TYPE)}


def only_witnessed(entries: Iterable[Entry], key: bytes) -> tuple[Entry, ...]:
    """Return entries without those that say that something came in at the API, and that its server did not sign.

    :param key: the API server's public key, PEM.
    """
    return tuple(entry for entry in entries if entry.kind not in SIGNED or _holds(entry, key))


def as_worded(chain: str, task_id: str, questions: Sequence[Sha256], signer: Signer) -> dict[str, Any]:
    """Return the payload of the entry with the digests of the questions that a task is to ask, with its signature."""
    plain = {"task_id": task_id, "questions": list(questions)}
    return {**plain, ENVELOPE: signer.sign(canonical_bytes({"chain": chain, **plain}), WORDED_TYPE)}


def only_worded(entries: Iterable[Entry], key: bytes) -> tuple[Entry, ...]:
    """Return the entries about questions that the installation signed, for their chain.

    :param key: the installation's public key, PEM.
    """
    return tuple(
        entry
        for entry in entries
        if entry.kind == QUESTION_WORDED
        and _signed(entry, key, WORDED_TYPE) == {"chain": entry.chain, **told(entry.payload)}
    )


def _claim(kind: str, chain: str, at: str, plain: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "chain": chain, "at": at, "what": plain}


def _holds(entry: Entry, key: bytes) -> bool:
    signed = _signed(entry, key, WITNESS_TYPE)
    if not isinstance(signed, dict) or not isinstance(signed.get("at"), str):
        return False
    at = datetime.fromisoformat(signed["at"])
    return (
        signed == _claim(entry.kind, entry.chain, signed["at"], told(entry.payload))
        and abs(entry.at - at) <= MAX_CLOCK_SKEW
    )


def _signed(entry: Entry, key: bytes, payload_type: str) -> Any:
    """Return the signed content of an entry; None: it has no valid signature."""
    return said(entry.payload.get(ENVELOPE), key, payload_type)
