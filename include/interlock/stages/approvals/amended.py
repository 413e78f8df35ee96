"""Rules of the running release as they are now: what was asked when it began, and what the catalogue asks since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from interlock.adapters.catalogue.catalogue import version_of
from interlock.adapters.catalogue.commits import commit_of
from interlock.domain.board import voting
from interlock.domain.catalogue import ServiceCatalogue, Thresholds
from interlock.domain.change.amended import Amended, Amendment, amendments_of, began_with, strictest
from interlock.domain.change.effective import digest_now
from interlock.domain.change.environments import thresholds_in
from interlock.domain.change.policy import resolve_policy
from interlock.domain.errors import AlreadyRecorded, PolicyViolation
from interlock.domain.ledger.kinds import RULES_AMENDED
from interlock.domain.records import PolicyInForce
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, this_chain, this_task


def at_its_commit(in_force: PolicyInForce) -> PolicyInForce:
    """Return the policy of a release that begins, with the commit of the catalogue."""
    commit = commit_of(catalogue_folder())
    return in_force.model_copy(update={"commit": commit}) if commit else in_force


def thresholds_in_force(
    catalogue: ServiceCatalogue, in_force: PolicyInForce, environment: str | None = None
) -> Thresholds:
    """Return the tighter of each two thresholds: those with which the release began, and those of the catalogue now.

    :param environment: between test and production, with thresholds of its own; none: test and production.
    """
    policy, service = catalogue.policy, catalogue.service
    if environment is not None:
        now = thresholds_in(policy, service, environment)
    else:
        now = resolve_policy(policy, service, in_force.change_type).thresholds
    return strictest(in_force.thresholds, now)


def note(catalogue: ServiceCatalogue) -> tuple[Amendment, ...]:
    """Put on record which version of the catalogue the release sees, and what it changes; once for each version."""
    entries = chain_entries()
    began = began_with(entries)
    if began is None or began.rules is None or not (found := amendments_of(began, catalogue)):
        return ()
    digest = digest_now(began.digest, catalogue, began.change_type)
    seen = (entry.payload.get("digest") for entry in entries if entry.kind == RULES_AMENDED)
    if digest not in seen:
        folder = catalogue_folder()
        seen_now = Amended(digest=digest, catalogue=version_of(folder), commit=commit_of(folder), amendments=found)
        payload = seen_now.model_dump(mode="json")
        with resources.ledger() as ledger, suppress(AlreadyRecorded):  # by another task of the release
            ledger.append_once(this_chain(), RULES_AMENDED, payload, actor=this_task(), key=f"{RULES_AMENDED}/{digest}")
    return found


def refuse_unasked(rule: voting.VotingRule, found: Sequence[Amendment], ballots: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to wait for a board of which nobody has a ballot: another one was added after the ballots were sent.

    :param found: how the rules changed; ``ballots``: the questions that were asked.
    :raises PolicyViolation: a demand of the rule cannot be met by those who have a ballot.
    """
    if not any(one.effect == "asked" for one in found):
        return
    asked = {user["id"] for one in ballots for user in one["assigned_users"]}
    unasked = [one for one in rule.demands if not asked & {*one.members}]
    if unasked:
        changes = "; ".join(str(one) for one in found if one.effect == "asked")
        raise PolicyViolation(
            f"{voting.listed([one.title for one in unasked])} must vote on this release, too, since its rules were "
            f"tightened after the ballots were sent: {changes}.",
            rule="what tightens the rules of a release is asked of it",
            who="the person who changed the catalogue",
            next_step="trigger the release again: the boards are then asked together",
        )
