"""Requests for releases by accounts that may make only some: the conductor of trains, and the accounts of pipelines.

The conductor may only request releases that the frozen manifest of a train names, on which the board decided. No other
user may request a release for a train. The account of a pipeline may only request releases of the services that the
policy names for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.domain.change.pipelines import PIPELINE, foreign_pipeline
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
            artifact=conf.get("artifact"),
            change_type=conf.get("change_type", "normal"),
            requester=user,
        )
    return (
        f"This release is not a passenger of a train: {why}. Rule: the conductor of a train requests the releases that "
        "the frozen manifest names. Next: release it outside of the train."
        if why
        else ""
    )


def not_of_its_service(user: str, roles: frozenset[str] | None, service: str, folder: Path) -> str:
    """Say why a release may not be requested by this account; empty: it may, or it is not a pipeline's.

    :param roles: of the account; none: the auth manager knows no roles.
    :param folder: of the catalogue.
    """
    try:
        policy, _ = load_rules(folder)
    except ReleaseError as error:
        return f"Who may request releases cannot be read from the catalogue: {error}"
    why = foreign_pipeline(policy, user, service, is_pipeline=PIPELINE in (roles or ()))
    return (
        f"{why}. Rule: pipelines, in policy.yaml. Who can change it: {policy.owner}. "
        f"Next: have {service} named there for this account."
        if why
        else ""
    )
