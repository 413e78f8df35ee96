"""Who is at a test case: testers take cases, give them back, and take them over from each other.

It is a note for the other testers, and nothing else: it gives no result, and it keeps nobody from giving one.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import not_

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model, Sha256
from interlock.domain.catalogue import UserName
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import CASE_GIVEN_BACK, CASE_TAKEN
from interlock.domain.ledger.witness import told


class Taking(Model):
    """A tester took a test case, or gave it back."""

    environment: str
    case: str = Field(description="The id of the case")
    by: UserName
    instead_of: str = Field("", exclude_if=not_, description="Who was at it until then; empty: nobody")
    binds: Sha256 = Field(description="Digest of the case and the bundle, as in the result")


class Taker(Model):
    """A person who is at a test case."""

    user: UserName
    since: AwareDatetime


def takers_in(entries: Iterable[Entry]) -> dict[Sha256, Taker]:
    """Return who is at which test case of a release, by what its result will be bound to.

    :param entries: of the release's chain, as far as the API server signed them.
    """
    found: dict[Sha256, Taker] = {}
    for entry in entries:
        if entry.kind in (CASE_TAKEN, CASE_GIVEN_BACK):
            one = Taking.model_validate(told(entry.payload))
            if entry.kind == CASE_TAKEN:
                found[one.binds] = Taker(user=one.by, since=entry.at)
            elif one.binds in found and found[one.binds].user == one.by:
                del found[one.binds]
    return found
