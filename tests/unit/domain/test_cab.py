"""The agenda of a board, remarks on it, and minutes: from the chain and the ballots alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from interlock.adapters.templates import render
from interlock.domain.board.decision import APPROVE, REJECT
from interlock.domain.cab.agenda import (
    AgendaItem,
    BallotSeen,
    board_of,
    differences,
    in_order,
    on_agenda,
    release_item,
    train_item,
)
from interlock.domain.cab.minutes import AskedMinutes, minutes_in, minutes_of
from interlock.domain.cab.remarks import Said, told
from interlock.domain.catalogue import BoardBook
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.kinds import (
    BOARD_DECIDED,
    BOARD_DISCUSSED,
    BOARD_MET,
    CONFLICTS_FOUND,
    PLAN_MADE,
    POLICY_RESOLVED,
    QUALITY_JUDGED,
    ROLLOUT_FROZEN,
)
from interlock.domain.measures.facts import MeasuredRelease
from interlock.domain.records import Vote
from tests.factories import releases
from tests.factories.releases import AT
from tests.memory_ledger import MemoryLedger

CONFLICT = {"kind": "two_trains", "severity": "warning", "what": "The train weekly departs at the same time."}
RUN = ("release_bike_shop", "1.1.0")
HOUR = timedelta(hours=1)


def entries(*more: tuple[str, dict[str, Any]]) -> tuple[Entry, ...]:
    ledger = MemoryLedger()
    told_of = [
        (POLICY_RESOLVED, releases.policy().to_xcom()),
        (PLAN_MADE, releases.plan().to_xcom()),
        (QUALITY_JUDGED, releases.quality(releases.failure()).to_xcom()),
        (CONFLICTS_FOUND, {"conflicts": [CONFLICT]}),
        (ROLLOUT_FROZEN, releases.rollout().to_xcom()),
        *more,
    ]
    for number, (kind, payload) in enumerate(told_of):
        ledger.append(release_chain(*RUN), kind, payload, actor="task", key=str(number), at=AT + number * HOUR)
    return ledger.entries(release_chain(*RUN))


def ballot(index: int, user: str, choice: str = "", by: str = "") -> BallotSeen:
    vote = Vote(user=by or user, assigned=by or user, choice=choice, comment="fine", at=AT) if choice else None
    return BallotSeen(
        task_id="rollout.cast_ballot", map_index=index, people=tuple({user, by} - {""}), open=not choice, vote=vote
    )


def item(*ballots: BallotSeen, more: Sequence[tuple[str, dict[str, Any]]] = (), **about: Any) -> AgendaItem:
    return release_item(RUN, entries(*more), ballots, rule=releases.board(), **about)


def test_an_item_has_the_change_in_a_screenful() -> None:
    found = item(ballot(0, "ben", APPROVE), ballot(1, "cora"), ballot(2, "dan"))
    assert (found.title, found.environment, found.risk) == ("bike-shop 1.1.0", "production", 12)
    assert found.change.summary == "Sells bikes"
    assert found.change.commits[0] == "Sell bikes (Wim Wheel)"
    assert found.change.previous_version == "1.0.0"
    assert found.conflicts == ("warning: The train weekly departs at the same time.",)
    assert [(one.environment, one.passed, one.of) for one in found.reviews] == [("test", 4, 5)]
    assert found.back_out is not None
    assert (found.back_out.proven, found.back_out.to) == (True, ("1.0.0",))
    assert found.boards == ("cab",)


def test_it_says_who_voted_and_what_the_quorum_lacks() -> None:
    found = item(ballot(0, "ben", APPROVE), ballot(1, "cora"), ballot(2, "dan"))
    assert [(one.user, one.choice) for one in found.seats] == [("ben", APPROVE), ("cora", ""), ("dan", "")]
    assert [one.lacks for one in found.demands] == [("1 of 2 approvals",)]
    assert found.open
    met = item(ballot(0, "ben", APPROVE), ballot(2, "dan", APPROVE))
    assert [one.lacks for one in met.demands] == [()]


def test_the_vote_of_the_requester_or_of_a_stranger_does_not_count_there_either() -> None:
    found = item(ballot(0, "rita", APPROVE), ballot(1, "sam", APPROVE), ballot(2, "ben", REJECT))
    assert [(one.user, one.choice) for one in found.seats] == [("ben", REJECT), ("cora", ""), ("dan", "")]


def test_a_decision_closes_an_item_and_is_shown_with_its_reason() -> None:
    found = item(ballot(0, "ben", APPROVE), more=[(BOARD_DECIDED, releases.decision().to_xcom())])
    assert found.decision is not None
    assert (found.decision.approved, found.decision.reason) == (True, "2 of 3 members approve: ben, dan.")
    assert not found.open


def test_what_the_ledger_does_not_know_is_on_the_agenda_all_the_same() -> None:
    for kind in (release_item, train_item):
        found = kind(RUN, (), [ballot(0, "ben")], rule=None)
        assert (found.title, found.digest, found.open) == ("release_bike_shop", "", True)


def measured(version: str, days: int, **more: Any) -> MeasuredRelease:
    usual: dict[str, Any] = {"service": "bike-shop", "change_type": "normal", "outcome": "deployed", "rollback": False}
    at = {"ended_at": AT + timedelta(days=days), "last_wave_at": AT + timedelta(days=days)}
    return MeasuredRelease(**{"run": f"release_bike_shop/{version}", "version": version, **at, **usual, **more})


def test_the_last_five_releases_are_the_newest_first() -> None:
    past = [measured(f"1.0.{number}", number) for number in range(7)]
    past.append(measured("1.0.9", 0, ended_at=None))
    found = item(past=past).past
    assert [one.version for one in found] == ["1.0.6", "1.0.5", "1.0.4", "1.0.3", "1.0.2"]
    assert (found[0].dag_id, found[0].run_id) == ("release_bike_shop", "1.0.6")


def test_differences_to_the_release_that_runs_are_named() -> None:
    runs = releases.rollout(
        version="1.0.0", waves=((releases.host(1), releases.host(4)),), risk=50, policy_digest="c" * 64
    )
    assert list(differences(releases.rollout(), runs)) == [
        "Hosts that 1.0.0 was not deployed to: bike-shop-production-2, bike-shop-production-3.",
        "Hosts that are left out: bike-shop-production-4.",
        "Waves: 2, instead of 1.",
        "Its risk is 12; that of 1.0.0 was 50.",
        "The rules of the catalogue for it changed since 1.0.0.",
    ]
    assert list(differences(releases.rollout(), releases.rollout())) == []


def test_what_ends_first_is_first_and_then_the_riskiest() -> None:
    known = item(ballot(0, "ben"))
    late = known.model_copy(update={"decide_by": AT + 100 * HOUR, "title": "late"})
    risky = known.model_copy(update={"risk": 90, "title": "risky"})
    never = known.model_copy(update={"decide_by": None, "title": "never"})
    found = in_order([never, late, known, risky])
    assert [one.title for one in found] == ["risky", "bike-shop 1.1.0", "late", "never"]


def test_an_item_is_on_the_agenda_of_the_boards_that_vote_on_it() -> None:
    boards = {
        name: {"title": name, "members": members, "quorum": {"approvals": 1}}
        for name, members in (("cab", ["ben"]), ("ecab", ["cora"]))
    }
    people = [{"user": one, "name": one, "email": f"{one}@x.example", "role": "it"} for one in ("ben", "cora")]
    book = BoardBook.model_validate({"people": people, "boards": boards, "senior_management": []})
    known = item(ballot(0, "ben"))
    assert on_agenda(known, "cab", book)
    assert not on_agenda(known, "ecab", book), "it is another board's, although they share members"
    assert on_agenda(known, "", book)
    of_a_rule = known.model_copy(update={"boards": ()})
    assert on_agenda(of_a_rule, "ecab", book), "a rule asks members of it"
    unknown = release_item(RUN, (), [ballot(0, "ben")], rule=None)
    assert on_agenda(unknown, "ecab", book), "nobody misses what is not known"
    assert (board_of("board.yaml boards.cab"), board_of("board.yaml rules.risky")) == ("cab", "")


def test_the_requester_is_told_of_a_question_and_who_asked_of_the_answer() -> None:
    assert told("ben", ["rita"], ["ben", "cora"], []) == ("rita",)
    asked = [Said(user="ben", text="Why?", at=AT), Said(user="ben", text="When?", at=AT)]
    assert told("rita", ["rita"], ["ben", "cora"], asked) == ("ben",)
    assert told("rita", ["rita"], ["ben", "cora"], []) == ("ben", "cora")


ATTACK = "<img src=x onerror=alert(1)> | [a](http://evil.example) \u202e # No"


def test_minutes_are_written_from_the_record() -> None:
    remark = {"user": "ben", "text": ATTACK, "digest": "a" * 64}
    found = item(ballot(0, "ben", REJECT), ballot(1, "cora"), more=[(BOARD_DISCUSSED, remark)])
    asked = AskedMinutes.model_validate(
        {
            "began_at": AT,
            "present": ["ben", "rita", "ben"],
            "items": [{"dag_id": RUN[0], "run_id": RUN[1], "seconds": 125, "note": ATTACK}],
            "note": "The guests left early.",
        }
    )
    made = minutes_of(("cab", "CAB"), ("ben", "cora"), asked, {RUN: found}, by="ben", now=AT + HOUR)
    assert (made.present, made.absent) == (("ben", "rita"), ("cora",))
    (discussed,) = made.items
    assert [(one.user, one.choice) for one in discussed.votes] == [("ben", REJECT)]
    assert discussed.open == ("cora", "dan")
    ledger = MemoryLedger()
    ledger.append(INSTALLATION, BOARD_MET, made.model_dump(mode="json"), actor="ben", key=made.key)
    assert minutes_in(ledger.entries(INSTALLATION)) == [made]
    text = render("minutes.md.j2", minutes=made, names=releases.NAMES)
    assert "Ben Adler (ben), Rita Reyes (rita)" in text
    assert "**Not decided.** Change Advisory Board lacks approvals: 0 of 2 approvals." in text
    assert "Discussed for 2 min" in text
    assert "<img" not in text.replace("<\u2060img", "")
    assert "](http" not in text
    assert "\u202e" not in text


def test_the_same_meeting_has_one_set_of_minutes() -> None:
    asked = AskedMinutes(began_at=AT, present=(), items=({"dag_id": RUN[0], "run_id": RUN[1]},))
    about = {"board": ("cab", "CAB"), "members": (), "asked": asked, "items": {RUN: item()}}
    first, again = (minutes_of(**about, by="ben", now=AT + number * HOUR) for number in (1, 2))  # type: ignore[arg-type]
    assert first.key == again.key
    assert minutes_of(**about, by="cora", now=AT).key != first.key  # type: ignore[arg-type]
