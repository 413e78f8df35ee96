"""The Dag ``reconcile``: tells who decides on a release of an incident that opened after they were asked."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from interlock.adapters import mail
from interlock.adapters.catalogue.catalogue import load_rules, load_service
from interlock.adapters.chat.message import Line, Message
from interlock.adapters.templates import escape
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.questions import decides_on_release
from interlock.domain.calendars.stops import EVERYTHING, scopes_about
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Person
from interlock.domain.errors import CatalogueError, TransientError
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.events import OpenIncident, which_are_open
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    INCIDENT_SEEN,
    INCIDENT_TOLD,
    PLAN_MADE,
    QUESTION_MAILED,
    QUESTION_WORDED,
    RELEASE_CLOSED,
    TRAIN_ARRIVED,
)
from interlock.domain.ledger.runs import CHAINS, run_of
from interlock.domain.paths import run_page
from interlock.domain.permits.withdrawal import called_off
from interlock.domain.trains.manifest import services_in
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import this_task
from interlock.stages.runtime.notices import page_address, page_link, say

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)


def tell_of_incidents(ledger: Ledger, watched: Collection[str]) -> list[str]:
    """Mail each person who was asked about a release, or has answered, an incident that opened afterwards, once.

    :param watched: the chains of releases that may be under way.
    :return: the addresses.
    """
    incidents = which_are_open(ledger.entries(INSTALLATION, kind=INCIDENT_SEEN), datetime.now(UTC))
    if not incidents:
        return []
    to, scopes = [], cache(_scopes)
    for chain in watched:
        entries = ledger.entries(chain)
        if any(one.kind in (RELEASE_CLOSED, TRAIN_ARRIVED) for one in entries) or called_off(entries):
            continue
        rehearses = any(one.kind == PLAN_MADE and one.payload["rehearsal"] for one in entries)
        about = frozenset[str]().union(*map(scopes, () if rehearses else services_in(entries)))
        for incident in incidents:
            if incident.scope in about:
                to += _tell(ledger, chain, entries, incident)
    return to


def asked_before(entries: Sequence[Entry], incident: OpenIncident) -> tuple[str, ...]:
    """Return the people who were asked to decide on a release before an incident opened, or have answered.

    :param entries: the release's chain.
    :return: user names, without those who were told of the incident before.
    """
    worded = {
        question
        for one in entries
        if one.kind == QUESTION_WORDED and one.at < incident.opened and decides_on_release(str(one.payload["task_id"]))
        for question in one.payload["questions"]
    }
    told = {
        user
        for one in entries
        if one.kind == INCIDENT_TOLD and one.payload["incident"] == incident.key
        for user in one.payload["users"]
    }
    found: dict[str, None] = {}
    for one in entries:
        if one.kind in (QUESTION_MAILED, ANSWER_GIVEN) and one.payload["question"] in worded:
            found |= dict.fromkeys(one.payload["users"] if one.kind == QUESTION_MAILED else (one.payload["user"],))
    return tuple(user for user in found if user not in {*told, CLERK})


def _scopes(service: str) -> frozenset[str]:
    try:
        return scopes_about(load_service(catalogue_folder(), service).services[service])
    except CatalogueError:
        return frozenset({EVERYTHING, service})


def _tell(ledger: Ledger, chain: str, entries: Sequence[Entry], incident: OpenIncident) -> list[str]:
    if not (asked := asked_before(entries, incident)):
        return []
    _, book = load_rules(catalogue_folder())
    people = [book.person(user) for user in asked if user in book.names]
    if not people:
        return []
    told: list[Person] = []
    try:
        with resources.mail_server() as smtp:
            for person in people:
                mail.send(
                    smtp,
                    to=[person.email],
                    subject=f"Incident while you decide on {chain.removeprefix(CHAINS)}",
                    text=_text(chain, person, incident),
                    message_id=mail.message_id(chain, incident.key, person.user),
                )
                told.append(person)
    except TransientError as error:  # the next look sends what is missing
        log.warning("Not all people could be told of %s: %s", incident.what, error)
    if told:
        payload = {"incident": incident.key, "what": incident.what, "users": [one.user for one in told]}
        key = f"{INCIDENT_TOLD}/{sha256_of(payload)[:32]}"
        ledger.append(chain, INCIDENT_TOLD, payload, actor=this_task(), key=key)
        _say(chain, told, incident)
    return [one.email for one in told]


def _text(chain: str, person: Person, incident: OpenIncident) -> str:
    return "\n".join(
        [
            f"{escape(person.name)}, an incident opened after you were asked to decide on "
            f"{escape(chain.removeprefix(CHAINS))}:",
            "",
            f"- {escape(incident.what)}",
            "",
            "If you have not answered yet, decide with this in mind. If you have answered, your answer stands; to hold "
            "the release back, ask its requester or a release manager to withdraw it, or declare an emergency stop.",
            "",
            f"The release: {page_link(_page(chain))}",
        ]
    )


def _say(chain: str, told: Sequence[Person], incident: OpenIncident) -> None:
    names = ", ".join(one.name for one in told)
    line = Line(f"{names}: you decide on {chain.removeprefix(CHAINS)}", page_address(_page(chain)))
    same = sha256_of({"chain": chain, "incident": incident.key, "users": [one.user for one in told]})[:32]
    say(Message(f"Incident: {incident.what}", (line,)), about="questions", same=same, of_run=False)


def _page(chain: str) -> str:
    run = run_of(chain)
    return run_page(*run) if run else ""
