"""The agenda of a board: what waits for its votes, each item in a screenful, what ends first and is riskiest first.

Everything is read from the chain of the release or the train; the votes are Airflow's. What the votes come to is
decided elsewhere (:mod:`interlock.domain.board.decision`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pydantic import Field

from interlock.domain.board.decision import tally
from interlock.domain.board.questions import ASK_BOARD, ASK_TRAIN_BOARD
from interlock.domain.board.voting import BOOK, VotingRule
from interlock.domain.calendars.conflicts import conflicts_in
from interlock.domain.canonical import Model
from interlock.domain.catalogue import BoardBook, ChangeType
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import BOARD_DECIDED, PLAN_MADE
from interlock.domain.ledger.reading import last_in, plan_in
from interlock.domain.measures.facts import MeasuredRelease
from interlock.domain.outcome.progress import EnvironmentProgress, progress_of
from interlock.domain.records import Decision, ReleasePlan, RiskTerm, RolloutPlan, Vote
from interlock.domain.rollout.rollout import describe_strategy
from interlock.domain.runbook.planning import describe_irreversible
from interlock.domain.tickets.facts import Ticket
from interlock.domain.trains.manifest import Boarded, Manifest, manifest_in

from .remarks import Said, remarks_in

ASKING_BOARDS = (ASK_BOARD, ASK_TRAIN_BOARD)
PAST = 5
"""So many past releases of the service are shown."""
MAX_COMMITS = 10
MAX_TEXT = 500


class BallotSeen(Model):
    """A ballot as Airflow has it."""

    task_id: str
    map_index: int
    people: tuple[str, ...] = Field(description="User names of who may cast it")
    open: bool
    vote: Vote | None = Field(description="None: nobody has cast it")


class SeatSeen(Model):
    """A seat of a board, and the vote that stands for it."""

    user: str
    name: str
    role: str
    choice: str = Field("", description="Empty: no vote yet")
    by: str = Field("", description="User name of who voted, if that was a delegate")
    comment: str = ""
    conditions: str = ""
    at: datetime | None = None


class DemandSeen(Model):
    """What one board or rule asks of its members."""

    title: str
    place: str = Field(description="Where it is written: the file, and the part of it")
    asks: str
    lacks: tuple[str, ...] = Field(description="What is not there yet; empty: it is met")


class ReviewSeen(Model):
    """How the release did in an environment before production."""

    environment: str
    state: str
    passed: int = Field(description="Suites")
    of: int
    failed: tuple[str, ...] = Field(description="Titles of suites that failed")
    waived: int = Field(description="Failed expectations that people accepted")


class PastSeen(Model):
    """How an earlier release of the service ended."""

    version: str
    outcome: str
    rollback: bool
    ended_at: datetime | None
    dag_id: str
    run_id: str


class BackOutSeen(Model):
    """What going back would be."""

    proven: bool = Field(description="Every host still has the release that it returns to")
    to: tuple[str, ...] = Field(description="The versions that hosts return to")
    irreversible: tuple[str, ...] = Field((), description="What a back-out cannot take back, a sentence each")


class Change(Model):
    """What is changed, and why."""

    summary: str = ""
    previous_version: str | None = None
    commits: tuple[str, ...] = Field((), description="Subject and author of the newest ones; at most 10")
    commit_count: int = 0
    tickets: tuple[Ticket, ...] = ()
    ticket_names: tuple[str, ...] = ()
    rollout: tuple[str, ...] = Field((), description="Hosts, waves and strategy, a sentence each")
    differences: tuple[str, ...] = Field((), description="To the plan of the release that runs, a sentence each")
    passengers: tuple[Boarded, ...] = Field((), description="Of a train")


class Settled(Model):
    """What the board has decided."""

    approved: bool
    reason: str
    at: datetime


class AgendaItem(Model):
    """A release, a rollback or a train that waits, or waited, for votes."""

    dag_id: str
    run_id: str
    kind: Literal["release", "rollback", "train"]
    title: str
    service: str = Field("", description="Empty: a train")
    version: str = ""
    environment: str = ""
    change_type: ChangeType | None = None
    boards: tuple[str, ...] = Field((), description="The boards of board.yaml that vote on it, by their keys")
    digest: str = Field("", description="Of what is voted on; empty: it is not in the ledger")
    requested_by: tuple[str, ...] = ()
    not_before: datetime | None = None
    decide_by: datetime | None = None
    risk: int | None = None
    risk_terms: tuple[RiskTerm, ...] = ()
    change: Change = Change()
    conflicts: tuple[str, ...] = ()
    reviews: tuple[ReviewSeen, ...] = ()
    back_out: BackOutSeen | None = None
    past: tuple[PastSeen, ...] = Field((), description="The last five releases of the service; the newest first")
    seats: tuple[SeatSeen, ...] = ()
    demands: tuple[DemandSeen, ...] = ()
    ballots: tuple[BallotSeen, ...] = Field((), exclude=True)
    remarks: tuple[Said, ...] = ()
    decision: Settled | None = Field(None, description="None: it is not decided")
    open: bool = Field(description="Somebody can still vote")


Item = TypeVar("Item", bound=AgendaItem)


def release_item(
    run: tuple[str, str],
    entries: Sequence[Entry],
    ballots: Sequence[BallotSeen],
    *,
    rule: VotingRule | None,
    past: Sequence[MeasuredRelease] = (),
    runs: RolloutPlan | None = None,
    rollback: bool = False,
) -> AgendaItem:
    """Return the item of a release or a rollback.

    :param entries: of its chain.
    :param rule: who must agree; None: that is not known.
    :param past: the releases of its service.
    :param runs: the frozen plan of the release that production runs now.
    """
    plan, rollout = last_in(entries, PLAN_MADE, ReleasePlan), plan_in(entries)
    if plan is None or rollout is None:
        return _unknown(run, ballots, "rollback" if rollback else "release")
    return AgendaItem(
        dag_id=run[0],
        run_id=run[1],
        kind="rollback" if rollback else "release",
        title=f"{rollout.service} {rollout.version}",
        service=rollout.service,
        version=rollout.version,
        environment=rollout.environment,
        change_type=rollout.change_type,
        digest=rollout.digest,
        requested_by=(rollout.requested_by,),
        not_before=rollout.not_before,
        decide_by=rollout.decide_by,
        risk=rollout.risk,
        risk_terms=plan.risk.terms,
        change=Change(
            summary=rollout.summary[:MAX_TEXT],
            previous_version=plan.previous_version,
            commits=tuple(f"{one.subject[:MAX_TEXT]} ({one.author})" for one in plan.commits[:MAX_COMMITS]),
            commit_count=plan.commit_count,
            tickets=rollout.ticket_details or (),
            ticket_names=rollout.tickets,
            rollout=(_fleet(rollout), *describe_strategy(rollout)),
            differences=tuple(differences(rollout, runs)) if runs else (),
        ),
        conflicts=tuple(map(str, conflicts_in(entries))),
        reviews=tuple(_reviews(progress_of(entries, {}).environments, rollout.environment)),
        back_out=BackOutSeen(
            proven=rollout.back_out.on_hosts,
            to=tuple(sorted({one or "no release" for one in rollout.back_out.versions.values()})),
            irreversible=describe_irreversible(rollout),
        ),
        past=tuple(_past(past)),
        **_voting(entries, ballots, rule, {rollout.requested_by}, rollout.excluded),
    )


def train_item(
    run: tuple[str, str], entries: Sequence[Entry], ballots: Sequence[BallotSeen], *, rule: VotingRule | None
) -> AgendaItem:
    """Return the item of a train; the parameters are those of :func:`release_item`."""
    manifest = manifest_in(entries)
    if manifest is None:
        return _unknown(run, ballots, "train")
    return AgendaItem(
        dag_id=run[0],
        run_id=run[1],
        kind="train",
        title=manifest.title,
        environment=manifest.environment,
        change_type=manifest.change_type,
        digest=manifest.digest,
        requested_by=manifest.requested_by,
        not_before=manifest.departure,
        decide_by=manifest.decide_by,
        risk=max((one.risk for one in manifest.passengers), default=0),
        risk_terms=tuple(RiskTerm(name=one.service, points=one.risk, why=one.why) for one in manifest.passengers),
        change=_on_board(manifest),
        conflicts=tuple(map(str, conflicts_in(entries))),
        **_voting(entries, ballots, rule, manifest.requested_by, manifest.excluded),
    )


def _on_board(manifest: Manifest) -> Change:
    left = tuple(f"{one.service} stays behind: {one.why}" for one in manifest.left)
    return Change(
        summary=f"{len(manifest.passengers)} services on board",
        commit_count=sum(one.commits for one in manifest.passengers),
        passengers=manifest.passengers,
        differences=left,
    )


def _unknown(
    run: tuple[str, str], ballots: Sequence[BallotSeen], kind: Literal["release", "rollback", "train"]
) -> AgendaItem:
    """Return the item of what the ledger does not know: it is shown, so that nobody misses it."""
    return AgendaItem(
        dag_id=run[0], run_id=run[1], kind=kind, title=run[0], ballots=tuple(ballots), open=_is_open(ballots)
    )


def _is_open(ballots: Iterable[BallotSeen]) -> bool:
    return any(one.open for one in ballots)


def _voting(
    entries: Sequence[Entry],
    ballots: Sequence[BallotSeen],
    rule: VotingRule | None,
    asked_by: Iterable[str],
    excluded: Sequence[str],
) -> dict[str, Any]:
    """Return the fields of an item about its vote."""
    decided = [one for one in entries if one.kind == BOARD_DECIDED][-1:]
    found: dict[str, Any] = {
        "ballots": tuple(ballots),
        "open": _is_open(ballots),
        "remarks": remarks_in(entries),
        "decision": next(map(_settled, decided), None),
    }
    if rule is None:
        return found
    votes = [one.vote for one in ballots if one.vote is not None]
    stands = tally(rule, votes, asked_by=frozenset(asked_by), excluded=excluded)
    return found | {
        "boards": tuple(name for one in rule.demands if (name := board_of(one.place))),
        "seats": tuple(
            SeatSeen(
                user=seat.user,
                name=seat.name,
                role=seat.role,
                choice=vote.choice if vote else "",
                by=vote.user if vote and vote.user and vote.user != seat.user else "",
                comment=vote.comment if vote else "",
                conditions=vote.conditions if vote else "",
                at=vote.at if vote else None,
            )
            for seat, vote in stands.seats
        ),
        "demands": tuple(
            DemandSeen(title=one.title, place=one.place, asks=str(one), lacks=stands.lacking.get(one.place, ()))
            for one in rule.demands
        ),
    }


def _settled(entry: Entry) -> Settled:
    decision = Decision.model_validate(entry.payload, extra="ignore")
    return Settled(approved=decision.approved, reason=decision.reason, at=entry.at)


def board_of(place: str) -> str:
    """Return the key of the board of ``board.yaml`` that a demand is written at; empty: a rule asks it."""
    file, _, key = place.partition(" ")
    return key.removeprefix("boards.") if file == BOOK and key.startswith("boards.") else ""


def on_agenda(item: AgendaItem, board: str, book: BoardBook) -> bool:
    """Tell whether an item belongs on the agenda of a board: it votes, or a rule asks some of its members.

    :param board: the key of the board; empty: any.
    """
    if not board or board in item.boards or not item.seats:
        return True
    members = book.boards[board].members if board in book.boards else ()
    of_rules = not item.boards
    return of_rules and any(one.user in members for one in item.seats)


def in_order(items: Iterable[Item]) -> list[Item]:
    """Return items in the order of an agenda: what ends first, then the riskiest."""
    never = datetime.max.replace(tzinfo=UTC)
    return sorted(items, key=lambda one: (one.decide_by or never, -(one.risk or 0), one.title, one.run_id))


def _reviews(environments: Iterable[EnvironmentProgress], target: str) -> Iterator[ReviewSeen]:
    for one in environments:
        if one.environment == target:
            continue
        suites = one.suites
        yield ReviewSeen(
            environment=one.environment,
            state=one.state,
            passed=suites.passed if suites else 0,
            of=suites.of if suites else 0,
            failed=suites.failed if suites else (),
            waived=suites.waived if suites else 0,
        )


def _past(releases: Iterable[MeasuredRelease]) -> Iterator[PastSeen]:
    ended = [one for one in releases if one.ended_at is not None]
    ended.sort(key=lambda one: (one.ended_at, one.run), reverse=True)
    for one in ended[:PAST]:
        dag, _, run = one.run.partition("/")
        yield PastSeen(
            version=one.version,
            outcome=one.outcome,
            rollback=one.rollback,
            ended_at=one.ended_at,
            dag_id=dag,
            run_id=run,
        )


def _fleet(plan: RolloutPlan) -> str:
    hosts, waves = len(plan.hosts), len(plan.waves)
    return f"{hosts} {'host' if hosts == 1 else 'hosts'} in {waves} {'wave' if waves == 1 else 'waves'}."


def differences(plan: RolloutPlan, runs: RolloutPlan) -> Iterator[str]:
    """Yield how a plan differs from that of the release that runs, apart from its bytes, a sentence each."""
    yield from _other_hosts(plan, runs)
    if describe_strategy(plan) != describe_strategy(runs):
        yield "The strategy of the rollout is another one."
    steps, before = ({one.title for one in each.steps} for each in (plan, runs))
    for words, found in (("New steps of the runbook", steps - before), ("Steps that are gone", before - steps)):
        if found:
            yield f"{words}: {', '.join(sorted(found))}."
    if plan.migrations:
        yield f"It changes the database; tables: {len(plan.migrations.tables)}."
    if len(plan.waivers) != len(runs.waivers):
        yield f"Waived failures: {len(plan.waivers)}, instead of {len(runs.waivers)}."
    if plan.risk != runs.risk:
        yield f"Its risk is {plan.risk}; that of {runs.version} was {runs.risk}."
    if plan.policy_digest != runs.policy_digest:
        yield f"The rules of the catalogue for it changed since {runs.version}."


def _other_hosts(plan: RolloutPlan, runs: RolloutPlan) -> Iterator[str]:
    now, then = {one.name for one in plan.hosts}, {one.name for one in runs.hosts}
    if new := sorted(now - then):
        yield f"Hosts that {runs.version} was not deployed to: {', '.join(new)}."
    if gone := sorted(then - now):
        yield f"Hosts that are left out: {', '.join(gone)}."
    if len(plan.waves) != len(runs.waves):
        yield f"Waves: {len(plan.waves)}, instead of {len(runs.waves)}."
