"""What counts as come in at Airflow's API, and as worded: what the right key signed, as it stands, in its chain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.adapters.signing.signing import Signer, generate_key
from interlock.adapters.signing.witness import (
    KEY,
    PUBLIC_KEY,
    as_witnessed,
    as_worded,
    only_witnessed,
    only_worded,
    witness_key,
    witness_signer,
)
from interlock.domain.errors import AssetMissing, PolicyViolation
from interlock.domain.ledger.chain import Entry, next_entry
from interlock.domain.ledger.kinds import ANSWER_GIVEN, QUESTION_WORDED, RUN_ASKED
from interlock.domain.ledger.witness import GivenAnswer, question_digest, refuse_unworded

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
CHAIN = "release/release_bike_shop/one"
QUESTION = question_digest("Vote", "The plan", ["ben", "board_clerk"])
GIVEN_BY_BEN = GivenAnswer(user="ben", task_id="rollout.cast_ballot", map_index=0, choice="Approve", question=QUESTION)
SIGNER, OTHER = Signer(Ed25519PrivateKey.generate()), Signer(Ed25519PrivateKey.generate())


def entry(payload: dict[str, Any], kind: str = ANSWER_GIVEN, *, chain: str = CHAIN, at: datetime = NOW) -> Entry:
    return next_entry(None, chain=chain, at=at, actor="ben", kind=kind, key="one", payload=payload)


def given(signer: Signer = SIGNER, **changes: Any) -> dict[str, Any]:
    return {**as_witnessed(ANSWER_GIVEN, CHAIN, GIVEN_BY_BEN, NOW, signer), **changes}


def counts(one: Entry) -> bool:
    return bool(only_witnessed([one], SIGNER.public_key))


def test_what_the_api_server_signed_counts_as_it_stands() -> None:
    assert counts(entry(given()))
    assert counts(entry({"anything": 1}, "board.decided")), "other kinds are not the witness's"


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(entry(GIVEN_BY_BEN.model_dump(mode="json")), id="appended without a signature"),
        pytest.param(entry(given(OTHER)), id="signed with another key"),
        pytest.param(entry(given(user="cora")), id="somebody else's"),
        pytest.param(entry(given(choice="Reject")), id="another choice"),
        pytest.param(entry(given(question="0" * 64)), id="to another question"),
        pytest.param(entry(given(), chain="release/release_bike_shop/two"), id="of another release"),
        pytest.param(entry(given(), RUN_ASKED), id="as something else"),
        pytest.param(entry(given(), at=NOW + timedelta(minutes=2)), id="replayed later"),
        pytest.param(entry(given(envelope={"payloadType": "x"})), id="another envelope"),
        pytest.param(entry(given(envelope="signed")), id="no envelope"),
    ],
)
def test_what_it_did_not_sign_does_not_count(forged: Entry) -> None:
    assert not counts(forged)


def test_a_question_counts_as_the_task_that_worded_it_signed_it() -> None:
    payload = as_worded(CHAIN, "rollout.cast_ballot", [QUESTION], SIGNER)
    known = only_worded([entry(payload, QUESTION_WORDED)], SIGNER.public_key)
    refuse_unworded("rollout.cast_ballot", QUESTION, known)
    for task_id, digest in (("rollout.cast_ballot", "0" * 64), ("acceptance.ask_approver", QUESTION)):
        with pytest.raises(PolicyViolation, match="was changed: its text or its assignees"):
            refuse_unworded(task_id, digest, known, known)


def test_a_question_that_another_key_signed_does_not_count_and_nobody_is_said_to_have_changed_it() -> None:
    payload = as_worded(CHAIN, "rollout.cast_ballot", [QUESTION], OTHER)
    on_record = [entry(payload, QUESTION_WORDED)]
    known = only_worded(on_record, SIGNER.public_key)
    with pytest.raises(PolicyViolation, match="which of the two is not known here") as caught:
        refuse_unworded("rollout.cast_ballot", QUESTION, known, on_record)
    assert "was changed" not in str(caught.value)
    with pytest.raises(PolicyViolation, match="was changed: its text or its assignees"):
        refuse_unworded("rollout.cast_ballot", "0" * 64, known, on_record)


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(entry({"task_id": "t", "questions": [QUESTION]}, QUESTION_WORDED), id="unsigned"),
        pytest.param(entry(as_worded(CHAIN, "t", [QUESTION], OTHER), QUESTION_WORDED), id="another key"),
        pytest.param(
            entry({**as_worded(CHAIN, "t", ["0" * 64], SIGNER), "questions": [QUESTION]}, QUESTION_WORDED), id="edited"
        ),
        pytest.param(entry(as_worded("another", "t", [QUESTION], SIGNER), QUESTION_WORDED), id="another release"),
    ],
)
def test_a_question_that_nobody_worded_is_refused(forged: Entry) -> None:
    assert only_worded([forged], SIGNER.public_key) == ()


def test_a_question_is_its_words_and_who_may_answer_it() -> None:
    digests = {
        question_digest("Vote", "The plan", ["ben"]),
        question_digest("Vote!", "The plan", ["ben"]),
        question_digest("Vote", "Another plan", ["ben"]),
        question_digest("Vote", "The plan", ["ben", "mallory"]),
    }
    assert len(digests) == 4


def test_the_keys_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "witness.pem"
    generate_key(key)
    monkeypatch.setenv(KEY, key.as_uri())
    monkeypatch.setenv(PUBLIC_KEY, f"{key}.pub")
    assert witness_signer().public_key == witness_key()


@pytest.mark.parametrize("value", ["", "/nowhere/witness.pem.pub"])
def test_without_a_public_key_no_answer_counts(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(PUBLIC_KEY, value)
    with pytest.raises(AssetMissing, match="INTERLOCK_WITNESS_PUBLIC_KEY does not name a usable key"):
        witness_key()
