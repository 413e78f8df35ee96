"""The verifier on answers: Airflow's API server signed them as they came in, and they are to what was worded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.signing.signing import Signer
from interlock.adapters.signing.witness import as_witnessed, as_worded
from interlock.domain.canonical import sha256_of
from interlock.domain.ledger.events import AnswerElsewhere
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    CASE_ATTACHED,
    CASE_TAKEN,
    CASE_TESTED,
    QUESTION_WORDED,
    RECORD_ANSWERED,
    RECORD_APPROVED,
)
from interlock.domain.ledger.witness import GivenAnswer, question_digest
from interlock.domain.outbox.authority import Approver, RecordRead
from interlock.domain.records import Blob
from interlock.domain.testing.attachments import Attachment
from interlock.domain.testing.takers import Taking
from interlock.verify import __main__ as verifier
from tests.factories import evidence as make
from tests.unit.domain.test_test_matrix import result

WITNESS, MALLORY = make.signer(8), make.signer(9)
BALLOT = "rollout.cast_ballot"
Steps = list[make.Step]


def texts(many: Steps) -> dict[str, str]:
    """Return, for each voter, the digest of the ballot that Airflow has."""
    plan = next(payload for kind, payload in many if kind == "rollout.frozen")
    votes = next(payload["votes"] for kind, payload in many if kind == "board.decided")
    return {
        row.user or "": question_digest(row.subject, row.body, row.assigned)
        for row in make.answers(votes, plan["digest"])
    }


def signed(
    many: Steps, by: Signer = WITNESS, worded_by: Signer | None = None, voters: Sequence[str] = ("ben", "dan")
) -> Steps:
    """Return a release in which people were asked what was worded, and their answers came in."""
    asked = texts(many)
    place = 1 + [kind for kind, _ in many].index("rollout.frozen")
    steps: Steps = [
        (QUESTION_WORDED, as_worded(make.CHAIN, BALLOT, sorted(asked.values()), worded_by or make.signer()))
    ]
    for number, user in enumerate(voters, place + 1):
        index = ["ben", "dan"].index(user)
        given = GivenAnswer(user=user, task_id=BALLOT, map_index=index, choice="Approve", question=asked[user])
        steps.append(
            (ANSWER_GIVEN, as_witnessed(ANSWER_GIVEN, make.CHAIN, given, make.AT + timedelta(minutes=number), by))
        )
    return [*many[:place], *steps, *many[place:]]


def told(tmp_path: Path, change: Callable[[Steps], Steps], witnesses: Sequence[bytes] = ()) -> tuple[bool, str]:
    what = make.evidence(change)
    keys = {one.key_id: one.public_key for one in (WITNESS, MALLORY)}
    data = make.packed(tmp_path / "pack.zip", dataclasses.replace(what, keys=keys))
    said: list[str] = []
    key = verifier.read_pem(make.signer().public_key, "key")
    return verifier.verify(data, [key], said.append, (), witnesses), "\n".join(said)


DER = verifier.read_pem(WITNESS.public_key, "witness")


@pytest.mark.parametrize("witnesses", [(), (DER,)])
def test_votes_that_came_in_at_the_api_are_proven(tmp_path: Path, witnesses: Sequence[bytes]) -> None:
    proven, said = told(tmp_path, signed, witnesses)
    assert proven, said
    assert "2 answers, signed as they came in" in said


def test_a_release_of_before_answers_were_signed_stays_proven(tmp_path: Path) -> None:
    proven, said = told(tmp_path, lambda many: many)
    assert proven
    assert "made before answers were signed" in said


def edited(kind: str, **changes: Any) -> Callable[[Steps], Steps]:
    """Return a change that edits the payload of entries of a kind after they were signed."""

    def change(many: Steps) -> Steps:
        return [(one, {**payload, **changes} if one == kind else payload) for one, payload in signed(many)]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda many: signed(many, voters=["ben"]), "a signed answer of dan (Approve)", id="no answer"),
        pytest.param(edited(ANSWER_GIVEN, user="dan"), "expected the answer that was signed", id="somebody else's"),
        pytest.param(edited(ANSWER_GIVEN, question="0" * 64), "to a question as it was worded", id="another question"),
        pytest.param(
            edited(QUESTION_WORDED, questions=[]), "expected the questions that were signed", id="other questions"
        ),
        pytest.param(lambda many: signed(many, worded_by=MALLORY), "which is not trusted", id="worded by another"),
    ],
)
def test_an_answer_that_does_not_hold_is_named(tmp_path: Path, change: Callable[[Steps], Steps], words: str) -> None:
    proven, said = told(tmp_path, change)
    assert not proven
    assert words in said


def test_with_the_witness_named_no_other_key_in_the_pack_makes_an_answer(tmp_path: Path) -> None:
    def forged(many: Steps) -> Steps:
        return signed(many, by=MALLORY)

    assert told(tmp_path, forged)[0], "the pack's own keys are all there is to go by"
    proven, said = told(tmp_path, forged, (DER,))
    assert not proven
    assert "which is not trusted" in said


def test_a_ballot_whose_text_was_changed_in_airflow_is_named(tmp_path: Path) -> None:
    what = make.evidence(signed)
    ballots = [row.model_copy(update={"subject": "Lunch?"}) for row in what.ballots]
    keys = {WITNESS.key_id: WITNESS.public_key}
    data = make.packed(tmp_path / "pack.zip", dataclasses.replace(what, ballots=ballots, keys=keys))
    said: list[str] = []
    assert not verifier.verify(data, [], said.append)
    assert "expected a question as it was worded" in "\n".join(said)


SHOT = Attachment(
    environment="test",
    case="basket",
    by="tess",
    name="shot.png",
    kind="png",
    file=Blob(uri="file:///x", sha256=sha256_of(b"a picture"), size=9),
    binds="b" * 64,
)


def with_a_file(
    tmp_path: Path,
    *,
    by: Signer = WITNESS,
    taken_by: Signer = WITNESS,
    kept: bytes = b"a picture",
    named: Attachment = SHOT,
) -> tuple[bool, str]:
    """Return what is said of a release in which a tester attached a file to a case, took it, and gave the result.

    :param named: the file that the result names.
    """
    found = result("basket", "failed").model_copy(update={"by": "tess", "binds": "b" * 64, "files": (named,)})

    def tested(many: Steps) -> Steps:
        place = 1 + [kind for kind, _ in many].index("artifact.built")
        at = make.AT + timedelta(minutes=place)
        attached = as_witnessed(CASE_ATTACHED, make.CHAIN, SHOT, at, by)
        taking = Taking(environment="test", case="basket", by="tess", binds="b" * 64)
        taken = as_witnessed(CASE_TAKEN, make.CHAIN, taking, at, taken_by)
        both = [(CASE_ATTACHED, attached), (CASE_TAKEN, taken)]
        return signed([*many[:place], *both, (CASE_TESTED, found.to_xcom()), *many[place:]])

    keys = {one.key_id: one.public_key for one in (WITNESS, MALLORY)}
    files = {f"{SHOT.file.sha256}.png": kept} if kept else {}
    what = dataclasses.replace(make.evidence(tested), keys=keys, attached=files)
    said: list[str] = []
    key = verifier.read_pem(make.signer().public_key, "key")
    proven = verifier.verify(make.packed(tmp_path / "pack.zip", what), [key], said.append, (), (DER,))
    return proven, "\n".join(said)


def test_a_file_of_a_tester_is_proven_with_its_result(tmp_path: Path) -> None:
    proven, said = with_a_file(tmp_path)
    assert proven, said
    assert "1 files of testers, signed as they came in" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kept": b"another picture"}, "expected what tess attached"),
        ({"kept": b""}, "found none"),
        ({"by": MALLORY}, "which is not trusted"),
        ({"taken_by": MALLORY}, "which is not trusted"),
        ({"named": SHOT.model_copy(update={"name": "other.png"})}, "expected only files that tess attached"),
        ({"named": SHOT.model_copy(update={"by": "tom"})}, "expected only files that tess attached"),
    ],
)
def test_a_file_that_no_tester_attached_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    proven, said = with_a_file(tmp_path, **changes)
    assert not proven
    assert words in said


def with_an_approval(tmp_path: Path, *, by: Signer = WITNESS, user: str = "ben") -> tuple[bool, str]:
    """Return what is said of a release that a person approved in another system, by a signed event.

    :param user: who approved it, by what was read for a permit.
    """
    about = {"what": "a", "source": "erp", "webhook": "w", "event": "e", "type": "a", "sender": "s", "body": "0" * 64}
    given = {"system": "erp", "user": "ben", "set_by": "ben", "state": "approved"}

    def approved(many: Steps) -> Steps:
        place = 1 + [kind for kind, _ in many].index("board.decided")
        at = make.AT + timedelta(minutes=place + 3)  # after what signed() puts before it
        plan = dict(many)["rollout.frozen"]["digest"]
        answer = AnswerElsewhere.model_validate({**about, **given, "plan": plan, "at": at})
        answered = as_witnessed(RECORD_ANSWERED, make.CHAIN, answer, at, by)
        one = Approver(user=user, state="approved", set_by=user, at=at)
        read = RecordRead(system="erp", number="r", plan=plan, approved=True, rejected=False, answers=(one,))
        return signed([*many[:place], (RECORD_ANSWERED, answered), (RECORD_APPROVED, read.to_xcom()), *many[place:]])

    what = dataclasses.replace(make.evidence(approved), keys={one.key_id: one.public_key for one in (WITNESS, MALLORY)})
    said: list[str] = []
    key = verifier.read_pem(make.signer().public_key, "key")
    proven = verifier.verify(make.packed(tmp_path / "pack.zip", what), [key], said.append, (), (DER,))
    return proven, "\n".join(said)


def test_an_approval_in_another_system_is_proven_with_the_event_that_it_came_by(tmp_path: Path) -> None:
    proven, said = with_an_approval(tmp_path)
    assert proven, said
    assert "1 answers in other systems, signed as they came in" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"by": MALLORY}, "which is not trusted"),
        ({"user": "cora"}, "expected a signed event of cora (approved), found none"),
    ],
)
def test_an_approval_that_nobody_sent_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    proven, said = with_an_approval(tmp_path, **changes)
    assert not proven
    assert words in said
