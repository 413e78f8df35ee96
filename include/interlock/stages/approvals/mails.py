"""The mail about a new question: its subject, its deadline, and a link to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from interlock.adapters import mail
from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.chat.message import Line, Message
from interlock.adapters.templates import Markdown, render
from interlock.domain.board.accounts import CLERK
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import BoardBook, Person
from interlock.domain.ledger.kinds import ANSWER_GIVEN, QUESTION_MAILED
from interlock.domain.ledger.witness import question_digest
from interlock.domain.paths import question_page
from interlock.locations import catalogue_folder
from interlock.stages.runtime import notices, resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.notices import page_address, page_link
from interlock.stages.runtime.taskflow import this_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from .people import Question

log = logging.getLogger(__name__)


class QuestionMail(BaseNotifier):
    """Sends one mail to each person who may answer a question, and says in chat what is asked of whom.

    The recipients are recorded, so a later try of the question's task sends only the missing mails. If it asks again
    after an answer, all are sent again. The question is asked even if a mail cannot be sent.
    """

    def notify(self, context: Context) -> None:
        """Send the missing mails, and log failures."""
        question: Any = context["task"]
        ti: Any = context["ti"]
        try:
            _send_all(question, ti.map_index)
        except Exception:
            log.exception("The mail about this question could not be sent. The question is under Required Actions")
        try:
            _say(context, question, ti.map_index)
        except Exception:
            log.exception("This question was not said in chat. The question is under Required Actions")


def answer_link(task_id: str, map_index: int) -> Markdown:
    """Return the link to a question of this run."""
    return page_link(question_page(*this_run(), task_id, map_index))


def _say(context: Context, question: Question, map_index: int) -> None:
    """Say in one message what all questions of this task ask, and of whom, with the link to each."""
    if map_index > 0 and _prepared(context, question):
        return  # the first of them speaks for all
    _, book = load_rules(catalogue_folder())
    asked = _prepared(context, question) or [
        {"subject": question.subject, "assigned_users": list(question.assigned_users or ()), "index": map_index}
    ]
    lines = [
        Line(f"{_names(one['assigned_users'], book)}: {one['subject']}", page_address(_page(question, one["index"])))
        for one in asked
    ]
    number = len(lines)
    notices.say(
        Message(f"{'An answer is' if number == 1 else f'{number} answers are'} needed in Airflow", tuple(lines)),
        about="questions",
        same=f"{question.task_id}/{_same(question, asked)}",
    )


def _prepared(context: Context, question: Question) -> list[dict[str, Any]]:
    """Return the questions of this task as the task before it left them; nothing, if they are not this one's."""
    ti: Any = context["ti"]
    for before in sorted(question.upstream_task_ids):
        left = ti.xcom_pull(task_ids=before)
        if isinstance(left, list) and any(one.get("subject") == question.subject for one in left):
            return [{**one, "index": index} for index, one in enumerate(left)]
    return []


def _same(question: Question, asked: Sequence[Mapping[str, Any]]) -> str:
    digests = (question_digest(str(one["subject"]), str(one.get("body", "")), []) for one in asked)
    return sha256_of({"asked": [*digests, question.task_id]})[:32]


def _names(assigned: Sequence[Mapping[str, str]], book: BoardBook) -> str:
    users = [user["id"] for user in assigned if user["id"] != CLERK]
    return ", ".join(book.names.get(user, user) for user in users)


def _page(question: Question, map_index: int) -> str:
    return question_page(*this_run(), question.task_id, map_index)


def _send_all(question: Question, map_index: int) -> None:
    assigned = [user["id"] for user in question.assigned_users or ()]
    digest = question_digest(question.subject, question.body or "", assigned)
    about = {"task_id": question.task_id, "map_index": map_index, "question": digest}
    of_this = [entry for entry in chain_entries() if about.items() <= entry.payload.items()]
    # It is asked although it was answered: Airflow lost the answer (apache/airflow#67287).
    lost = [number for number, entry in enumerate(of_this) if entry.kind == ANSWER_GIVEN]
    sent = {
        user
        for entry in of_this[lost[-1] if lost else 0 :]
        if entry.kind == QUESTION_MAILED
        for user in entry.payload["users"]
    }
    _, book = load_rules(catalogue_folder())
    people = [book.person(user) for user in assigned if user != CLERK and user in book.names]
    missing = [person for person in people if person.user not in sent]
    if not missing:
        return
    done = []
    try:
        with resources.mail_server() as smtp:
            for person in missing:
                _send(smtp, question, person, people, map_index, digest, lost=len(lost))
                done.append(person.user)
    finally:
        if done:
            record(QUESTION_MAILED, {**about, "users": done})


def _send(
    smtp: Any,
    question: Question,
    person: Person,
    people: Sequence[Person],
    map_index: int,
    digest: str,
    *,
    lost: int,
) -> None:
    """Send the mail about a question to a person.

    :param lost: how many answers to it Airflow has lost.
    """
    until = datetime.fromisoformat(question.answer_by) if question.answer_by else None
    if until is None and question.response_timeout is not None:
        until = datetime.now(UTC) + question.response_timeout
    text = render(
        "question.md.j2",
        person=person.name,
        others=[other.name for other in people if other.user != person.user],
        subject=question.subject,
        until=until,
        options=question.options,
        default=question.silence,
        lost=lost,
        page=answer_link(question.task_id, map_index),
    )
    mail.send(
        smtp,
        to=[person.email],
        subject=f"Your answer is needed: {question.subject}",
        text=text,
        message_id=mail.message_id(
            *this_run(), question.task_id, str(map_index), digest, person.user, *([str(lost)] if lost else [])
        ),
    )
