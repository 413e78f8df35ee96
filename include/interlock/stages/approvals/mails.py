"""The mail about a new question: its subject, its deadline, and a link to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from interlock.adapters import mail
from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.templates import Markdown, render
from interlock.domain.board.accounts import CLERK
from interlock.domain.catalogue import Person
from interlock.domain.ledger.kinds import QUESTION_MAILED
from interlock.domain.ledger.witness import question_digest
from interlock.domain.paths import question_page
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.notices import page_link
from interlock.stages.runtime.taskflow import this_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from .people import Question

log = logging.getLogger(__name__)


class QuestionMail(BaseNotifier):
    """Sends one mail to each person who may answer a question.

    The recipients are recorded, so a later try of the question's task sends only the missing mails. The question is
    asked even if a mail cannot be sent.
    """

    def notify(self, context: Context) -> None:
        """Send the missing mails, and log failures."""
        question: Any = context["task"]
        ti: Any = context["ti"]
        try:
            _send_all(question, ti.map_index)
        except Exception:
            log.exception("The mail about this question could not be sent. The question is under Required Actions")


def answer_link(task_id: str, map_index: int) -> Markdown:
    """Return the link to a question of this run."""
    return page_link(question_page(*this_run(), task_id, map_index))


def _send_all(question: Question, map_index: int) -> None:
    assigned = [user["id"] for user in question.assigned_users or ()]
    digest = question_digest(question.subject, question.body or "", assigned)
    about = {"task_id": question.task_id, "map_index": map_index, "question": digest}
    sent = {
        user
        for entry in chain_entries()
        if entry.kind == QUESTION_MAILED and about.items() <= entry.payload.items()
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
                _send(smtp, question, person, people, map_index, digest)
                done.append(person.user)
    finally:
        if done:
            record(QUESTION_MAILED, {**about, "users": done})


def _send(smtp: Any, question: Question, person: Person, people: Sequence[Person], map_index: int, digest: str) -> None:
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
        page=answer_link(question.task_id, map_index),
    )
    mail.send(
        smtp,
        to=[person.email],
        subject=f"Your answer is needed: {question.subject}",
        text=text,
        message_id=mail.message_id(*this_run(), question.task_id, str(map_index), digest, person.user),
    )
