"""Why a release does not move: what is named moves it, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.outcome.explain import PATIENCE, Act, explain
from interlock.domain.outcome.progress import progress_of
from interlock.domain.outcome.standing import (
    Ahead,
    Away,
    Closed,
    Holder,
    PoolSeen,
    ProcessSeen,
    QuestionSeen,
    Refusal,
    Standing,
    TaskSeen,
)
from tests.clock import NOW
from tests.examples import examples
from tests.factories.journeys import Journey

AFTER = NOW + timedelta(hours=3)
HOLDER = Holder(run="release_bike_shop/r0", version="1.0.0", requested_by="rita")
CLOSED = Closed(
    service="bike-shop",
    environment="production",
    title="Year end",
    place="freezes.yaml year-end",
    until=AFTER,
    override_by=("Release manager",),
)
OF_A_BRANCH = {
    "answer": ("asked", "ballot"),
    "wait": ("parked", "window"),
    "override": ("window",),
    "end_ahead": ("booked",),
    "retry": ("retry",),
    "work": ("queued",),
    "pool": ("pool",),
}
"""What people and time can do for a branch, and which kinds of branches that moves."""
STILL = tuple(dict.fromkeys(kind for kinds in OF_A_BRANCH.values() for kind in kinds))
KINDS = (*STILL, "running", "fresh", "done")
"""How a branch of a release can stand: each of its environments, or all of it."""
WOKEN = ("ballot", "parked")
"""What goes on only with a triggerer."""


@dataclass(frozen=True)
class World:
    """A release of several branches that go side by side, and what people and time can do to it.

    It says of itself what moves (`moves`), without the explanation.
    """

    branches: tuple[str, ...]
    over: frozenset[int] = frozenset()
    """The branches for which what they wait for is there."""
    paused: bool = False
    scheduler: bool = True
    triggerer: bool = True
    ahead: bool = False
    begun: bool = True
    noticed: bool = True
    """Airflow has begun what comes next, as far as it can."""

    @property
    def moves(self) -> bool:
        """Whether Airflow has, or begins, something of it."""
        if self.paused or not self.scheduler:
            return False
        if self.ahead or not self.begun:
            return not self.ahead and self.noticed
        if set(self.branches) <= {"done"}:
            return self.noticed
        return any(self._goes_on(number, kind) for number, kind in enumerate(self.branches))

    def _goes_on(self, number: int, kind: str) -> bool:
        return kind in ("running", "fresh") or (number in self.over and (kind not in WOKEN or self.triggerer))

    @property
    def standing(self) -> Standing:
        """What Airflow and the ledger say of it, before anything was done."""
        silent = [ProcessSeen(name="scheduler", heard=NOW)] if not self.scheduler else []
        silent += [ProcessSeen(name="triggerer")] if not self.triggerer else []
        about: dict[str, Any] = {"now": NOW, "paused": self.paused, "silent": silent}
        if not self.begun or self.ahead:
            ahead = Ahead(run_id="r0", version="1.0.0", requested_by="rita") if self.ahead else None
            return Standing(**about, state="queued", ahead=ahead)
        found = [self._branch(number, kind) for number, kind in enumerate(self.branches)]
        return Standing(
            **about,
            state="running",
            tasks=[task for tasks, _ in found for task in tasks],
            questions=[one for _, asked in found for one in asked],
            full=(PoolSeen(name="small", slots=2),),
            holders=(HOLDER,),
            closed=(CLOSED,),
        )

    def _branch(self, number: int, kind: str) -> tuple[list[TaskSeen], list[QuestionSeen]]:
        place = f"quality.e{number}"
        about = {"task_id": f"{place}.do", "title": f"Task {number}"}
        states = {"running": "running", "parked": "deferred", "retry": "up_for_retry", "done": "success"}
        if kind in ("asked", "ballot"):
            asked = {"task_id": f"{place}.sign_off", "title": f"Sign e{number} off"}
            questions = [QuestionSeen(**asked, people=one, until=AFTER) for one in (("ben",), ("cora", "dan"))]
            counts = TaskSeen(task_id=f"{place}.await_sign_off", title="Wait", state="deferred")
            return [counts] if kind == "ballot" else [], questions
        if kind in ("queued", "fresh", "pool"):
            since = NOW - PATIENCE if kind == "queued" else NOW
            return [TaskSeen(**about, state="queued", since=since, pool="small" if kind == "pool" else "large")], []
        if kind in ("booked", "window"):
            shut = f"{CLOSED.service} in {CLOSED.environment} may not be changed: closed by {CLOSED.title}."
            waits = shut if kind == "window" else f"production of bike-shop is booked by {HOLDER.run} (1.0.0)."
            return [TaskSeen(**about, state="up_for_reschedule", waits=waits)], []
        return [TaskSeen(**about, state=states[kind], waits="the bank" if kind == "parked" else "")], []

    def do(self, act: Act) -> World:
        """Do what an act names; to do what the release does not wait for changes nothing of it."""
        if act.kind == "unpause":
            return replace(self, paused=False, noticed=True) if self.paused else self  # it was that why nothing began
        if act.kind == "schedule":
            return replace(self, scheduler=True, noticed=True)
        if act.kind == "trigger":
            return replace(self, triggerer=True)
        if not act.task:
            first = act.kind == "end_ahead" and self.ahead
            return replace(self, ahead=False, begun=False, noticed=True) if first else self
        number = int(act.task.split(".")[1][1:])
        if number >= len(self.branches) or self.branches[number] not in OF_A_BRANCH[act.kind]:
            return self
        return replace(self, over=self.over | {number})


EVERY_ACT = tuple(
    [Act(kind=kind, what="", by=()) for kind in ("unpause", "end_ahead", "schedule", "trigger")]
    + [Act(kind=kind, what="", by=(), task=f"quality.e{number}.x") for kind in OF_A_BRANCH for number in range(3)]
)
often = st.sampled_from((True, True, True, False))
worlds = st.builds(
    World,
    branches=st.lists(st.sampled_from((*STILL, *KINDS)), min_size=1, max_size=3).map(tuple),
    paused=often.map(lambda yes: not yes),
    scheduler=often,
    triggerer=often,
    ahead=often.map(lambda yes: not yes),
    begun=often,
    noticed=st.just(False),
)


def key(act: Act) -> tuple[str, str]:
    return act.kind, act.task.rpartition(".")[0]


@given(worlds)
@examples(1000)
def test_it_says_of_every_world_whether_it_moves(world: World) -> None:
    assert (explain(world.standing, {}).state == "moves") == world.moves


@given(worlds)
@examples(1000)
def test_doing_what_is_named_moves_the_release(world: World) -> None:
    found = explain(world.standing, {})
    after = world
    for act in found.acts:
        after = after.do(act)
    assert after.moves, found.why


@given(worlds)
@examples(1000)
def test_nothing_that_it_does_not_name_moves_the_release(world: World) -> None:
    if world.moves:
        return
    named = {key(act) for act in explain(world.standing, {}).acts}
    others = [act for act in EVERY_ACT if key(act) not in named]
    after = world
    for act in others:
        after = after.do(act)
        assert not after.moves, act


@given(worlds)
@examples(1000)
def test_whatever_stands_still_is_explained_in_a_sentence_with_somebody_who_can_act(world: World) -> None:
    found = explain(world.standing, {})
    assert found.why.endswith(".")
    for act in found.acts:
        assert act.by or act.kind == "wait"
    if not world.moves:
        assert found.acts


def said(**changes: Any) -> str:
    return explain(Standing(**{"now": NOW, "state": "running", **changes}), {"ben": "Ben Adler"}).why


def asked(*people: str, answered: bool = False, until: Any = AFTER) -> QuestionSeen:
    return QuestionSeen(task_id="rollout.cast_ballot", title="Vote", people=people, until=until, answered=answered)


def test_people_are_named_with_how_many_have_answered_and_until_when() -> None:
    found = explain(
        Standing(now=NOW, state="running", questions=(asked("ben"), asked("cora", "dan"), asked("eve", answered=True))),
        {"ben": "Ben Adler"},
    )
    assert found.why == f"Waiting for Ben Adler, cora or dan (1 of 3 answered), until {AFTER:%Y-%m-%d %H:%M} UTC: Vote."
    (act,) = found.acts
    assert (act.kind, act.by, act.until) == ("answer", ("ben", "cora", "dan"), AFTER)
    assert found.state == "waits"


def test_a_release_that_used_its_error_budget_up_says_so_while_it_asks_what_to_do() -> None:
    failed = "2 hosts failed (a, b): the error budget of 1 is used up, so no further host is changed."
    about_wave = QuestionSeen(task_id="implementation.ask_wave_2", title="2 hosts failed", people=("rita",))
    asks = said(questions=(about_wave,), failed_hosts=failed)
    assert asks == f"Waiting for rita: 2 hosts failed. {failed}"
    assert failed not in said(questions=(asked("ben"),), failed_hosts=failed), "that question is not about them"


def test_what_counts_the_answers_is_no_further_wait() -> None:
    board = TaskSeen(task_id="rollout.await_board", title="Wait for the board", state="deferred")
    assert said(questions=(asked("ben"),), tasks=(board,)).count("Wait") == 1
    assert "Wait for the board" in said(tasks=(board,)), "nobody is asked, and it waits"


def test_a_soak_and_a_start_say_when_they_are_over() -> None:
    journey = Journey().planned().deployed("staging").judged("staging")
    progress = progress_of(journey.entries, {})
    soak = next(one.soak for one in progress.environments if one.environment == "staging")
    assert soak is not None
    waits = TaskSeen(task_id="quality.staging.await_soak", title="Wait", state="deferred")
    found = explain(Standing(now=NOW, state="running", tasks=(waits,), progress=progress), {})
    assert found.why.startswith("It waits for this: the end of the soak in staging, until ")
    assert found.earliest == soak.until
    starts = TaskSeen(task_id="implementation.await_start", title="Wait", state="deferred")
    assert explain(Standing(now=NOW, state="running", tasks=(starts,), not_before=AFTER), {}).earliest == AFTER


def test_the_wait_for_an_approval_in_another_system_says_which_and_who_can_decide() -> None:
    why = "the approval of CHG0030001 in snow, until 2026-03-05 09:00 UTC. CHG0030001 in snow is not approved."
    waits = TaskSeen(task_id="rollout.await_authorities", title="Wait", state="deferred", waits=why)
    found = explain(Standing(now=NOW, state="running", tasks=(waits,)), {})
    assert (found.state, found.why) == ("waits", f"It waits for {why}")
    (act,) = found.acts
    assert (act.kind, act.what) == ("wait", "have the change approved in the other system")
    assert act.by[0].startswith("the people who approve changes in that system; the owner of policy.yaml")


def test_the_queue_the_pause_and_the_end_are_said() -> None:
    ahead = Ahead(run_id="r0", version="1.0.0", requested_by="ben")
    assert said(state="queued", ahead=ahead) == "It is in the queue behind 1.0.0, requested by Ben Adler."
    assert said(state="queued") == "Airflow has not begun it yet."
    assert said(paused=True, questions=(asked("ben", until=None),)) == (
        "The Dag is paused, so Airflow begins nothing of it. Waiting for Ben Adler: Vote."
    )
    assert said(state="failed") == "It has ended."
    assert said(called_off="Rita withdrew it.") == "Rita withdrew it. It ends by itself."
    assert said(tasks=(TaskSeen(task_id="a.b", title="B", state="success"),)).startswith("Nothing of it runs or waits")


def test_what_would_refuse_a_wave_now_is_said_early() -> None:
    stop = Refusal(what="Emergency stop in force: all.", rule="a stop halts", who="a person", next_step="lift it")
    found = explain(Standing(now=NOW, state="running", refusals=(stop,), incidents=("INC-7",)), {})
    assert (found.refusals, found.incidents) == ((stop,), ("INC-7",))


def test_who_is_away_is_said_with_who_answers_instead() -> None:
    away = (Away(user="ben", until="2026-12-03", delegate="cora"),)
    assert said(questions=(asked("ben", "cora"),), away=away).endswith(
        "Vote. Ben Adler is away until 2026-12-03; cora answers instead."
    )
    assert said(questions=(asked("ben"),), away=away).endswith("2026-12-03; cora, the delegate, was not asked.")
    assert "away" not in said(questions=(asked("dan"),), away=away)


def test_who_left_the_board_is_not_asked_to_act() -> None:
    found = explain(Standing(now=NOW, state="running", questions=(asked("ben", "cora"),), gone=("ben",)), {})
    assert found.why.endswith("ben is not in board.yaml any more, so an answer of ben does not count.")
    assert found.acts[0].by == ("cora",)
    (act,) = explain(Standing(now=NOW, state="running", questions=(asked("ben"),), gone=("ben",)), {}).acts
    assert act.kind == "replace"


def test_what_failed_is_said_with_its_reason_and_when_it_is_tried_again() -> None:
    again = TaskSeen(
        task_id="build.x", title="Build", state="up_for_retry", tries=1, max_tries=3, again_at=AFTER, reason="No disk."
    )
    found = explain(Standing(now=NOW, state="running", tasks=(again,)), {})
    assert found.why == f"Build failed in try 1 of 3 (No disk), and is tried again at {AFTER:%Y-%m-%d %H:%M} UTC."
    assert found.earliest == AFTER
    failed = TaskSeen(task_id="implementation.wave_1", title="Wave 1", state="failed", reason="2 hosts failed. " * 40)
    closes = TaskSeen(task_id="closure.close_release", title="Close", state="running")
    why = said(tasks=(failed, closes))
    assert why.startswith("It moves: Close is running. Wave 1 failed (2 hosts failed.")
    assert len(why) < 400


def test_many_people_are_not_all_listed() -> None:
    questions = tuple(asked(f"tester{number}") for number in range(9))
    assert "tester4 and 4 more (0 of 9 answered)" in said(questions=questions)
