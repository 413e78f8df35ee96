"""Mail to those whom the policy names for findings and emergency stops, and links to pages in mails."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from interlock.adapters import mail
from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.templates import Markdown
from interlock.domain.catalogue import BoardBook, Policy
from interlock.locations import catalogue_folder

from . import resources

log = logging.getLogger(__name__)


def page_link(path: str) -> Markdown:
    """Return a link to a page of Airflow's, at the address by which people reach it.

    :param path: below that address, without a slash at its beginning.
    """
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    return Markdown(f"<{base}/{path}>")


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
    to = tuple(dict.fromkeys((*recipients(*load_rules(catalogue_folder())), *also)))
    if not to:
        log.warning("No notification was sent: findings.notify in policy.yaml is empty. %s", subject)
        return ()
    with resources.mail_server() as smtp:
        mail.send(smtp, to=to, subject=subject, text=text, message_id=f"<{same}@interlock>")
    return to
