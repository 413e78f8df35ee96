"""The releases of a train's passengers, and whether a release is one of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from interlock.domain.change.request import RISK_PREFIX
from interlock.domain.dag_names import run_name
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import RolloutPlan

from .manifest import CONDUCTOR, Boarded, Manifest


def passenger_form(manifest: Manifest, one: Boarded, chain: str) -> dict[str, Any]:
    """Return the form with which the conductor asks for a passenger's release.

    :param chain: the train's chain in the ledger.
    """
    return {
        "ref": one.commit,
        "version": one.version,
        "change_type": manifest.change_type.value,
        "summary": one.summary,
        "tickets": list(one.tickets),
        **{RISK_PREFIX + key: True for key, yes in sorted(one.answers.items()) if yes},
        "train": chain,
    }


def passenger_run(train: str, departure: datetime, version: str) -> str:
    """Return the run id of a passenger's release: asked for again, it is the same run."""
    return f"{run_name(version, departure)}__{train}"


def describe_objection(
    manifest: Manifest | None, *, chain: str, service: str, version: str, commit: str, change_type: str, requester: str
) -> str:
    """Say why a release is none of a train's passengers; empty: it is.

    :param chain: the train's chain, as the release names it.
    :param commit: what is released, as a full commit id.
    :param requester: who asked for the release.
    """
    if requester != CONDUCTOR:
        return f"only {CONDUCTOR} asks for the releases of a train, and {requester} asked for this one"
    if manifest is None:
        return f"by the ledger {chain} froze no manifest"
    one = manifest.passenger(service)
    if one is None:
        return f"{service} is not on the manifest of {chain}: {manifest.why_left(service)}"
    if (one.version, one.commit) != (version, commit):
        return (
            f"the manifest of {chain} names {service} {one.version} at {one.commit[:12]}, and this is {version} at "
            f"{commit[:12]}"
        )
    if manifest.change_type.value != str(change_type):
        return f"the train's change type is {manifest.change_type.value}, and this is {change_type}"
    return ""


def refuse_stranger(why: str) -> None:
    """Raise a PolicyViolation unless there is no objection to a passenger."""
    if why:
        raise PolicyViolation(
            f"This release is no passenger of a train: {why}.",
            rule="a train's releases are what its frozen manifest names, and its conductor asks for them",
            who="whoever keeps the train's file",
            next_step="release it outside of the train, or let it board the next one",
        )


def describe_plan_objection(manifest: Manifest | None, plan: RolloutPlan) -> str:
    """Say why a rollout plan is not of what its train's manifest names; empty: it is."""
    if plan.train is None:
        return ""
    if manifest is not None and manifest.digest != plan.train.manifest:
        return f"the train {plan.train.chain} froze another manifest than {plan.train.manifest[:12]}"
    return describe_objection(
        manifest,
        chain=plan.train.chain,
        service=plan.service,
        version=plan.version,
        commit=plan.commit,
        change_type=plan.change_type,
        requester=plan.requested_by,
    )
