"""Mail and chat to those whom the policy names, and links to pages. Chat stops no release, and decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from interlock.adapters import mail
from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.chat import services, slack
from interlock.adapters.chat.message import Line, Message
from interlock.adapters.templates import Markdown
from interlock.domain.catalogue import BoardBook, Policy
from interlock.domain.catalogue.outside.chat import ChatRoom, Subject, rooms_for
from interlock.domain.errors import LedgerError, describe_error
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.kinds import CHAT_FAILED, CHAT_SAID, PLAN_MADE, RELEASE_REQUESTED
from interlock.domain.paths import run_page
from interlock.locations import catalogue_folder

from . import resources
from .evidence import this_chain, this_task
from .taskflow import this_run

log = logging.getLogger(__name__)


def page_link(path: str) -> Markdown:
    """Return a link to a page of Airflow's, at the address by which people reach it.

    :param path: below that address, without a slash at its beginning.
    """
    return Markdown(f"<{page_address(path)}>")


def recipients(policy: Policy, board: BoardBook) -> tuple[str, ...]:
    """Return the addresses of those whom ``findings.notify`` of the policy names."""
    found = (name if "@" in name else board.person(name).email for name in policy.findings.notify)
    return tuple(dict.fromkeys(address for address in found if address))


def notify(subject: str, text: str, *, same: str, also: Iterable[str] = ()) -> tuple[str, ...]:
    """Send one message to those whom the policy names; return their addresses.

    :param text: Markdown.
    :param same: makes a message that is sent again recognisable as the same.
    :param also: further addresses.
    """
    say(Message(subject), about="findings", same=same, of_run=False)
    to = tuple(dict.fromkeys((*recipients(*load_rules(catalogue_folder())), *also)))
    if not to:
        log.warning("No notification was sent: findings.notify in policy.yaml is empty. %s", subject)
        return ()
    with resources.mail_server() as smtp:
        mail.send(smtp, to=to, subject=subject, text=text, message_id=f"<{same}@interlock>")
    return to


def say(message: Message, *, about: Subject, same: str, of_run: bool = True) -> None:
    """Say something in each room that is about it, once; never raises.

    What was said is on record, so that a later try says only what is missing. What could not be said is on record with
    the reason, and the tab *Release* shows it.

    :param same: what makes a message that is said again the same.
    :param of_run: it is about the run of this task, whose thread it joins; False: it is about no run, and is recorded
        in the installation's chain.
    """
    try:
        policy, _ = load_rules(catalogue_folder())
        if not any(about in room.about for room in policy.chat.values()):
            return
        chain = this_chain() if of_run else INSTALLATION
        with resources.ledger() as ledger:
            entries = ledger.entries(chain)
        service = version = ""
        if of_run:
            known = (entry.payload for entry in entries if entry.kind in (RELEASE_REQUESTED, PLAN_MADE))
            service, version = next(((str(one["service"]), str(one["version"])) for one in known), ("", ""))
            page = page_address(run_page(*this_run()))
            message = replace(message, thread=Line(f"{service} {version}" if service else this_run()[0], page))
        for name, room in rooms_for(policy.chat, about, service or None):
            _say(name, room, message, chain=chain, same=same, entries=entries)
    except Exception:
        log.exception("Nothing was said in chat. Mails are not concerned")


def page_address(path: str) -> str:
    """Return the address of a page of Airflow's, by which people reach it.

    :param path: below Airflow's own address, without a slash at its beginning.
    """
    from airflow.sdk.configuration import conf

    return f"{str(conf.get('api', 'base_url', fallback='')).rstrip('/')}/{path}"


def _say(name: str, room: ChatRoom, message: Message, *, chain: str, same: str, entries: Sequence[Entry]) -> None:
    about = {"room": name, "same": same}
    said = [entry.payload for entry in entries if entry.kind == CHAT_SAID and entry.payload["room"] == name]
    if any(payload["same"] == same for payload in said):
        return
    thread = next((str(payload["thread"]) for payload in said if payload["thread"]), "") if message.thread else ""
    try:
        if room.kind == "slack":
            thread = slack.post(room.connection, room.channel, message, thread)
        else:
            services.post(room.connection, message)
    except Exception as error:
        why = describe_error(error)
        log.exception("Nothing was said in the room %s", name)
        with suppress(LedgerError):  # an earlier try failed, too
            _record(chain, CHAT_FAILED, {**about, "why": why})
    else:
        _record(chain, CHAT_SAID, {**about, "thread": thread if message.thread else ""})


def _record(chain: str, kind: str, payload: dict[str, str]) -> None:
    with resources.ledger() as ledger:
        ledger.append_once(chain, kind, payload, actor=this_task(), key=f"{kind}/{payload['room']}/{payload['same']}")
