"""The releases of a train's passengers, and whether a release is one of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from interlock.domain.change.request import ARTIFACT, RISK_PREFIX
from interlock.domain.dag_names import run_name
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import RolloutPlan

from .manifest import CONDUCTOR, Boarded, Manifest


def passenger_form(manifest: Manifest, one: Boarded, chain: str) -> dict[str, Any]:
    """Return the form with which the conductor requests a passenger's release.

    :param chain: the train's chain in the ledger.
    """
    return {
        "ref": one.commit,
        "version": one.version,
        "change_type": manifest.change_type.value,
        "summary": one.summary,
        "tickets": list(one.tickets),
        **({ARTIFACT: f"sha256:{one.artifact}"} if one.artifact else {}),
        **{RISK_PREFIX + key: True for key, yes in sorted(one.answers.items()) if yes},
        "train": chain,
    }


def passenger_run(train: str, departure: datetime, version: str) -> str:
    """Return the run id of a passenger's release: asked for again, it is the same run."""
    return f"{run_name(version, departure)}__{train}"


def describe_objection(
    manifest: Manifest | None,
    *,
    chain: str,
    service: str,
    version: str,
    commit: str,
    artifact: str | None,
    change_type: str,
    requester: str,
) -> str:
    """Return why a release is not a passenger of a train; empty: it is.

    :param chain: the train's chain, as the release names it.
    :param commit: what is released, as a full commit id.
    :param artifact: the digest of what its own pipeline built, with or without ``sha256:``; none: it is built here.
    :param requester: the requester of the release.
    """
    if requester != CONDUCTOR:
        return f"only {CONDUCTOR} can request the releases of a train, but {requester} requested this one"
    if manifest is None:
        return f"according to the ledger, {chain} has no frozen manifest"
    one = manifest.passenger(service)
    if one is None:
        return f"{service} is not on the manifest of {chain}: {manifest.why_left(service)}"
    if (one.version, one.commit) != (version, commit):
        return (
            f"the manifest of {chain} names {service} {one.version} at {one.commit[:12]}, but this is {version} at "
            f"{commit[:12]}"
        )
    if (one.artifact or "") != (artifact or "").removeprefix("sha256:"):
        return (
            f"the manifest of {chain} names the artifact {one.artifact or 'none'} of {service}, but this is "
            f"{artifact or 'none'}"
        )
    if manifest.change_type.value != str(change_type):
        return f"the change type of the train is {manifest.change_type.value}, but this is {change_type}"
    return ""


def refuse_stranger(why: str) -> None:
    """Raise a PolicyViolation if there is an objection to a passenger."""
    if why:
        raise PolicyViolation(
            f"This release is not a passenger of a train: {why}.",
            rule="the conductor of a train requests the releases that the frozen manifest names",
            who="the owner of the train",
            next_step="release it outside of the train, or take the next train",
        )


def describe_plan_objection(manifest: Manifest | None, plan: RolloutPlan) -> str:
    """Return why a rollout plan does not match its train's manifest; empty: it does."""
    if plan.train is None:
        return ""
    if manifest is not None and manifest.digest != plan.train.manifest:
        return f"the frozen manifest of the train {plan.train.chain} is not {plan.train.manifest[:12]}"
    return describe_objection(
        manifest,
        chain=plan.train.chain,
        service=plan.service,
        version=plan.version,
        commit=plan.commit,
        artifact=plan.artifact,
        change_type=plan.change_type,
        requester=plan.requested_by,
    )
