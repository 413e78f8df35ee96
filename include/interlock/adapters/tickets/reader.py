"""What a system that keeps tickets has to offer: one function. docs/service-management.md says how to add a system."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict

from interlock.domain.catalogue.outside.tickets import TicketApproval

MAX_TEXT = 300


def _text(value: Any) -> Any:
    """Bring what people wrote onto one line of printable characters, and cut it."""
    if not isinstance(value, str):
        return value
    line = " ".join("".join(one if one.isprintable() else " " for one in value).split())
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 1]}…"


Text = Annotated[str, BeforeValidator(_text)]
"""Text from another system: one line of at most 300 characters."""


class Said(BaseModel):
    """Base of what a system answers. Systems add fields as they like, so that unknown ones are left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Named(Said):
    """A thing with a name."""

    name: Text


class Found(Said):
    """A ticket, as every system can say it."""

    title: Text
    status: Text
    type: Text = ""
    parent: Text = ""
    fix_versions: tuple[Text, ...] = ()
    labels: tuple[Text, ...] = ()
    approved: bool | None = None
    link: str = ""


class TicketReader(Protocol):
    """A system that keeps tickets."""

    def read(self, key: str, project: str) -> Found | None:
        """Return a ticket; None: there is none, or the account of the connection may not see it.

        :param key: as the release names it, such as SHOP-12 or #12.
        :param project: of policy.yaml (tickets.projects), such as acme/shop.
        :raises TransientError: no answer now. :raises ReleaseError: an answer of no use.
        """
        ...


def number_of(key: str) -> str:
    """Return the number of a ticket: 12 of #12 and of SHOP-12."""
    return key.removeprefix("#").rpartition("-")[2]


def by_state(rule: TicketApproval, status: str, labels: tuple[str, ...] = ()) -> bool | None:
    """Tell whether a ticket is approved by its state or its labels; None: neither says so in policy.yaml."""
    if not rule.states and not rule.labels:
        return None
    states, wanted = ({one.casefold() for one in some} for some in (rule.states, rule.labels))
    return status.casefold() in states or not wanted.isdisjoint(one.casefold() for one in labels)
