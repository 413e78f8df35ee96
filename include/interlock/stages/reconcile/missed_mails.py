"""The Dag ``reconcile``: mails people the questions that wait for them and of which they got no mail.

The task that asks sends the mail, and asks even if the mail server does not answer then.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule

from interlock.domain.canonical import sha256_of
from interlock.domain.errors import ReleaseError, TransientError
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import ANSWER_GIVEN, QUESTION_MAILED, QUESTION_WORDED
from interlock.domain.ledger.witness import worded
from interlock.stages.approvals.mails import Asked, send_missing
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import this_task
from interlock.stages.runtime.taskflow import stage_task

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)

BEING_ASKED = timedelta(minutes=2)
"""For so long, the task that asks may still send its mails."""


@stage_task(task_display_name="Mail questions that were not mailed", trigger_rule=TriggerRule.ALL_DONE)
def mail_questions() -> int:
    """Mail each question that waits to the people who got no mail about it, and return how many questions wait.

    Only questions that a release has on record are mailed: nothing that was written into Airflow's database.
    """
    late = datetime.now(UTC) - BEING_ASKED
    passing: TransientError | None = None
    with resources.airflow_api() as api:
        waiting = [one for one in api.waiting_questions() if one[2].asked_at and one[2].asked_at < late]
    with resources.ledger() as ledger:
        chains = {release_chain(dag_id, run_id) for dag_id, run_id, _ in waiting}
        entries = ledger.among(chains, {QUESTION_WORDED, QUESTION_MAILED, ANSWER_GIVEN}) if chains else ()
        for dag_id, run_id, question in waiting:
            chain = release_chain(dag_id, run_id)
            words = (question.subject, question.body, question.assigned, question.options)
            asked = Asked((dag_id, run_id), question.task_id, question.map_index, *words)
            own = [one for one in entries if one.chain == chain]
            if asked.digest not in worded(asked.task_id, own):
                continue
            try:
                send_missing(asked, own, partial(_note, ledger, chain))
            except TransientError as error:
                passing = error
            except ReleaseError as error:  # one address that is wrong keeps no other person from being asked
                log.warning("%s, run %s: %s: %s", dag_id, run_id, asked.task_id, error)
    if passing is not None:
        raise passing
    return len(waiting)


def _note(ledger: Ledger, chain: str, payload: dict[str, Any]) -> None:
    key = f"{QUESTION_MAILED}/{this_task()}/{sha256_of(payload)[:32]}"
    ledger.append(chain, QUESTION_MAILED, payload, actor=this_task(), key=key)
