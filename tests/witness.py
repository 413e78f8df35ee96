"""What Airflow's API server and a task that words questions leave in the ledger, signed, for tests of what reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from tempfile import NamedTemporaryFile
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.adapters.signing.signing import Signer
from interlock.adapters.signing.witness import PUBLIC_KEY, as_witnessed, as_worded
from interlock.domain.ledger.kinds import ANSWER_GIVEN, RUN_ASKED
from interlock.domain.ledger.witness import AskedRun, GivenAnswer, question_digest

SIGNER = Signer(Ed25519PrivateKey.generate())
"""Signs as the API server and as the installation do; tests read its public key as both."""
_PUBLIC = NamedTemporaryFile(suffix=".pem")  # noqa: SIM115  # it is there as long as the tests are
_PUBLIC.write(SIGNER.public_key)
_PUBLIC.flush()
os.environ[PUBLIC_KEY] = _PUBLIC.name


def asked_payload(asked: AskedRun, at: datetime) -> dict[str, Any]:
    """Return what the API server records of a run that somebody asked for."""
    return as_witnessed(RUN_ASKED, asked.chain, asked, at, SIGNER)


def given_payload(chain: str, given: GivenAnswer, at: datetime) -> dict[str, Any]:
    """Return what the API server records of an answer."""
    return as_witnessed(ANSWER_GIVEN, chain, given, at, SIGNER)


def digest_of(question: Mapping[str, Any]) -> str:
    """Return the digest of a question as Airflow's API describes it."""
    assigned = [user["id"] for user in question["assigned_users"]]
    return question_digest(question["subject"], question["body"], assigned)


def worded_payload(chain: str, task_id: str, *questions: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task records that words questions for another."""
    return as_worded(chain, task_id, [digest_of(one) for one in questions], SIGNER)
