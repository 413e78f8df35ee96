"""Questions to people: who is asked, what they see, and what they answered by Airflow's own record.

A question is one human-in-the-loop request (:class:`Question`); what was answered is read back from Airflow's API,
never from a task's state or result, which an operator of Airflow can edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, TriggerRule, XComArg, chain

from include.interlock.domain.catalogue import BoardBook, Person
from include.interlock.domain.records import Vote

from . import resources
from .taskflow import this_run

APPROVE, REJECT, ABSTAIN = "Approve", "Reject", "Abstain"
ACKNOWLEDGE, NOT_READY = "Acknowledge", "Not ready"
CLERK = "board_clerk"
"""The service account that closes questions which need no answer any more; its answers never count."""


class Question(HITLOperator):
    """A human-in-the-loop request whose text is data.

    Airflow would render subject and body as templates; they hold commit messages and people's words, so a template in
    them could read Airflow's connections. Hence no field is a template.
    """

    template_fields = ()


def question(subject: str, body: str, digest: str, people: Sequence[Person]) -> dict[str, Any]:
    """Describe a question for :func:`ask`: its body names the digest of what is decided on.

    :param people: who may answer; any one of them does.
    """
    return {
        "subject": subject,
        "body": f"{body}\n\nThis decides on `{digest}` and on nothing else.",
        "assigned_users": [
            *({"id": person.user, "name": person.name} for person in people),
            {"id": CLERK, "name": "Board clerk (closes what needs no answer any more)"},
        ],
    }


def ask(
    questions: XComArg,
    *,
    task_id: str,
    title: str,
    options: Sequence[str],
    default: str,
    within: timedelta,
    doc_md: str,
) -> EmptyOperator:
    """Ask each question of a list in a task instance of its own; return what follows when all of them are over.

    How a question's task ended means nothing: who answered what is read from Airflow's record. (Airflow fails a
    question that is answered within the second in which it was asked, although it has recorded the answer.)

    :param default: what stands when nobody answered in time; it is recorded as nobody's answer.
    """
    asked = Question.partial(
        task_id=task_id,
        task_display_name=title,
        options=list(options),
        defaults=default,
        params={
            "comment": Param("", type="string", maxLength=4000, title="Comment", description="Your reason, conditions")
        },
        response_timeout=within,
        retries=0,  # a question that ran out of time is not asked again
        execution_timeout=None,
        map_index_template="{{ task.assigned_users[0]['name'] }}",
        doc_md=doc_md,
    ).expand_kwargs(questions)
    over = EmptyOperator(
        task_id=f"{task_id}_over",
        task_display_name=f"{title}: over",
        trigger_rule=TriggerRule.ALL_DONE,
        doc_md="Answered, out of time, or asked of nobody; what was answered is read from Airflow's record.",
    )
    chain(asked, over)
    return over


def votes_on(task_id: str, digest: str) -> tuple[Vote, ...]:
    """Read from Airflow what was answered in this run to the questions of a task that name this digest."""
    dag_id, run_id = this_run()
    with resources.airflow_api() as api:
        answers = api.answers(dag_id, run_id, task_id)
    return tuple(answer.vote() for answer in answers if answer.answered and digest in answer.body)


def persons(board: BoardBook, users: Sequence[str]) -> list[Person]:
    """Return the people of the board book with these user names, in this order."""
    return [board.person(user) for user in users]
