"""Questions to people: who is asked, what they see, and what they answered by Airflow's own record.

A question is one human-in-the-loop request (:class:`Question`); what was answered is read back from Airflow's API,
never from a task's state or result, which an operator of Airflow can edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, TriggerRule, XComArg, chain
from airflow.sdk.exceptions import TaskAwaitingInput

from interlock.adapters.airflow.rest_api import Answer
from interlock.adapters.signing.witness import only_witnessed
from interlock.domain.board.accounts import CLERK
from interlock.domain.catalogue import BoardBook, Person
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import FINDING
from interlock.domain.ledger.witness import GivenAnswer, is_witnessed, question_digest
from interlock.domain.permits.withdrawal import refuse_withdrawn
from interlock.domain.records import Vote
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, record, refuse_other_words
from interlock.stages.runtime.taskflow import reasons_kept, this_run

from .mails import QuestionMail

if TYPE_CHECKING:
    from airflow.sdk import Context

APPROVE, REJECT, ABSTAIN = "Approve", "Reject", "Abstain"
ACKNOWLEDGE, NOT_READY = "Acknowledge", "Not ready"
BINDING = (
    "You answer for exactly this, by its SHA-256 digest: `{digest}`. "
    "Whatever changes in it changes the digest, and your answer is void."
)
"""How each question ends; nothing else in it names the digest."""
COMMENT = Param(
    "",
    type="string",  # Airflow's form lets nobody answer before there is one
    format="multiline",
    maxLength=4000,
    title="Comment",
    description="The reason for your answer. It is recorded in the ledger together with your answer.",
)
CONDITIONS = Param(
    "",
    type=["string", "null"],
    format="multiline",
    maxLength=4000,
    title="Conditions",
    description="Conditions of your approval, if any.",
)


class Question(HITLOperator):
    """A human-in-the-loop request whose text is data.

    Airflow would render subject and body as templates; they hold commit messages and people's words, so a template in
    them could read Airflow's connections. Hence no field is a template.

    A worker may die before it has asked, so a question is tried again. But it is asked once: when Airflow runs an
    operator again, it wipes the answer to its request, so a request that is there already is left as it is.

    :param answer_by: the deadline as ISO 8601, for the mail; none: the end of ``response_timeout``.
    """

    template_fields = ()

    def __init__(self, *, answer_by: str | None = None, **kwargs: Any) -> None:
        super().__init__(notifiers=[QuestionMail()], **kwargs)
        self.answer_by = answer_by

    def execute(self, context: Context) -> Any:
        """Ask; in a later try, go on waiting for the answer to what was asked, or end if it was answered."""
        ti: Any = context["ti"]
        assigned = [user["id"] for user in self.assigned_users or ()]
        with reasons_kept():
            entries = chain_entries()
            refuse_withdrawn(entries)
            refuse_other_words(self.task_id, [(self.subject, self.body or "", assigned)], entries)
        if ti.try_number > 1 and (asked := _request(self.task_id, ti.map_index)):
            if asked.answered:
                self.log.info("Asked and answered in an earlier try.")
                return None
            for notifier in self.notifiers:
                notifier(context)
            # Parking does not touch the request, and goes on at once if the answer has come meanwhile.
            raise TaskAwaitingInput(method_name="execute_complete", timeout=self.response_timeout)
        return super().execute(context)


def _request(task_id: str, map_index: int) -> Answer | None:
    """Return what a task of this run has asked already."""
    dag_id, run_id = this_run()
    with resources.airflow_api() as api:
        asked = api.answers(dag_id, run_id, task_id)
    return next((request for request in asked if request.map_index == map_index), None)


def question(
    subject: str,
    body: str,
    digest: str,
    people: Sequence[Person],
    *,
    options: Sequence[str] = (),
    answer_by: datetime | None = None,
) -> dict[str, Any]:
    """Describe a question for :func:`ask`: its body names the digest of what is decided on.

    :param people: who may answer; any one of them does.
    :param options: the answers to this question, when they are not the same for all.
    :param answer_by: the deadline, if it is before the end of the time for an answer that the task has.
    """
    return {
        **({"answer_by": answer_by.isoformat()} if answer_by else {}),
        **({"options": list(options)} if options else {}),
        "subject": subject,
        "body": f"{body.rstrip()}\n\n{BINDING.format(digest=digest)}",
        "assigned_users": [
            *({"id": person.user, "name": person.name} for person in people),
            {"id": CLERK, "name": "Board clerk (closes ballots that are no longer needed)"},
        ],
    }


def ask(
    questions: XComArg,
    *,
    task_id: str,
    title: str,
    options: Sequence[str] = (),
    default: str,
    within: timedelta,
    doc_md: str,
    conditions: bool = False,
) -> EmptyOperator:
    """Ask each question of a list in a task instance of its own; return what follows when all of them are over.

    How a question's task ended means nothing: who answered what is read from Airflow's record. (Airflow fails a
    question that is answered within the second in which it was asked, although it has recorded the answer; tried
    again, it finds the answer.)

    :param options: the answers; none: each question brings its own.
    :param default: what stands when nobody answered in time; it is recorded as nobody's answer.
    :param conditions: whether the form has a field for conditions, too.
    """
    asked = Question.partial(
        task_id=task_id,
        task_display_name=title,
        **({"options": list(options)} if options else {}),
        defaults=default,
        params={"comment": COMMENT} | ({"conditions": CONDITIONS} if conditions else {}),
        response_timeout=within,
        retries=4,
        retry_delay=timedelta(seconds=1),  # soon: people wait to be asked, or for what follows their answer
        execution_timeout=None,
        map_index_template="{{ task.assigned_users[0]['name'] }}",
        doc_md=doc_md,
    ).expand_kwargs(questions)
    over = EmptyOperator(
        task_id=f"{task_id}_over",
        task_display_name=f"{title}: closed",
        trigger_rule=TriggerRule.ALL_DONE,
        doc_md="Runs when all questions are answered or have expired. The next task reads the answers from Airflow.",
    )
    chain(asked, over)
    return over


def ask_board(ballots: XComArg, deadline: timedelta | None, *, doc_md: str) -> EmptyOperator | None:
    """Ask each member of a board for a vote; return what follows when all ballots are over.

    :param deadline: the longest that the board may take; none: nobody ever votes, and there is no such task.
    """
    if deadline is None:
        return None
    return ask(
        ballots,
        task_id="cast_ballot",
        title="Cast a ballot (board member)",
        options=[APPROVE, REJECT, ABSTAIN],
        default=ABSTAIN,
        conditions=True,
        within=deadline * 2,  # the decision closes ballots in time; this is for a stack that was down
        doc_md=doc_md,
    )


def votes_on(
    task_id: str, digest: str, *, run: tuple[str, str] | None = None, entries: Sequence[Entry] | None = None
) -> tuple[Vote, ...]:
    """Read from Airflow what was answered to the questions of a task that end with this digest.

    :param run: Dag and run in which it was asked; none: this one.
    :param entries: the chain of that run, proven.
    :raises PolicyViolation: an answer did not come in at Airflow's API, so somebody wrote it; this is a finding, too.
    """
    dag_id, run_id = run or this_run()
    with resources.airflow_api() as api:
        answers = api.answers(dag_id, run_id, task_id)
    ending = BINDING.format(digest=digest)
    given = [answer for answer in answers if answer.answered and answer.body.rstrip().endswith(ending)]
    if any(answer.user for answer in given):
        known = chain_entries() if entries is None else entries
        refuse_other_words(task_id, [(one.subject, one.body, one.assigned) for one in given if one.user], known)
        _refuse_written(given, only_witnessed(known, resources.witness_key()), digest)
    return tuple(answer.vote() for answer in given)


def _refuse_written(answers: Sequence[Answer], entries: Sequence[Entry], digest: str) -> None:
    """Refuse answers of people that are not on record as they came in; nobody's count for nobody."""
    said = [(_given(answer), answer.at) for answer in answers if answer.user is not None]
    for written in [one for one, at in said if not is_witnessed(one, at, entries, digest=digest)]:
        what = f"{written} was not submitted through Airflow's API: it exists only in Airflow's database."
        record(FINDING, {"what": what}, seal=True)
        raise PolicyViolation(
            what,
            rule="an answer counts only if the ledger recorded it when it was submitted",
            who="this cannot be changed: the finding stays in the ledger",
            next_step="have an auditor find out who wrote to Airflow's database, then trigger the release again",
        )


def _given(answer: Answer) -> GivenAnswer:
    return GivenAnswer(
        user=answer.user or "",
        task_id=answer.task_id,
        map_index=answer.map_index,
        choice=answer.choice or "",
        comment=answer.comment,
        conditions=answer.conditions,
        question=question_digest(answer.subject, answer.body, answer.assigned),
    )


def persons(board: BoardBook, users: Sequence[str]) -> list[Person]:
    """Return the people of the board book with these user names, in this order."""
    return [board.person(user) for user in users]
