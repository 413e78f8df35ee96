"""The witness: it records the requester of each run, and each answer to a question of a release, as they come in.

What is not recorded does not count (``domain/ledger/witness.py``). So an answer that cannot be recorded is refused. A
run has a name only after Airflow created it: if it cannot be recorded then, its first task fails.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from interlock.adapters.ledger.stops import declare, request_in
from interlock.adapters.signing.signing import Signer
from interlock.adapters.signing.witness import as_witnessed, witness_signer
from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.control.current_request import CurrentRequest
from interlock.console.control.lookups import deadline_of, question_of
from interlock.console.control.routes import RequestKind
from interlock.console.control.rules import is_controlled
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.forms import COMMENT, CONDITIONS, DEFECT, EVIDENCE, STEP, incomplete
from interlock.domain.board.waivers import lacks_reason
from interlock.domain.canonical import sha256_of
from interlock.domain.dag_names import EMERGENCY_STOP
from interlock.domain.errors import describe_error
from interlock.domain.ledger.chain import Book, release_chain
from interlock.domain.ledger.kinds import ANSWER_GIVEN, RUN_ASKED
from interlock.domain.ledger.witness import AskedRun, GivenAnswer
from interlock.locations import catalogue_folder

from .overtaking import overtake_others

log = logging.getLogger(__name__)


def is_answer(asked: CurrentRequest) -> bool:
    """Tell whether a request answers a question of a Dag under control."""
    return asked.request_kind is RequestKind.ANSWER and is_controlled(asked.names.get("dag_id"))


def does_not_count(
    user: str, asked: CurrentRequest, *, deadline: Callable[[CurrentRequest], datetime | None] = deadline_of
) -> str:
    """Say why an answer would not count, while it can still be given otherwise; empty: it would.

    :param deadline: returns the end of the time for an answer.
    """
    given = _answer(user, asked)
    if given is None:
        return ""
    if user != CLERK and (until := deadline(asked)) is not None and asked.at >= until:
        return (
            f"Your answer was not accepted: the time for an answer ended at {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} "
            "UTC. Rule: without an answer in time, the question counts as unanswered. Next: the requester can trigger "
            "the release again."
        )
    if why := incomplete(given.choice, _form(asked)):
        return why
    if not lacks_reason(given.task_id, given.choice, given.comment):
        return ""
    return (
        "Your answer was not accepted: a waiver without a reason does not count. Rule: the reason of a waiver is "
        "its comment. Next: write the reason into the comment and answer again."
    )


def objection(
    user: str,
    asked: CurrentRequest,
    open_ledger: OpenLedger = configured_ledger,
    *,
    open_signer: Callable[[], Signer] = witness_signer,
    question: Callable[[CurrentRequest], str | None] = question_of,
) -> str:
    """Record and sign an answer; return why that is not possible, or nothing.

    :param question: returns the digest of the question that is answered, as Airflow has it now.
    """
    given = _answer(user, asked)
    if given is None:
        return ""  # Airflow says what is wrong with it
    chain = release_chain(asked.names["dag_id"], asked.names["dag_run_id"])
    try:
        given = given.model_copy(update={"question": question(asked)})
        payload = as_witnessed(ANSWER_GIVEN, chain, given, asked.at, open_signer())
        with open_ledger() as ledger:
            ledger.append(chain, ANSWER_GIVEN, payload, actor=user, key=f"{ANSWER_GIVEN}/{asked.id}")
    except Exception as error:  # of any kind: what is not recorded does not count
        log.exception("%s could not be recorded", given)
        return (
            f"Your answer was not accepted, because it could not be recorded: {describe_error(error)} Rule: an answer "
            "counts only if the ledger recorded it. Who can change it: the platform engineer. Next: answer again later."
        )
    return ""


def note_run(
    user: str,
    dag_id: str,
    asked: CurrentRequest,
    reply: bytes,
    open_ledger: OpenLedger = configured_ledger,
    *,
    open_signer: Callable[[], Signer] = witness_signer,
    overtake: Callable[[AskedRun, Mapping[str, Any], datetime], None] = overtake_others,
) -> None:
    """Record and sign the requester and the form of a run that Airflow has just created.

    A release may then overtake others.

    :param reply: Airflow's answer, which names the run.
    """
    try:
        run, conf = json.loads(reply)["dag_run_id"], asked.content.get("conf") or {}
        known = AskedRun(dag_id=dag_id, run_id=run, user=user, conf=sha256_of(conf))
        with open_ledger() as ledger:
            try:
                payload = as_witnessed(RUN_ASKED, known.chain, known, asked.at, open_signer())
                ledger.append(known.chain, RUN_ASKED, payload, actor=user, key=known.key)
            finally:  # a stop waits for no signature
                if dag_id == EMERGENCY_STOP:
                    _stop_at_once(ledger, user, run, conf)
        overtake(known, conf, asked.at)
    except Exception:  # of any kind: the first task of the run fails, because its requester is not recorded
        log.exception("The requester of a run of %s could not be recorded", dag_id)


def _stop_at_once(ledger: Book, user: str, run: str, form: Mapping[str, Any]) -> None:
    """Declare an emergency stop with its request, without waiting for a scheduler, a pool or a worker.

    The task of its run finds it and notifies people, or declares it if that was not possible here.
    """
    request = request_in(form, catalogue_folder())
    if not request.lift:
        declare(ledger, request, user, (EMERGENCY_STOP, run), actor=user)


def _answer(user: str, asked: CurrentRequest) -> GivenAnswer | None:
    content = asked.content
    chosen = content.get("chosen_options") if isinstance(content, dict) else None
    if not isinstance(chosen, list) or not chosen or not isinstance(chosen[0], str):
        return None
    words = _form(asked)
    return GivenAnswer(
        user=user,
        task_id=asked.names["task_id"],
        map_index=int(asked.names["map_index"]),
        choice=chosen[0],
        comment=_text(words.get(COMMENT)),
        conditions=_text(words.get(CONDITIONS)),
        evidence=_text(words.get(EVIDENCE)),
        step=_text(words.get(STEP)),
        defect=_text(words.get(DEFECT)),
    )


def _form(asked: CurrentRequest) -> dict[str, Any]:
    form = asked.content.get("params_input")
    return form if isinstance(form, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
