"""Chains of releases, as other systems are told of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from interlock.domain.catalogue import ChangeType
from interlock.domain.ledger import kinds
from interlock.domain.ledger.chain import Entry, next_entry, release_chain
from interlock.domain.records import Outcome
from interlock.domain.trains.arrivals import Arrival
from interlock.domain.trains.manifest import Boarded, Manifest
from tests.unit.domain import samples

BEGAN = datetime(2026, 3, 2, 9, tzinfo=UTC)
Step = tuple[str, dict[str, Any]]


def chain_of(number: int, service: str = "bike-shop") -> str:
    """Return the chain of a release."""
    return release_chain(f"release_{service.replace('-', '_')}", f"1.1.0__{number:06}")


def steps(
    end: str = "deployed",
    *,
    change_type: ChangeType = ChangeType.NORMAL,
    records: Mapping[str, str] | None = None,
    waves: int = 2,
    rehearsal: bool = False,
) -> Iterator[Step]:
    """Yield kind and payload of each fact of a release.

    :param end: its outcome.
    :param records: system: mode, by the policy.
    """
    plan = samples.plan("Sell bikes", change_type=change_type, rehearsal=rehearsal)
    frozen = samples.rollout(waves, change_type=change_type)
    flow = {"board": "cab", **({"records": dict(records)} if records else {})}
    yield kinds.POLICY_RESOLVED, {"change_type": change_type.value, "flow": flow}
    yield kinds.PLAN_MADE, plan.to_xcom()
    if end != "failed":
        yield kinds.ROLLOUT_FROZEN, {**frozen.to_xcom(), "digest": frozen.digest}
        approved = end not in ("rejected", "expired")
        votes = [samples.vote("ben", "Approve" if approved else "Reject").model_dump(mode="json")]
        decided = samples.decision("board", frozen.digest, approved=approved, expired=end == "expired")
        yield kinds.BOARD_DECIDED, {**decided.to_xcom(), "votes": votes, "board": {}}
    if end in ("deployed", "backed_out"):
        yield kinds.PERMIT_ISSUED, {"permit": {"purpose": "inspect", "id": "0" * 32}, "envelope": {}}
        yield kinds.PERMIT_ISSUED, {"permit": {"purpose": "deploy", "id": "1" * 32}, "envelope": {}}
        for wave in samples.waves(frozen):
            yield kinds.WAVE_DEPLOYED, wave.to_xcom()
        yield kinds.VERIFICATION_JUDGED, samples.verification(success=end == "deployed").to_xcom()
    if end == "backed_out":
        yield kinds.BACK_OUT_DONE, samples.back_out(frozen).to_xcom()
    outcome = {"outcome": end, "stage": "verification", "reason": f"It was {end}.", "service": "bike-shop"}
    yield kinds.RELEASE_CLOSED, Outcome.model_validate({**outcome, "version": "1.1.0"}).to_xcom()


def train_steps(*, departs: bool = True, lost: str = "") -> Iterator[Step]:
    """Yield kind and payload of each fact of a train with two passengers, which has one change in the system snow.

    :param departs: its board approves it.
    :param lost: a service whose release is backed out.
    """
    versions = {"till": "1.4.0", "bike-shop": "2.0.0"}
    boarded = [
        Boarded(
            **{"service": name, "version": version, "ref": f"v{version}", "commit": "a" * 40, "replaces": "1.0.0"},
            **{"commits": 3, "risk": 20, "answers": {}, "summary": f"Sell with {name}", "why": "its newest tag"},
            tickets=(f"SHOP-{len(name)}",),
        )
        for name, version in versions.items()
    ]
    about = {"train": "shops", "title": "Shops", "environment": "production", "change_type": "normal"}
    manifest = Manifest.model_validate(
        {
            **{**about, "departure": BEGAN + timedelta(hours=1), "passengers": boarded, "requested_by": ("rita",)},
            **{"one_decision": True, "file": "b" * 64, "records": {"snow": "mirror"}},
        }
    )
    yield kinds.MANIFEST_FROZEN, {**manifest.to_xcom(), "digest": manifest.digest}
    votes = [samples.vote("ben", "Approve" if departs else "Reject").model_dump(mode="json")]
    decided = samples.decision("board", manifest.digest, approved=departs)
    yield kinds.BOARD_DECIDED, {**decided.to_xcom(), "votes": votes, "train": {}}
    outcomes = []
    if departs:
        yield kinds.TRAIN_DEPARTED, {**manifest.to_xcom(), "digest": manifest.digest}
    for one in boarded:
        told = {"service": one.service, "version": one.version, "run": f"release_{one.service}/r"}
        outcome = "not departed" if not departs else "backed_out" if one.service == lost else "deployed"
        outcomes.append({**told, "outcome": outcome})
        if departs:
            yield kinds.PASSENGER_DEPARTED, told
            yield kinds.PASSENGER_ARRIVED, {**told, "outcome": outcome, "reason": "It was slow." if lost else ""}
    reason = "" if departs else "The board rejected it."
    came = {"train": "shops", "departed": departs, "reason": reason, "passengers": outcomes}
    yield kinds.TRAIN_ARRIVED, Arrival.model_validate(came).to_xcom()


def chained(chain: str, many: Sequence[Step] | Iterator[Step], *, began: datetime = BEGAN) -> list[Entry]:
    """Return steps as the chain of a release, a minute between two entries."""
    entries: list[Entry] = []
    for number, (kind, payload) in enumerate(many):
        last = entries[-1] if entries else None
        at, key = began + timedelta(minutes=number), f"{kind}/{number}"
        entries.append(next_entry(last, chain=chain, at=at, actor="rita", kind=kind, key=key, payload=payload))
    return entries


def signed(entries: Sequence[Entry]) -> int:
    """Return up to which entry a chain is signed, if all of it is."""
    return len(entries)
