"""Requests for the release of a passenger of a train: only the conductor sends them, for what the manifest names.

The conductor is a service account. It may only request releases that the frozen manifest of a train names, on which the
board decided. No other user may request a release for a train.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.domain.errors import ReleaseError
from interlock.domain.trains.manifest import CONDUCTOR, manifest_in
from interlock.domain.trains.passengers import describe_objection

from .break_glass import OpenLedger


def not_on_the_train(user: str, service: str, conf: Mapping[str, Any], open_ledger: OpenLedger) -> str:
    """Say why a request is refused because of a train; empty: it is not.

    :param conf: the form of the release, which is valid.
    """
    chain = conf.get("train")
    if chain is None:
        if user != CONDUCTOR:
            return ""
        return f"{CONDUCTOR} can only request releases of passengers of a train, but this request names no train."
    why = f"only {CONDUCTOR} can request the releases of a train, but {user or 'an unknown user'} requested this one"
    if user == CONDUCTOR:
        try:
            with open_ledger() as ledger:
                manifest = manifest_in(ledger.entries(chain))
        except ReleaseError as error:
            return f"The train of this release cannot be checked: {error}"
        why = describe_objection(
            manifest,
            chain=chain,
            service=service,
            version=conf["version"],
            commit=conf["ref"],
            change_type=conf.get("change_type", "normal"),
            requester=user,
        )
    return (
        f"This release is not a passenger of a train: {why}. Rule: the conductor of a train requests the releases that "
        "the frozen manifest names. Next: release it outside of the train."
        if why
        else ""
    )
