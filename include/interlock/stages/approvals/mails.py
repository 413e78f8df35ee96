"""The mail about a new question: its subject, its deadline, and a link to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from interlock.adapters import mail
from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.chat.message import Line, Message
from interlock.adapters.templates import Markdown, render
from interlock.domain.board.accounts import CLERK
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import BoardBook, Person
from interlock.domain.ledger.chain import Entry
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
            send_missing(_asked(question, ti.map_index), chain_entries(), partial(record, QUESTION_MAILED))
        except Exception:
            log.exception("The mail about this question could not be sent. The Dag reconcile sends it later")
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


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as people are asked it, and of which task of which run it is.

    :param assigned: user names of those who may answer.
    :param until: until when an answer counts; none: it is not known.
    :param silence: the choice that stands if nobody answers.
    """

    run: tuple[str, str]
    task_id: str
    map_index: int
    subject: str
    body: str
    assigned: tuple[str, ...]
    options: tuple[str, ...]
    until: datetime | None = None
    silence: str = ""

    @property
    def digest(self) -> str:
        """Return the digest of its words."""
        return question_digest(self.subject, self.body, self.assigned)


def _asked(question: Question, map_index: int) -> Asked:
    until = datetime.fromisoformat(question.answer_by) if question.answer_by else None
    if until is None and question.response_timeout is not None:
        until = datetime.now(UTC) + question.response_timeout
    assigned = tuple(user["id"] for user in question.assigned_users or ())
    words = (question.subject, question.body or "", assigned, tuple(question.options))
    return Asked(this_run(), question.task_id, map_index, *words, until, question.silence or "")


def send_missing(asked: Asked, entries: Iterable[Entry], note: Callable[[dict[str, Any]], object]) -> None:
    """Mail a question to those of its people who got no mail about it yet.

    :param entries: of the release's chain: mails and answers.
    :param note: records whom a mail was sent to, by the payload of :data:`QUESTION_MAILED`.
    :raises TransientError: the mail server did not take a mail now.
    """
    about = {"task_id": asked.task_id, "map_index": asked.map_index, "question": asked.digest}
    of_this = [entry for entry in entries if about.items() <= entry.payload.items()]
    # It is asked although it was answered: Airflow lost the answer (apache/airflow#67287).
    lost = [number for number, entry in enumerate(of_this) if entry.kind == ANSWER_GIVEN]
    sent = {
        user
        for entry in of_this[lost[-1] if lost else 0 :]
        if entry.kind == QUESTION_MAILED
        for user in entry.payload["users"]
    }
    _, book = load_rules(catalogue_folder())
    people = [book.person(user) for user in asked.assigned if user != CLERK and user in book.names]
    missing = [person for person in people if person.user not in sent]
    if not missing:
        return
    done = []
    try:
        with resources.mail_server() as smtp:
            for person in missing:
                _send(smtp, asked, person, people, lost=len(lost))
                done.append(person.user)
    finally:
        if done:
            note({**about, "users": done})


def _send(smtp: Any, asked: Asked, person: Person, people: Sequence[Person], *, lost: int) -> None:
    """Send the mail about a question to a person.

    :param lost: how many answers to it Airflow has lost.
    """
    text = render(
        "question.md.j2",
        person=person.name,
        others=[other.name for other in people if other.user != person.user],
        subject=asked.subject,
        until=asked.until,
        options=asked.options,
        default=asked.silence,
        lost=lost,
        page=page_link(question_page(*asked.run, asked.task_id, asked.map_index)),
    )
    mail.send(
        smtp,
        to=[person.email],
        subject=f"Your answer is needed: {asked.subject}",
        text=text,
        message_id=mail.message_id(
            *asked.run,
            asked.task_id,
            str(asked.map_index),
            asked.digest,
            person.user,
            *([str(lost)] if lost else []),
        ),
    )
