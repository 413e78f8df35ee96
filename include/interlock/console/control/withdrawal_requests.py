"""Withdrawals at the door: which release is meant, whether it can be withdrawn, and whether this user may.

The task of the withdrawal knows who asked for it, and no roles: that who did not request the release is a release
manager is checked here, and nowhere else. No other run of the Dag is on record as asked for, and such a run does
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock.adapters.catalogue.catalogue import environments_of
from interlock.adapters.ledger.withdrawals import releases_under_way
from interlock.domain.errors import PolicyViolation, ReleaseError, RequestRefused
from interlock.domain.permits.withdrawal import find_release, parse_withdrawal, refuse_too_late, role_of

from .break_glass import OpenLedger
from .forms import NO_FORM

log = logging.getLogger(__name__)


class Withdrawals:
    """Judges the requests to withdraw a release.

    :param folder: the catalogue's.
    :param runs_under_way: returns Dag and run of each run that has not ended.
    """

    def __init__(self, folder: Path, open_ledger: OpenLedger, runs_under_way: Callable[[], frozenset[str]]) -> None:
        self._folder, self._open_ledger, self._runs_under_way = folder, open_ledger, runs_under_way

    def objection(self, form: Any, user: str, manages: bool) -> tuple[int, str] | None:
        """Return the status and the reason of a refusal; none: the release can be withdrawn, and by this user.

        :param manages: whether the user is a release manager.
        """
        if not isinstance(form, dict):
            return 422, NO_FORM
        try:
            request = parse_withdrawal(form, environments_of(self._folder))
            runs = self._runs_under_way()
            with self._open_ledger() as ledger:
                found = releases_under_way(ledger, request.service, lambda dag_id, run_id: f"{dag_id}/{run_id}" in runs)
            release = find_release(request, found)
        except RequestRefused as error:
            return 422, str(error)
        except Exception as error:  # whatever it is: who requested the release is not known
            log.exception("Which release %s withdraws is not known", user)
            why = str(error) if isinstance(error, ReleaseError) else type(error).__name__
            return 503, f"The release cannot be withdrawn now, because the releases under way cannot be read: {why}"
        try:
            role_of(release, user, manages=manages)
        except PolicyViolation as error:
            return 403, str(error)
        try:
            refuse_too_late(release)
        except PolicyViolation as error:
            return 422, str(error)
        return None
