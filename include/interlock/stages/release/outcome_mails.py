"""The mail about the outcome: to the requester, and to announced audiences if it was not deployed; and chat."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from airflow.sdk import TriggerRule, get_current_context

from interlock.adapters import mail
from interlock.adapters.chat.message import Line, Message
from interlock.adapters.templates import render
from interlock.domain.catalogue import BoardBook, Policy, Service
from interlock.domain.change.request import form_fields
from interlock.domain.dag_names import is_rollback
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    PERMIT_ISSUED,
    PLAN_MADE,
    RELEASE_ANNOUNCED,
    RELEASE_CLOSED,
)
from interlock.domain.ledger.reading import last_in
from interlock.domain.outcome.outcome import AS_REQUESTED, STAGE_TITLES
from interlock.domain.paths import release_page
from interlock.domain.permits.withdrawal import describe_release
from interlock.domain.records import Communication, Outcome, ReleasePlan
from interlock.stages.runtime import notices, resources
from interlock.stages.runtime.evidence import chain_entries
from interlock.stages.runtime.notices import page_address, page_link
from interlock.stages.runtime.taskflow import WHILE_SERVERS_ARE_AWAY, stage_task, this_run

log = logging.getLogger(__name__)


class _Message(NamedTuple):
    """A mail to be sent.

    :param name: the recipient, as a key of the task's state.
    """

    name: str
    to: tuple[str, ...]
    subject: str
    text: str


@stage_task(
    task_display_name="Send the outcome by e-mail",
    trigger_rule=TriggerRule.ALL_DONE,
    retries=WHILE_SERVERS_ARE_AWAY,
    after_end="go_on",
)
def send_outcome(service: str) -> dict[str, list[str]]:
    """Mail the outcome to the person who requested the release, and to announced audiences if it was not deployed.

    A retry does not send a mail twice. The outcome does not depend on this task.
    """
    entries = chain_entries()
    outcome = last_in(entries, RELEASE_CLOSED, Outcome)
    if outcome is None:
        return {}
    policy, book, found = resources.catalogue_of(service)
    again = _form(policy, found) if outcome.outcome == "overtaken" else {}
    said = f"{found.title} {outcome.version}: {outcome.outcome.replace('_', ' ')}"
    result = Line(outcome.reason, page_address(release_page(*this_run())))
    notices.say(Message(said, (result,)), about="outcomes", same=f"outcome/{outcome.outcome}")
    messages = [*_to_requester(entries, outcome, book, found, again), *_to_audiences(entries, outcome, found)]
    if not messages:
        return {}
    done = get_current_context()["task_state_store"]
    with resources.mail_server() as smtp:
        for message in messages:
            key = f"sent:{message.name}:{outcome.outcome}"
            if not done.get(key):
                mail.send(
                    smtp,
                    to=message.to,
                    subject=message.subject,
                    text=message.text,
                    message_id=mail.message_id(*this_run(), message.name, outcome.outcome),
                )
                done.set(key, True)
    return {message.name: list(message.to) for message in messages}


def _form(policy: Policy, service: Service) -> dict[str, Any]:
    """Return what the requester had filled in at the form: title and value."""
    filled = get_current_context()["params"]
    titles = {key: field["title"] for key, field in form_fields(policy, service=service).items()}
    return {title: filled[key] for key, title in titles.items() if filled.get(key) not in (None, False, "", [])}


def _to_requester(
    entries: Sequence[Entry], outcome: Outcome, book: BoardBook, service: Service, again: Mapping[str, Any]
) -> Iterator[_Message]:
    user = describe_release(*this_run(), entries).requested_by
    if user not in book.names:
        log.info("The requester (%s) is not in board.yaml and gets no mail.", user or "unknown")
        return
    person = book.person(user)
    ended = outcome.outcome.replace("_", " ")
    yield _Message(
        user,
        (person.email,),
        f"{service.title} {outcome.version}: {ended}",
        render(
            "outcome.md.j2",
            person=person.name,
            service=service,
            outcome=outcome,
            ended=ended,
            stage=STAGE_TITLES.get(outcome.stage, outcome.stage),
            as_requested=outcome.outcome in AS_REQUESTED,
            rollback=is_rollback(this_run()[0]),
            again=again,
            page=page_link(release_page(*this_run())),
        ),
    )


def _to_audiences(entries: Sequence[Entry], outcome: Outcome, service: Service) -> Iterator[_Message]:
    announced = last_in(entries, RELEASE_ANNOUNCED, Communication)
    plan = last_in(entries, PLAN_MADE, ReleasePlan)
    if announced is None or plan is None or outcome.outcome in AS_REQUESTED:
        return
    titles = {audience.name: audience.title for audience in service.audiences}
    rollback = is_rollback(this_run()[0])
    taken_back = outcome.outcome == "backed_out"
    touched = any(entry.kind == PERMIT_ISSUED for entry in entries)
    for name, addresses in announced.sent.items():
        text = render(
            "outcome_announced.md.j2",
            audience=titles.get(name, name),
            service=service,
            plan=plan,
            taken_back=taken_back,
            overtaken=outcome.outcome == "overtaken",
            unchanged=not touched,
            rollback=rollback,
        )
        what = "taken back" if taken_back else "not completed" if touched else "cancelled"
        thing = f"Rollback of {service.title} to {plan.version}" if rollback else f"{service.title} {plan.version}"
        yield _Message(f"audience {name}", tuple(addresses), f"{thing}: {what}", text)
