"""What the ledger says of versions: which releases were deployed, which versions are marked bad or pinned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from interlock.adapters.hosts import smoke
from interlock.adapters.permits.issuer import signed_permits
from interlock.domain.catalogue import Policy, Service
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.kinds import PERMIT_USED, RELEASE_ENDED, RELEASE_REQUESTED, ROLLOUT_FROZEN
from interlock.domain.outcome import deployments, rollback
from interlock.domain.outcome import marks as outcome_marks
from interlock.domain.outcome.deployments import DeployedRelease
from interlock.domain.outcome.marks import MARKS
from interlock.domain.records import RolloutPlan

from . import resources
from .history import chains_of

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

MAX_OFFERED = 20
"""How many of a service's last deployments a rollback offers. The form can name an older version."""


def deployed_releases(service: str, version: str = "") -> tuple[DeployedRelease, ...]:
    """Return the last releases of a service that were deployed, the oldest first, each read from its own chain.

    A release whose chain is not intact or lacks a record is left out.

    :param version: also return all releases of this version, however old.
    """
    with resources.ledger() as ledger:
        ended = deployments.deployments(ledger.entries(INSTALLATION, kind=RELEASE_ENDED), service)
        wanted = [one for one in ended[:-MAX_OFFERED] if one["version"] == version] + ended[-MAX_OFFERED:]
        found = [_proven(ledger, release_chain(*one["run"].split("/", 1))) for one in wanted]
    return tuple(one for one in found if one is not None)


def deployed_release(chain: str) -> DeployedRelease | None:
    """Return the release of a chain if it was deployed and its chain holds."""
    with resources.ledger() as ledger:
        return _proven(ledger, chain)


def _proven(ledger: Ledger, chain: str) -> DeployedRelease | None:
    """Return the release of a chain that holds and whose decisions are signed, if it was deployed."""
    key = resources.signer().public_key
    if ledger.check(chain, [key]):
        return None
    entries = ledger.entries(chain)
    if unsigned_since(chain, entries, ledger.heads(chain)):
        return None
    return deployments.deployed_release(entries, signed_permits(entries, key))


def answers_since(release: DeployedRelease, policy: Policy) -> dict[str, bool]:
    """Return the answers to the risk questions of all releases that a rollback undoes. A single yes counts as yes.

    These are the later releases that changed hosts: deployed, or failed.
    """
    answers = {question.key: False for question in policy.risk.questions}
    with resources.ledger() as ledger:
        for entry in ledger.entries(INSTALLATION, kind=RELEASE_ENDED):
            told = entry.payload
            if (
                told["service"] == release.service
                and entry.at > release.at
                and told["outcome"] in ("deployed", "failed")
            ):
                chain = release_chain(*told["run"].split("/", 1))
                for asked in ledger.entries(chain, kind=RELEASE_REQUESTED):
                    said = asked.payload.get("risk", {})
                    answers = {key: answer or said.get(key) is True for key, answer in answers.items()}
    return answers


def marks() -> tuple[Entry, ...]:
    """Return the marks of versions, from the installation's chain."""
    with resources.ledger() as ledger:
        return ledger.entries(INSTALLATION, kind=MARKS)


def refuse_marked(service: str, environment: str, version: str) -> None:
    """Raise a PolicyViolation if a version is marked bad, or if the environment is pinned to another one."""
    outcome_marks.refuse_marked(marks(), service, environment, version)


def standing(ledger: Ledger, plan: RolloutPlan, own: str, entries: tuple[Entry, ...]) -> dict[str, Any]:
    """Return what the ledger says of a plan's version and hosts, as a permit asks it.

    :param own: the chain of the release that is running.
    :param entries: that chain.
    """
    back = plan.rolls_back
    return {
        "marked": outcome_marks.describe_block(
            ledger.entries(INSTALLATION, kind=MARKS), plan.service, plan.environment, plan.version
        ),
        "ran_before": back is not None and rollback.is_proven(plan, _proven(ledger, back.chain)),
        "overtaken": overtaken(ledger, plan, own, entries),
    }


def overtaken(ledger: Ledger, plan: RolloutPlan, own: str, entries: Sequence[Entry]) -> str:
    """Say which other release changed hosts of a plan since it was frozen; empty: none did.

    :param own: the chain of the release that is running; ``entries``: of it.
    """
    frozen = next((entry.at for entry in reversed(entries) if entry.kind == ROLLOUT_FROZEN), None)
    return deployments.describe_overtaking(_used_by_others(ledger, plan, own, frozen), plan, frozen) if frozen else ""


def _used_by_others(ledger: Ledger, plan: RolloutPlan, own: str, since: datetime) -> Iterator[Entry]:
    """Yield the permits that releases and rollbacks of the service used which had not ended by then; not its own."""
    ended = {one.payload["run"] for one in ledger.entries(INSTALLATION, kind=RELEASE_ENDED) if one.at <= since}
    for run, chain in chains_of(ledger, plan.service).items():
        if chain != own and run not in ended:
            yield from ledger.entries(chain, kind=PERMIT_USED)


def as_it_was(service: Service, rollout: RolloutPlan) -> Service:
    """Return a service for the checks after a rollback: with the smoke requests and paths of the earlier release."""
    if rollout.rolls_back is None:
        return service
    release = deployed_release(rollout.rolls_back.chain)
    if release is None:
        raise PolicyViolation(
            f"The record of {rollout.rolls_back.chain} is not intact, so a rollback to it is refused."
        )
    expected = {(check.path, smoke.expectation(check)): check for check in service.smoke}
    return rollback.limit_checks(service, release, expected)
