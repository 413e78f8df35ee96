"""Remarks on what a board votes on: a member asks the requester something, the requester answers; by mail, too."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Request, status
from pydantic import Field

from interlock.adapters import mail
from interlock.adapters.airflow.connections import SMTP
from interlock.adapters.catalogue.kept import kept_rules
from interlock.adapters.templates import Markdown, render
from interlock.domain.cab.agenda import AgendaItem
from interlock.domain.cab.remarks import MAX_REMARKS, Remark, Text, told
from interlock.domain.canonical import Model
from interlock.domain.catalogue import BoardBook, Person
from interlock.domain.errors import describe_error
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import BOARD_DISCUSSED
from interlock.locations import catalogue_folder

from .agenda import AgendaEntry, Agendas, may_remark

log = logging.getLogger(__name__)


class NewRemark(Model):
    """A remark that somebody makes."""

    dag_id: str = Field(max_length=250)
    run_id: str = Field(max_length=250)
    text: Text


class RemarkMade(Model):
    """A remark that is on record."""

    told: tuple[str, ...] = Field(description="User names of who was told by mail")
    not_told: str = Field("", description="Why somebody was not told; empty: everybody was")


def remark(request: Request, user: GetUserDep, asked: NewRemark) -> RemarkMade:
    """Put a remark on record and tell the requester, or the people who asked, by mail."""
    agendas: Agendas = request.app.state.agendas
    run = (asked.dag_id, asked.run_id)
    item = next(iter(agendas.items(user, only=[run])), None)
    if item is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"{asked.dag_id} has no run {asked.run_id} with ballots.")
    refuse_remark(user, item)
    by = str(user.get_name())
    made = Remark(user=by, text=asked.text, digest=item.digest)
    with agendas.open_ledger() as ledger:
        ledger.append(
            release_chain(*run),
            BOARD_DISCUSSED,
            made.model_dump(mode="json"),
            actor=by,
            key=f"{BOARD_DISCUSSED}/{uuid.uuid4().hex}",
        )
    _, book = kept_rules(catalogue_folder())
    voters = [seat.user for seat in item.seats]
    return _mail(request, told(by, item.requested_by, voters, item.remarks), made, item, book)


def refuse_remark(user: Any, item: AgendaEntry) -> None:
    """Raise HTTPException if a person cannot make a remark on an item."""
    if not may_remark(user, item):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            "Your remark was not recorded: remarks are for people who have a ballot on this plan, and for its "
            "requester.",
        )
    if not item.open or not item.digest:
        raise HTTPException(
            status.HTTP_409_CONFLICT, "Your remark was not recorded: the board does not vote on this plan any more."
        )
    if len(item.remarks) >= MAX_REMARKS:
        raise HTTPException(
            status.HTTP_409_CONFLICT,
            f"Your remark was not recorded: this plan has {MAX_REMARKS} remarks already. Next: discuss it in a "
            "meeting of the board.",
        )


def _mail(request: Request, users: Iterable[str], made: Remark, item: AgendaItem, book: BoardBook) -> RemarkMade:
    """Tell people of a remark that is on record; what cannot be sent is told to its writer."""
    known = {one.user: one for one in book.people}
    missing = [user for user in users if user not in known]
    people = [known[user] for user in users if user in known]
    why = [f"{user} has no address in board.yaml" for user in missing]
    sent = []
    try:
        for person in people:
            _send(request, person, made, item, book)
            sent.append(person.user)
    except Exception as error:  # of the connection, the server or the recipient: the remark is on record
        log.exception("People could not be told of a remark on %s", item.title)
        why.append(f"the mail was not sent: {describe_error(error)}")
    return RemarkMade(told=tuple(sent), not_told="; ".join(why))


def _send(request: Request, person: Person, made: Remark, item: AgendaItem, book: BoardBook) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    page = Markdown(f"<{_base()}/plugin/cab?item={quote(f'{item.dag_id}/{item.run_id}', safe='')}>")
    text = render("remark.md.j2", person=person.name, remark=made, item=item, names=book.names, page=page)
    with SmtpHook(smtp_conn_id=SMTP) as smtp:
        mail.send(
            smtp,
            to=[person.email],
            subject=f"About {item.title}: {book.names.get(made.user, made.user)} wrote",
            text=text,
            message_id=mail.message_id(item.dag_id, item.run_id, made.user, made.text, person.user),
        )


def _base() -> str:
    from airflow.configuration import conf

    return str(conf.get("api", "base_url", fallback="")).rstrip("/")
