"""What a system must be able to do so that releases can be told to it; a page says how to write another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from interlock.domain.outbox.delivery import Remote
from interlock.domain.outbox.facts import Statement

from .web import WebApi


class System(Protocol):
    """A system that has a record of each release. Its methods may be called in several threads at once.

    Each of them raises TransientError if there was no answer, or one that says nothing: what was asked may have been
    done, or may be done later. SystemBusy, if the system says that it did nothing and when to ask again.
    DeliveryRefused, if it did nothing and will not.
    """

    @property
    def gathers(self) -> bool:
        """Whether facts that wait may be told at once, as one statement that has the texts of all."""

    def find(self, correlation: str) -> Sequence[Remote]:
        """Return the records with a correlation id, the oldest first; normally none or one.

        ``told`` of each is what :meth:`change` wrote there. Withdrawn duplicates are left out.
        """

    def create(self, correlation: str, statement: Statement) -> Remote:
        """Make a record with a correlation id, and what is known of the release; it has not been told anything yet."""

    def change(self, remote: Remote, statement: Statement) -> Remote:
        """Bring a record to what a statement says, and return it with ``told`` as the statement has it.

        It may have been done in part before, even by a request that arrived twice. So everything in it is compared
        first, or may be written again. The text of the statement and ``told`` are written last, in one request.
        """

    def withdraw(self, duplicate: Remote, original: Remote) -> None:
        """Take back a record that a repeated request made beside the original."""

    def close(self) -> None:
        """Close its connections."""


class Listener(ABC):
    """A system that is told of releases and keeps no record of them: how far it was told, only the outbox knows.

    What it is sent must do no harm if it arrives twice.

    :param api: where it is.
    """

    gathers = False

    def __init__(self, api: WebApi) -> None:
        self._api = api

    @abstractmethod
    def tell(self, correlation: str, statement: Statement) -> None:
        """Send what a statement means to this system; nothing, if it means nothing there.

        It raises what methods of :class:`System` raise.
        """

    def find(self, correlation: str) -> Sequence[Remote]:
        """Return what stands for the release."""
        return (Remote(reference=correlation, number=correlation),)

    def create(self, correlation: str, statement: Statement) -> Remote:
        """Make nothing: what stands for the release is there."""
        return self.find(correlation)[0]

    def change(self, remote: Remote, statement: Statement) -> Remote:
        """Tell it the statement."""
        self.tell(remote.reference, statement)
        return remote.model_copy(update={"told": statement.told})

    def withdraw(self, duplicate: Remote, original: Remote) -> None:  # noqa: B027 -- there are no duplicates
        """Take back nothing."""

    def close(self) -> None:
        """Close its connections."""
        self._api.close()
