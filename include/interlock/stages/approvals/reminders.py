"""The reminder before the deadline of a board or a sign-off: one recorded mail to each member who has not voted.

The task that waits for the votes wakes when the reminder is due. A recorded reminder is not sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from interlock.adapters import mail
from interlock.adapters.airflow.rest_api import Answer
from interlock.adapters.chat.message import Line, Message
from interlock.adapters.templates import instant, render
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.seats import seat_of
from interlock.domain.board.voting import VotingRule
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Person, ServiceCatalogue
from interlock.domain.ledger.kinds import BOARD_REMINDED
from interlock.domain.paths import question_page
from interlock.domain.records import EnvironmentTested, RolloutPlan
from interlock.stages.runtime import notices, resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.notices import page_address
from interlock.stages.runtime.taskflow import this_run

from .mails import answer_link
from .people import BINDING

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

log = logging.getLogger(__name__)
VotedOn = RolloutPlan | EnvironmentTested
RETRY_INTERVAL = timedelta(minutes=5)
"""How long to wait before a failed reminder is tried again."""


def remind_in_time(
    catalogue: ServiceCatalogue, rule: VotingRule, about: VotedOn, ballots: Sequence[Answer]
) -> datetime | None:
    """Remind the members who have not voted, if it is due; return when to check again.

    :param about: what the members vote on.
    :param ballots: all ballots, as Airflow has them now.
    """
    if about.decide_by is None:
        return None
    now = datetime.now(UTC)
    due = about.decide_by - rule.remind_before
    if now < due:
        return due
    try:
        _remind(catalogue, rule, about, [ballot for ballot in ballots if not ballot.answered], now)
    except Exception:  # a mail that cannot be sent must not delay the decision
        log.exception("Some reminders to vote could not be sent. The next attempt is in %s", RETRY_INTERVAL)
        return min(now + RETRY_INTERVAL, about.decide_by)
    return about.decide_by


def _remind(
    catalogue: ServiceCatalogue, rule: VotingRule, about: VotedOn, ballots: Sequence[Answer], now: datetime
) -> None:
    done = {
        entry.payload["user"]
        for entry in chain_entries()
        if entry.kind == BOARD_REMINDED and entry.payload["digest"] == about.digest
    }
    missing = [
        (catalogue.board.person(user), ballot)
        for ballot in ballots
        if ballot.body.rstrip().endswith(BINDING.format(digest=about.digest))
        for user in ballot.assigned
        # A delegate has a vote only on the days of the delegation.
        if user not in {CLERK, *done} and seat_of(rule, user, now)
    ]
    if not missing:
        return
    with resources.mail_server() as smtp:
        for person, ballot in missing:
            _send(smtp, person, ballot, rule, about, catalogue)
    lines = (
        Line(f"{person.name} has not voted", page_address(question_page(*this_run(), one.task_id, one.map_index)))
        for person, one in missing
    )
    users = ",".join(sorted(person.user for person, _ in missing))
    said = Message(f"Votes are missing. Deadline: {instant(about.decide_by)}", tuple(lines))
    notices.say(said, about="questions", same=f"reminder/{about.digest}/{sha256_of({'users': users})[:16]}")


def _send(
    smtp: SmtpHook, person: Person, ballot: Answer, rule: VotingRule, about: VotedOn, catalogue: ServiceCatalogue
) -> None:
    """Send a reminder and record it; a crash between the two sends it twice, under one message id."""
    service, names = catalogue.service, catalogue.board.names
    told: dict[str, Any] = {"service": service, "about": about, "board": rule, "names": names}
    where = "in" if isinstance(about, EnvironmentTested) else "to"
    mail.send(
        smtp,
        to=[person.email],
        subject=f"Reminder to vote: {service.title} {about.version} {where} {about.environment}",
        text=render(
            "reminder.md.j2",
            voter=person.name,
            where=where,
            page=answer_link(ballot.task_id, ballot.map_index),
            **told,
        ),
        message_id=mail.message_id(*this_run(), about.digest, person.user),
    )
    record(BOARD_REMINDED, {"user": person.user, "digest": about.digest, "ballot": ballot.map_index})
