"""Defects that are accepted as known: by whom the policy names, with a reason, until a date."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from interlock.domain.catalogue import BoardBook, WaiverRule
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import PolicyViolation, RequestRefused
from interlock.domain.trigger_form import Form, Reason, read_form

from .defects import AcceptedDefect, OpenDefect

MAX_DAYS = 90


class AcceptanceRequest(Form):
    """The form of ``accept_defect``."""

    service: str = Field(description="The service that has the defect.")
    defect: str = Field(min_length=1, max_length=100, description="The open defect, such as basket-total-1.")
    reason: Reason = Field(
        description="Why the service can be released with this defect. It is sent by e-mail and recorded in the ledger."
    )
    days: int = Field(14, ge=1, le=MAX_DAYS, description="The acceptance ends after this time. The policy has a limit.")


def parse_acceptance(form: Mapping[str, Any], services: Collection[str]) -> AcceptanceRequest:
    """Read the form; RequestRefused with every field that is wrong.

    :param services: of the catalogue.
    """
    request = read_form(AcceptanceRequest, form, "the acceptance")
    if request.service not in services:
        raise RequestRefused(
            f"There is no service {request.service}. Available: {', '.join(sorted(services)) or 'none'}.",
            next_step="correct the service",
        )
    return request


def accepted(
    request: AcceptanceRequest,
    opened: Iterable[OpenDefect],
    rule: WaiverRule | None,
    book: BoardBook,
    user: str,
    *,
    requesters: Collection[str],
    now: datetime,
) -> AcceptedDefect:
    """Return the acceptance of an open defect.

    :param opened: the open defects of the service.
    :param rule: who may waive failures of the suite ``defects``; none: nobody.
    :param user: who accepts it.
    :param requesters: of the releases of the service that are under way: nobody decides on their own release.
    :raises PolicyViolation: this person may not accept it, or not for so long.
    :raises RequestRefused: the service has no such open defect.
    """
    known = [one.defect.id for one in opened]
    if request.defect not in known:
        raise RequestRefused(
            f"{request.service} has no open defect {request.defect}. Open: {', '.join(known) or 'none'}.",
            next_step="correct the id of the defect",
        )
    roles = rule.roles if rule else ()
    role = next((person.role for person in book.people if person.user == user), "not in board.yaml")
    if rule is None or role not in roles:
        raise _refused(f"{user} ({role}) may not accept defects of {request.service} as known.", roles)
    if user in requesters:
        raise _refused(f"{user} requested a release of {request.service} that is under way.", roles)
    if timedelta(days=request.days) > rule.longest:
        raise _refused(f"A defect is accepted for at most {in_words(rule.longest)}, not {request.days} days.", roles)
    until = now + timedelta(days=request.days)
    return AcceptedDefect(id=request.defect, by=user, reason=request.reason, until=until)


def _refused(what: str, roles: Collection[str]) -> PolicyViolation:
    return PolicyViolation(
        what,
        rule="people in a role of waivers.defects of policy.yaml accept an open defect as known, for at most "
        "waivers.defects.longest, and not while a release that they requested is under way",
        who=", ".join(roles) or "no role; the owner of policy.yaml can name some",
        next_step="fix the defect and release a new version, or ask a person with such a role",
    )
