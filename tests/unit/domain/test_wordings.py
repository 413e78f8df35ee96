"""The words of every refusal about votes, permits and the ledger, as people read them, kept in ``wordings/``.

Who changes a word on purpose writes the files again, and reads the difference as who will be refused would::

    INTERLOCK_WRITE_WORDINGS=1 .venv/bin/python -m pytest -q tests/unit/domain/test_wordings.py
    git diff tests/unit/domain/wordings
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from interlock.domain.board import decision as board
from interlock.domain.board import voting, voting_faults, waivers
from interlock.domain.board.voting import VotingRule
from interlock.domain.calendars.bookings import Entered
from interlock.domain.catalogue import BoardBook, ChangeType, Person, Policy
from interlock.domain.catalogue.problem import Problem
from interlock.domain.change import standard
from interlock.domain.change.policy import resolve_policy
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger import _plain_json, integrity
from interlock.domain.ledger import chain as ledger
from interlock.domain.ledger.kinds import RELEASE_WITHDRAWN, RUN_ASKED
from interlock.domain.ledger.witness import AskedRun, GivenAnswer, refuse_unasked
from interlock.domain.permits import ended_releases, permit, withdrawal
from interlock.domain.permits import objections as permits_objections
from interlock.domain.permits.installation import Fault
from interlock.domain.records import Decision, RollBack, RolloutPlan, Vote, Waiver
from tests.unit.domain import samples
from tests.unit.domain.samples import vote
from tests.unit.domain.test_outcome import WITHDRAWAL
from tests.unit.domain.test_permit import FAILURE, NO_LONGER_ACCEPTED, circumstances, decision, planned, report, waiver
from tests.unit.domain.test_rehearsal import plan_with, rehearsed

WRITE = "INTERLOCK_WRITE_WORDINGS"
FOLDER = Path(__file__).parent / "wordings"
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
OTHER = "0" * 64
WITHDRAWN = WITHDRAWAL.model_dump(mode="json")

Said = Iterator[tuple[str, str]]
"""Circumstances, and what is said in them."""


def refusal(refuse: Callable[[], object]) -> str:
    """Return what a refusal says, each part on a line of its own."""
    with pytest.raises(ReleaseError) as raised:
        refuse()
    error = raised.value
    parts = {"Rule": error.rule, "Who can change it": error.who, "Next": error.next_step}
    lines = [error.what, *(f"{name}: {words}." for name, words in parts.items() if words)]
    assert str(error) == " ".join(lines)  # nobody reads other words than these
    return "\n".join(lines)


# --- the board -------------------------------------------------------------------------------------------------------

APPROVE, REJECT, ABSTAIN = board.APPROVE, board.REJECT, board.ABSTAIN
AWAY = [{"for": "cora", "to": "eve", "from": "2026-12-01", "until": "2026-12-14"}]
MEANWHILE = datetime(2026, 12, 5, tzinfo=UTC)


def of_two_boards() -> VotingRule:
    further = samples.board("ann eve", 2, "")
    demand = further.demands[0].model_copy(update={"title": "Shop board", "place": "services/bike-shop.yaml rules.own"})
    return voting.merge(samples.board(require={"business": 1}), further.model_copy(update={"demands": (demand,)}))


def decided(on: VotingRule, *votes: Vote, expired: bool = False, **people: Any) -> str:
    who = {"requester": "rita", **people}
    return reason_of(board.count_votes(on, votes, digest=OTHER, expired=expired, **who))


def answered(*votes: Vote, subject: Any = "acceptance", expired: bool = False, requester: str = "rita") -> str:
    names = {"fay": "Fay", "sam": "Sam Novak"}
    return reason_of(
        board.decide_single(
            ["fay", "sam"],
            votes,
            subject=subject,
            digest=OTHER,
            requester=requester,
            expired=expired,
            names=names,
        )
    )


def reason_of(made: Decision | None) -> str:
    assert made is not None
    verdict = "approved" if made.approved else "rejected"
    return f"{verdict}{', too late' if made.expired else ''}: {made.reason}"


def of_the_board() -> Said:
    cab = samples.board()

    def eligible(on: VotingRule, *excluded: str) -> str:
        return refusal(lambda: board.eligible_members(on, requester="rita", excluded=excluded))

    yield "too few are left to vote", eligible(cab, "ben", "cora")
    yield "nobody is left to vote", eligible(cab, "ben", "cora", "dan")
    yield "nobody with a compulsory role is left", eligible(samples.board(require={"security": 1}), "cora")

    ben, dan = vote("ben", APPROVE), vote("dan", APPROVE)
    yield "enough approve", decided(cab, ben, dan)
    yield (
        "enough approve, one on a condition and one abstaining",
        decided(cab, ben, vote("dan", APPROVE, conditions="only\nat night"), vote("cora", ABSTAIN)),
    )
    yield "a compulsory role approves", decided(samples.board(require={"security": 1}), ben, vote("cora", APPROVE))
    two_roles = samples.board(require={"security": 1, "operations": 1})
    yield "two compulsory roles approve", decided(two_roles, ben, vote("cora", APPROVE))
    yield "two compulsory roles do not answer", decided(two_roles, dan, expired=True)
    yield "a veto, with its reason", decided(cab, ben, vote("cora", REJECT, "the keys\nare in the bundle"))
    yield "a veto by a delegate", decided(samples.board(delegates=AWAY), vote("eve", REJECT, at=MEANWHILE))
    yield (
        "a delegate approves on a condition",
        decided(samples.board(delegates=AWAY), ben, vote("eve", APPROVE, at=MEANWHILE, conditions="with a watch")),
    )
    yield "too many do not approve", decided(cab, vote("ben", REJECT, "no"), vote("dan", ABSTAIN))
    yield (
        "a compulsory role does not approve",
        decided(samples.board(require={"security": 1}), vote("cora", ABSTAIN)),
    )
    yield "too few are left when votes are counted", decided(cab, requester="ben", excluded=("dan",))
    yield "nobody is left when votes are counted", decided(cab, requester="ben", excluded=("cora", "dan"))
    yield "the deadline passes, and nobody voted", decided(cab, expired=True)
    yield "the deadline passes, and one voted", decided(cab, ben, expired=True)
    yield "two boards: the deadline passes", decided(of_two_boards(), ben, vote("ann", APPROVE), expired=True)
    yield "two boards: one cannot approve any more", decided(of_two_boards(), vote("ann", ABSTAIN))
    yield "two boards: neither can", decided(of_two_boards(), requester="dan", excluded=("ann", "eve"))
    yield "two boards: both approve", decided(of_two_boards(), ben, dan, vote("ann", APPROVE), vote("eve", APPROVE))

    yield "any one of some: approval", answered(vote("fay", APPROVE), vote("sam", APPROVE))
    yield "any one of some: rejection", answered(vote("fay", REJECT, "the basket is empty"), vote("sam", APPROVE))
    yield "any one of some: two rejections", answered(vote("fay", REJECT), vote("sam", REJECT), subject="plan")
    yield "any one of some: nobody answers", answered(subject="plan", expired=True)
    yield "any one of some: all abstain", answered(vote("fay", ABSTAIN), vote("sam", ABSTAIN), expired=True)
    yield "any one of some: one abstains", answered(vote("sam", ABSTAIN), expired=True)
    own: dict[str, Any] = {"subject": "acceptance", "digest": OTHER, "requester": "maya", "expired": False}
    yield "any one of some: nobody but who asked", reason_of(board.decide_single(["maya"], [], **own))
    yield "people without known names", reason_of(board.decide_single(["fay"], [vote("fay", REJECT)], **own))


# --- what boards and rules ask ---------------------------------------------------------------------------------------


def of_voting() -> Said:
    yield "one board", "\n".join(samples.board().lines())
    yield "a veto of several", "\n".join(samples.board(veto="cora dan", deadline="PT90M").lines())
    yield "two boards", "\n".join(of_two_boards().lines())
    yield "a delegate", "\n".join(samples.board(delegates=AWAY).lines())
    rule = {"name": "tier-1", "board": "cab", "quorum": {"approvals": 3, "require": {"security": 1, "business": 1}}}
    alone = {"name": "own", "members": ["eve"], "quorum": {}}
    people = samples.book({"cab": CAB}, rules=[rule, alone])
    rules = samples.policy(change_types={**samples.FLOWS, "emergency": {}})
    found = voting.voting_rule(rules, people, samples.service(), change_type=ChangeType.NORMAL, risk=0)
    assert found is not None
    yield "rules on a board's members and on others", "\n".join(found.lines())
    yield "one approval", voting.approvals(1)
    yield "no name, one, two, three", "\n".join(voting.listed("abc"[:number]) for number in range(4))


CAB: dict[str, Any] = {
    "title": "CAB",
    "members": ["ben", "cora", "dan"],
    "quorum": {"approvals": 2, "veto": ["cora"]},
}


def book_with(quorum: dict[str, Any], **changes: Any) -> BoardBook:
    return samples.book({"cab": {**CAB, "quorum": {"approvals": 1, **quorum}}, "ecab": CAB}, **changes)


def faults(found: Iterable[Problem]) -> str:
    lines = [f"{'.'.join(map(str, one.place))}: found {one.found}; allowed: {one.allowed}" for one in found]
    assert lines
    return "\n".join(lines)


def of_faults() -> Said:
    def of_book(
        quorum: dict[str, Any] | None = None, units: Any = ("retail",), services: Any = ("till",), **more: Any
    ) -> str:
        found = voting_faults.faults_of_book(book_with(quorum or {}, **more), units=units, services=services)
        return faults(found)

    def rule(**changes: Any) -> dict[str, Any]:
        return {"rules": [{"name": "own", "members": ["eve"], "quorum": {}, **changes}]}

    yield "more approvals than members", of_book({"approvals": 4})
    yield "more approvals of a role than members with it", of_book({"require": {"security": 2}})
    yield "approvals of a role that no member has", of_book({"require": {"finance": 1}})
    yield "a veto of a stranger", of_book({"veto": ["ann"]})
    yield "a veto of a role that no member has", of_book({"veto_roles": ["finance"]})
    yield "a rule on a business unit that there is not", of_book(**rule(when={"business_units": ["retail", "toys"]}))
    yield (
        "a rule on a service that there is not",
        of_book(services=("shop", "till"), **rule(when={"services": ["bus"]})),
    )
    yield "a rule on a service where there is none", of_book(services=(), **rule(when={"services": ["bus"]}))
    yield "a rule on a board that there is not", of_book(rules=[{"name": "own", "board": "tab", "quorum": {}}])
    yield (
        "a rule that asks too much of its board",
        of_book(rules=[{"name": "own", "board": "cab", "quorum": {"approvals": 4}}]),
    )
    yield "a rule that asks too much of its members", of_book(**rule(quorum={"approvals": 2}))
    away = [{"for": "ben", "to": "cora", "from": "2026-12-01", "until": "2026-12-14"}]
    yield "a delegate who sits beside the member", of_book(delegates=away)

    def of_policy(**changes: Any) -> str:
        rules: Policy = samples.policy(**changes)
        return faults(voting_faults.faults_of_policy(rules, book_with({}), services=("till",)))

    flows = {**samples.FLOWS, "normal": {"board": "tab"}, "emergency": {"board": "cab", "further_boards": ["cab", "x"]}}
    yield "a policy names boards that there are not", of_policy(change_types=flows)
    strangers = {"name": "own", "members": ["eve", "zoe"], "quorum": {"approvals": 3}}
    too_much = {"name": "more", "members": ["eve"], "quorum": {"approvals": 3}}
    unit = {"change_types": {"normal": {"further_boards": ["tab"]}}, "board_rules": [strangers, too_much]}
    yield "a business unit names strangers, and asks too much", of_policy(business_units={"retail": unit})


# --- the permit ------------------------------------------------------------------------------------------------------


def of_permit() -> Said:
    plan = planned()

    def objection(on: RolloutPlan = plan, **found: Any) -> str:
        objections = permits_objections.objections(on, circumstances(on, **found), NOW)
        assert len(objections) == 1
        # Digests of records change with the records, and are no words.
        return refusal(lambda: permits_objections.refuse(objections)).replace(on.digest[:12], "dddddddddddd")

    def ended(kind: str, payload: dict[str, Any]) -> str:
        end = entry(1, kind=kind, payload=payload)
        return refusal(lambda: ended_releases.refuse_ended("implementation.wave_1", [end]))

    yield "a rehearsal in production", objection(planned(rehearsal=True))
    yield "no rehearsal in a sandbox", objection(planned(environment="test"))
    yield "the release has ended", objection(closed=True)
    yield "another plan was frozen", objection(frozen=OTHER)
    yield "no plan was frozen", objection(frozen=None)
    yield (
        "the catalogue changed",
        objection(catalogue=OTHER, changes=("board.yaml: boards.cab.quorum.approvals was 2 and is 3",)),
    )
    yield "the bundle changed", objection(bundle=OTHER)
    yield "the bundle is gone", objection(bundle=None)
    yield "the version is marked bad", objection(marked="1.1.0 is marked bad in production, by rita: it loses orders.")
    back = RollBack(chain="release/release_bike_shop/one", closed=OTHER, template="rollback: back")
    yield "a rollback to what never ran", objection(planned(rolls_back=back))
    yield "another release was faster", objection(overtaken="1.2.0 was rolled out to these hosts since.")
    yield "the board has not decided", objection(decision=None)
    yield "the board decided on another plan", objection(decision=decision(plan, digest=OTHER))
    yield "the votes do not approve", objection(decision=decision(plan, approved=False, reason="Cora (cora) rejected."))
    yield "there is no quality report", objection(quality=None)
    failed, vague = report(FAILURE), report(success=False)
    yield "an expectation failed", objection(planned(failed), quality=failed)
    tests = FAILURE.model_copy(update={"suite": "tests", "expected": "no test fails"})
    both = report(FAILURE, tests)
    yield "two expectations failed", objection(planned(both), quality=both)
    one = waiver()
    yield (
        "two expectations failed, one is waived",
        objection(planned(both, waivers=(one,)), quality=both, waivers=(one,)),
    )
    yield "quality review failed as a whole", objection(planned(vague), quality=vague)
    tighter = "policy.yaml: thresholds.max_p95_ms was 800 and is 700"
    yield "thresholds were tightened after the review", objection(unjudged=tighter)
    yield "it fails tightened thresholds", objection(judged_again=(report(), failed))
    on_the_path = failed.model_copy(update={"environment": "staging"})
    yield "it fails them in an environment before production", objection(judged_again=(report(), on_the_path))
    known = report().model_copy(update={"defects": (NO_LONGER_ACCEPTED,)})
    yield "a defect is no longer accepted", objection(planned(known), quality=known)
    for what, found in (("none", None), ("of others", rehearsed(steps=OTHER))):
        yield f"a rehearsal of database changes: {what}", objection(plan_with(found), migrations=found)
    yield "it is too early", objection(planned(not_before=datetime.fromisoformat("2026-03-04T14:00+01:00")))
    yield "an emergency stop", objection(stops=("everything, by ben: payments fail; until 2026-03-05 12:00 UTC.",))
    yield "the calendars close it", objection(freezes=("Black Friday, until Tuesday",))
    holder = "release/release_bike_shop/two holds production of bike-shop since 2026-03-04 11:00 UTC."
    yield "another release holds the environment", objection(booked=holder)
    bare = Fault(check="API server http://a", what="It is not guarded: no plugin.", fix="install the wheel")
    yield "a check of the installation does not hold", objection(installation=(bare,))
    yield "nothing signed it", objection(unsigned="Entry 7 of the chain c (board.decided) is not signed.")
    yield "somebody intervened", objection(interventions=("olga cleared build.run at 2026-03-04 11:00:00 UTC",))
    yield "there is a finding", objection(findings=("A ballot was marked as success.",))
    yield "it has ended", ended("release.closed", {"outcome": "backed_out"})
    yield "it has ended, nobody knows how", ended("release.closed", {})
    yield (
        "it was withdrawn",
        refusal(lambda: withdrawal.refuse_called_off([entry(1, kind=RELEASE_WITHDRAWN, payload=WITHDRAWN)])),
    )
    of_rita = withdrawal.ReleaseUnderWay(dag_id="release_bike_shop", run_id="one", requested_by="rita", version="1.1.0")
    yield "somebody else withdraws it", refusal(lambda: withdrawal.role_of(of_rita, "ben", manages=False))
    for name, changes in (("withdrawn", {"withdrawn": WITHDRAWAL}), ("verified", {"verified": True})):
        late = of_rita.model_copy(update=changes)
        yield f"it is withdrawn when it is {name}", refusal(lambda: withdrawal.refuse_too_late(late))  # noqa: B023
    which = withdrawal.WithdrawalRequest(service="bike-shop", reason="The tag is wrong")
    for number in (0, 2):
        there = [of_rita] * number
        yield f"{number} releases are under way", refusal(lambda: withdrawal.find_release(which, there))  # noqa: B023
    yield "its train has arrived", ended("train.arrived", {})
    several = permits_objections.objections(
        plan, circumstances(plan, closed=True, decision=None, stops=("a", "b")), NOW
    )
    yield "several objections", refusal(lambda: permits_objections.refuse(several))

    given = permit.Permit(
        id="a" * 32,
        purpose="back_out",
        chain="release/release_bike_shop/one",
        environment="production",
        wave=1,
        hosts=("127.20.0.11",),
        catalogue=OTHER,
        issued_at=datetime.fromisoformat("2026-03-04T13:00:00+01:00"),
        expires_at=datetime.fromisoformat("2026-03-04T13:15:00+01:00"),
        entered=Entered(place="booking/production/bike-shop", token=7),
    )

    def use(purpose: Any = "back_out", environment: str = "production", now: datetime = NOW, **changes: Any) -> str:
        used = given.model_copy(update=changes)
        return refusal(lambda: permit.refuse_unusable(used, purposes=(purpose,), environment=environment, now=now))

    yield "a permit for another purpose", use(purpose="deploy")
    yield "a permit for another environment", use(environment="staging")
    yield "a permit that holds too long", use(expires_at=given.expires_at + timedelta(seconds=1))
    yield "a permit that has ended", use(now=NOW + timedelta(minutes=15))
    yield "a permit of somebody who entered nowhere", use(entered=None)
    yield "a permit of later", use(now=NOW - timedelta(seconds=1))
    yield "a permit for other hosts", refusal(lambda: permit.refuse_other_host(given, "127.20.0.12"))

    def back_out(*things: tuple[str, dict[str, Any]]) -> str:
        entries = [entry(number, kind=kind, payload=payload) for number, (kind, payload) in enumerate(things, 1)]
        return refusal(lambda: ended_releases.refuse_back_out(plan, entries))

    frozen = ("rollout.frozen", {"digest": plan.digest})
    used = ("permit.used", {"permit": {"purpose": "deploy", "plan": plan.digest}})
    yield "a back-out by another plan", back_out(("rollout.frozen", {"digest": OTHER}))
    yield "a back-out of what was not deployed", back_out(frozen)
    yield "a back-out after the end", back_out(frozen, used, ("release.closed", {"outcome": "deployed"}))
    chain = [entry(number, kind=kind, payload=payload) for number, (kind, payload) in enumerate((frozen, used), 1)]
    for name, why in (
        (
            "unsigned",
            f"Entry 1 of the chain {CHAIN} (rollout.frozen) is not signed, as every entry of its kind must be.",
        ),
        ("overtaken", "release/release_bike_shop/two changed hosts of production at 2026-03-04 12:00:00 UTC."),
    ):
        title = f"a back-out of what is {name}"
        yield title, refusal(lambda: ended_releases.refuse_back_out(plan, chain, **{name: why}))  # noqa: B023

    def ended(kind: str, **payload: str) -> str:
        return refusal(
            lambda: ended_releases.refuse_ended("quality.run_suites", [entry(1, kind=kind, payload=payload)])
        )

    yield "a task after a release's end", ended("release.closed", outcome="backed_out")
    yield "a task after a train's arrival", ended("train.arrived")


# --- the ledger ------------------------------------------------------------------------------------------------------

CHAIN = "release/release_bike_shop/one"


def entry(sequence: int, **changes: Any) -> ledger.Entry:
    last = changes.pop("last", None)
    fields: dict[str, Any] = {
        "chain": CHAIN,
        "at": NOW + timedelta(seconds=sequence),
        "actor": "rita",
        "kind": "board.decided",
        "key": f"step {sequence}",
        "payload": {},
    }
    return ledger.next_entry(last, **{**fields, **changes})


def chain(length: int = 3) -> list[ledger.Entry]:
    entries: list[ledger.Entry] = []
    for sequence in range(1, length + 1):
        entries.append(entry(sequence, last=entries[-1] if entries else None))
    return entries


def head(of: ledger.Entry, **changes: Any) -> ledger.SignedHead:
    fields = {"chain": of.chain, "sequence": of.sequence, "hash": of.hash, "envelope": {}}
    return ledger.SignedHead(**{**fields, **changes})


def again(one: ledger.Entry, **changes: Any) -> ledger.Entry:
    """Return an entry that was changed, with a hash that is right again."""
    changed = one.model_copy(update=changes)
    return changed.model_copy(update={"hash": ledger.entry_hash(changed)})


def of_ledger() -> Said:
    first, second, third = chain()

    def broken(*entries: Any, heads: Iterable[ledger.SignedHead] = ()) -> str:
        found = integrity.first_break(CHAIN, entries, heads=heads)
        assert found is not None
        return f"{found.what}, at {found.sequence}: {found.sentence}"

    yield "the clock went back", refusal(lambda: entry(0, last=first))
    payloads: dict[str, Any] = {
        "a payload with what is no number": {"load": {"p95": [1, float("nan")]}},
        "a payload with a number that is too large": {"bytes": -(2**53)},
        "a payload with what JSON does not have": {"at": NOW},
        "a payload with a key that is no text": {"by": {1: "rita"}},
        "a payload with half a character": {"comment": "\ud83d"},
        "a payload that is too large": {"log": "x" * ledger.LARGEST_PAYLOAD},
    }
    for circumstance, payload in payloads.items():
        yield circumstance, refusal(partial(entry, 1, payload=payload))
    deep: Any = 1
    for _ in range(_plain_json.DEEPEST_PAYLOAD + 1):
        deep = [deep]
    yield "a payload that is nested too deep", refusal(lambda: entry(1, payload={"x": deep}))
    yield "an actor of two lines, and no key", refusal(lambda: entry(1, actor="rita\nben", key=""))
    row = first.model_dump(mode="json")
    yield "an entry that was changed is read", refusal(lambda: ledger.read_entry({**row, "actor": "ben"}))
    yield "what is no entry is read", refusal(lambda: ledger.read_entry({**row, "hash": None}))

    yield "what is no entry is in the chain", broken(first, {**row, "at": "now"}, third)
    yield "an entry was changed", broken(first, second.model_copy(update={"actor": "ben"}), third)
    yield "an entry is of another chain", broken(first, entry(2, last=first, chain="installation"))
    yield "an entry stands twice", broken(first, second, second, third)
    yield "an entry was removed", broken(first, third)
    yield "entries were swapped", broken(first, third, second)
    yield "an entry was replaced", broken(again(first, actor="ben"), second, third)
    yield "a key stands twice", broken(first, entry(2, last=first, key="step 1"))
    yield "time goes backwards", broken(first, again(second, at=NOW))
    yield "a head of another chain", broken(first, heads=[head(first, chain="installation")])
    yield "the end was cut off", broken(first, heads=[head(third)])
    yield "the last entry was replaced", broken(first, again(second, actor="ben"), heads=[head(second)])
    unsigned = integrity.unsigned_since(CHAIN, [first, second], [head(first)])
    assert unsigned is not None
    yield "a decision that nobody signed", f"{unsigned.what}, at {unsigned.sequence}: {unsigned.sentence}"


# --- waivers, standard changes, answers ------------------------------------------------------------------------------


def of_waivers() -> Said:
    rules = {"performance": {"roles": ["operations"], "longest": "P10D"}}
    in_force = resolve_policy(samples.policy(waivers=rules), samples.service(), ChangeType.NORMAL)
    people = [
        Person(user=user, name=user.capitalize(), email=f"{user}@example.com", role="operations")
        for user in ("ben", "olga")
    ]

    def answers(*votes: Vote) -> str:
        made = waivers.decide_waiver(in_force, people, FAILURE, votes, requester="rita")
        assert isinstance(made, str)
        return made

    longest = timedelta(days=120)
    yield "the answers", "\n".join([*waivers.offered(longest), waivers.REFUSE])
    yield "nobody answers", answers()
    yield "no reason is given", answers(vote("ben", "Waive for 1 day", " ", at=NOW))
    yield "a refusal", answers(vote("ben", waivers.REFUSE, at=NOW), vote("olga", "Waive for 1 day", "why not", at=NOW))
    yield "a refusal with its reason", answers(vote("olga", waivers.REFUSE, "Shoppers leave.", at=NOW))
    granted = waivers.decide_waiver(
        in_force, people, FAILURE, [vote("ben", "Waive for 10 days", " known \n", at=NOW)], requester="rita"
    )
    assert isinstance(granted, Waiver)
    yield "a waiver", "\n".join(f"{key}: {value}" for key, value in granted.model_dump(mode="json").items())


def of_standard() -> Said:
    questions = [{"key": key, "question": f"Does it touch {key}?", "points": 5} for key in ("data", "speed")]
    patch = {
        "name": "patch",
        "title": "A patch",
        "authorised_by": "the board",
        "steps": ["patch", "minor"],
        "risk_up_to": 30,
    }
    till = {**patch, "name": "till", "services": ["till", "shop"], "tiers": [1], "steps": ["minor"], "risk_up_to": 5}
    strict = {**patch, "name": "strict", "answered_no": ["data", "speed"], "until": "2026-03-03"}

    def like(*templates: dict[str, Any], bump: str = "patch", risk: int = 31) -> str:
        rules = samples.policy(standard_changes=list(templates), risk={"questions": questions})
        return refusal(
            lambda: standard.template_for(
                rules, samples.service(), bump=bump, risk=risk, answers={"data": True}, now=NOW
            )
        )

    yield "there is no template", like()
    yield "it is like none", like(patch, till, strict)
    yield "it goes too far", like(patch, bump="major", risk=30)


def of_witness() -> Said:
    run = AskedRun(dag_id="release_bike_shop", run_id="one", user="rita", conf=OTHER)
    asked = entry(1, actor="rita", kind=RUN_ASKED, key=run.key, payload=run.model_dump(mode="json"))

    def unasked(on_record: ledger.Entry | None = asked, **changes: Any) -> str:
        return refusal(lambda: refuse_unasked(run.model_copy(update=changes), on_record))

    yield "a run that nobody asked for", unasked(None)
    yield "a run that nobody asked for, by no name", unasked(None, user="")
    yield "a run that somebody else asked for", unasked(user="mallory")
    yield "a run that somebody asked for, by no name", unasked(user="")
    yield "a run with another form", unasked(conf="1" * 64)
    yield "an answer", str(GivenAnswer(user="ben", task_id="rollout.cast_ballot", map_index=2, choice="Approve"))


WORDINGS: dict[str, Callable[[], Said]] = {
    "board": of_the_board,
    "ledger": of_ledger,
    "permit": of_permit,
    "standard": of_standard,
    "voting": of_voting,
    "voting_faults": of_faults,
    "waivers": of_waivers,
    "witness": of_witness,
}


@pytest.mark.parametrize("name", WORDINGS)
def test_people_are_told_what_was_read_and_agreed(name: str) -> None:
    spoken = list(WORDINGS[name]())
    assert len(dict(spoken)) == len(spoken)
    found = "\n\n".join(f"[{circumstance}]\n{words}" for circumstance, words in spoken) + "\n"
    file = FOLDER / f"{name}.txt"
    if os.environ.get(WRITE):
        file.write_text(found, encoding="utf-8")
    agreed = file.read_text(encoding="utf-8")
    difference = difflib.unified_diff(
        agreed.splitlines(), found.splitlines(), f"wordings/{name}.txt", "what is said now", lineterm=""
    )
    if found != agreed:
        pytest.fail(f"Other words than agreed; if they are better, run this with {WRITE}=1:\n" + "\n".join(difference))


def test_every_file_of_words_is_compared() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(WORDINGS)
