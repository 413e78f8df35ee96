"""Requests to withdraw a release: which release is meant, whether it can be withdrawn, and whether this user may.

The task of the withdrawal knows its requester, but no roles: only here is it checked that a user who did not request
the release is a release manager. A run that did not pass this check is not recorded as requested, and does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock.adapters.catalogue.catalogue import environments_of
from interlock.adapters.ledger.withdrawals import releases_under_way
from interlock.domain.errors import PolicyViolation, RequestRefused, describe_error
from interlock.domain.permits.withdrawal import find_release, parse_withdrawal, refuse_too_late, role_of

from .break_glass import OpenLedger
from .forms import NO_FORM

log = logging.getLogger(__name__)


def refused_withdrawal(
    form: Any,
    user: str,
    manages: bool,
    folder: Path,
    open_ledger: OpenLedger,
    runs_under_way: Callable[[], frozenset[str]],
) -> tuple[int, str] | None:
    """Return the status and the reason of a refusal; none: the release can be withdrawn, and by this user.

    :param manages: whether the user is a release manager.
    :param folder: the catalogue's.
    :param runs_under_way: returns Dag and run of each run that has not ended.
    """
    if not isinstance(form, dict):
        return 422, NO_FORM
    try:
        request = parse_withdrawal(form, environments_of(folder))
        runs = runs_under_way()
        with open_ledger() as ledger:
            found = releases_under_way(ledger, request.service, lambda dag_id, run_id: f"{dag_id}/{run_id}" in runs)
        release = find_release(request, found)
    except RequestRefused as error:
        return 422, str(error)
    except Exception as error:  # of any kind: the requester of the release is not known
        log.exception("Which release %s withdraws is not known", user)
        why = f"because the releases under way cannot be read: {describe_error(error)}"
        return 503, f"The release cannot be withdrawn now, {why}"
    try:
        role_of(release, user, manages=manages)
    except PolicyViolation as error:
        return 403, str(error)
    try:
        refuse_too_late(release)
    except PolicyViolation as error:
        return 422, str(error)
    return None
