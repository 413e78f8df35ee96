"""A release that is a passenger of a train: the frozen manifest names it, and the board of the train decides.

The votes on the train are counted again for each passenger, from Airflow's record of the train's run, by the rules for
this release. The chain of the train is verified each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.catalogue.trains import load_trains
from interlock.adapters.trains.boarding import deployed_last
from interlock.domain.board import decision as boards
from interlock.domain.board.questions import ASK_TRAIN_BOARD
from interlock.domain.board.voting import VotingRule
from interlock.domain.catalogue import Policy
from interlock.domain.change.request import ReleaseRequest
from interlock.domain.dag_names import dag_of_release
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.kinds import BOARD_DECIDED, FINDING, PASSENGER_ARRIVED, RELEASE_ENDED, TRAIN_PROVEN
from interlock.domain.ledger.runs import of_dag, run_of
from interlock.domain.records import Decision, RolloutPlan, TrainTicket
from interlock.domain.trains.manifest import CONDUCTOR, Boarded, Manifest, manifest_in
from interlock.domain.trains.passengers import describe_objection, describe_plan_objection, refuse_stranger
from interlock.locations import catalogue_folder
from interlock.stages.approvals.people import votes_on
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import record


class TrainRun(NamedTuple):
    """A run of a train: its verified chain, and its manifest."""

    dag_id: str
    run_id: str
    entries: Sequence[Entry]
    manifest: Manifest | None


def train_run(chain: str) -> TrainRun:
    """Return the record of a train's run in the ledger.

    :raises PolicyViolation: its chain is not intact or not signed, or has a finding.
    """
    run = run_of(chain)
    if run is None:
        refuse_stranger(f"{chain} is not the chain of a train")
        raise ValueError(chain)
    keys = [resources.signer().public_key]
    with resources.ledger() as ledger:
        broken = ledger.check(chain, keys)
        entries = () if broken else ledger.entries(chain)
        broken = broken or unsigned_since(chain, entries, ledger.heads(chain))
    findings = [str(one.payload.get("what")) for one in entries if one.kind == FINDING]
    if broken or findings:
        raise PolicyViolation(
            f"The record of the train is not intact: {broken.sentence if broken else ' '.join(findings)}",
            rule="manifest and decision of a train must be in a signed chain without findings",
            who="the people under findings.notify of policy.yaml",
            next_step="have the findings investigated; release outside of the train, or take the next one",
        )
    return TrainRun(*run, entries, manifest_in(entries))


def refuse_beside_its_train(policy: Policy, service: str, request: ReleaseRequest, requester: str) -> None:
    """Refuse a release that names a train without being its passenger, or that has to take its service's train.

    :raises PolicyViolation: names the reason.
    """
    if request.train is not None:
        train = train_run(request.train)
        refuse_stranger(
            describe_objection(
                train.manifest,
                chain=request.train,
                service=service,
                version=request.version,
                commit=request.ref,
                artifact=request.artifact,
                change_type=request.change_type,
                requester=requester,
            )
            or _given_up(train.entries, service)
        )
        if train.manifest and (one := train.manifest.passenger(service)):
            refuse_replaced(one)
        return
    if requester == CONDUCTOR:
        refuse_stranger(f"{CONDUCTOR} requested it, but it names no train")
    if request.rehearsal or request.change_type in policy.trains.outside:
        return
    carrying = load_trains(catalogue_folder(), *load_rules(catalogue_folder())).carrying(service)
    if carrying:
        raise PolicyViolation(
            f"A {request.change_type} change of {service} must take its train: "
            f"{', '.join(f'{train.title} ({train.name})' for train in carrying)}.",
            rule="trains.outside of policy.yaml lists the change types that may be released outside of trains",
            who=policy.owner,
            next_step="take the train (make trains shows the departures), or choose another change type",
        )


def recorded_with(train: str | None) -> tuple[str, ...]:
    """Return the systems that have one change of a train instead of one of each passenger; none: it is no passenger.

    :raises PolicyViolation: the train's record is not intact.
    """
    manifest = train_run(train).manifest if train is not None else None
    return tuple(sorted(manifest.records)) if manifest is not None else ()


def _given_up(entries: Sequence[Entry], service: str) -> str:
    """Return the reason why a train no longer waits for a passenger; empty if it still waits."""
    back = next(
        (one.payload for one in entries if one.kind == PASSENGER_ARRIVED and one.payload.get("service") == service),
        None,
    )
    return f"the train has given up on it: {str(back['reason']).rstrip('.')}" if back else ""


def refuse_replaced(one: Boarded) -> None:
    """Refuse a passenger if the version that it replaces on the manifest is no longer the one deployed last.

    :raises PolicyViolation: the passenger would undo a later deployment.
    """
    with resources.ledger() as ledger:
        last = deployed_last(ledger, one.service)
    version = last[0] if last else None
    if version != one.replaces and last != (one.version, one.commit):
        raise PolicyViolation(
            f"{one.service} {one.version} is held back: the last deployed version is {version or 'none'}, but it was "
            f"{one.replaces or 'none'} when the manifest was frozen.",
            rule="a passenger replaces the version that its board saw on the manifest",
            who="the service's team",
            next_step="take the next train, or release the service on its own",
        )


def running(service: str) -> list[str]:
    """Return the runs that release a service now, according to the ledger and Airflow."""
    dag_id = dag_of_release(service)
    with resources.ledger() as ledger:
        ended = {one.payload["run"] for one in ledger.entries(INSTALLATION, kind=RELEASE_ENDED)}
        runs = [run[1] for chain in ledger.chains(of_dag(dag_id)) if (run := run_of(chain))]
    with resources.airflow_api() as api:
        return [run for run in runs if f"{dag_id}/{run}" not in ended and api.run_state(dag_id, run) == "running"]


def decision_of(train: str | None) -> tuple[TrainTicket | None, tuple[str, ...]]:
    """Return the decision of a train that counts for its passenger, and the people who chose the passengers.

    Without a ticket, the release needs a decision of its own. These people do not vote on it either.
    """
    manifest = train_run(train).manifest if train is not None else None
    if train is None or manifest is None:
        return None, ()
    ticket = TrainTicket(chain=train, manifest=manifest.digest) if manifest.one_decision else None
    return ticket, manifest.requested_by


def count_on_train(rule: VotingRule, rollout: RolloutPlan) -> Decision:
    """Count the votes on a train's manifest by the rule for a passenger, and return the decision on its plan.

    :raises PolicyViolation: the train's record is not intact, or the plan differs from the manifest.
    """
    if rollout.train is None:
        raise ValueError("no train's passenger")
    train = train_run(rollout.train.chain)
    refuse_stranger(describe_plan_objection(train.manifest, rollout))
    manifest = train.manifest
    if manifest is None:
        raise ValueError("refused before")
    votes = votes_on(ASK_TRAIN_BOARD, manifest.digest, run=(train.dag_id, train.run_id), entries=train.entries)
    in_time = [one for one in votes if one.at and (manifest.decide_by is None or one.at <= manifest.decide_by)]
    counted = boards.count_votes(
        rule,
        in_time,
        digest=manifest.digest,
        requester=CONDUCTOR,
        asked_by=manifest.requested_by,
        excluded=(*manifest.excluded, *rollout.excluded),
        expired=True,
    )
    if counted is None:
        raise ValueError("what has expired is decided")
    decided = [one.payload for one in train.entries if one.kind == BOARD_DECIDED]
    approved = counted.approved and bool(decided) and decided[-1].get("approved") is True
    reason = f"According to the votes on the manifest {manifest.digest[:12]} of {manifest.title}: {counted.reason}"
    return counted.model_copy(update={"digest": rollout.digest, "approved": approved, "reason": reason})


def keep_proof(rollout: RolloutPlan) -> None:
    """Record the evidence of the train's decision in the passenger's chain: its entries, heads and answers."""
    if rollout.train is None:
        return
    train = train_run(rollout.train.chain)
    with resources.ledger() as ledger:
        heads = [head.envelope for head in ledger.heads(rollout.train.chain)]
    with resources.airflow_api() as api:
        answers = [one.model_dump(mode="json") for one in api.answers(train.dag_id, train.run_id, ASK_TRAIN_BOARD)]
    decided = max((one.sequence for one in train.entries if one.kind == BOARD_DECIDED), default=0)
    entries = [one.model_dump(mode="json") for one in train.entries if one.sequence <= decided]
    record(TRAIN_PROVEN, {"chain": rollout.train.chain, "entries": entries, "heads": heads, "ballots": answers})
