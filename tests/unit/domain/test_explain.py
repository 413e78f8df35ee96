"""Why a release does not move: what is named moves it, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.outcome.explain import PATIENCE, Act, Ahead, QuestionSeen, Standing, TaskSeen, explain
from interlock.domain.outcome.progress import progress_of
from tests.clock import NOW
from tests.examples import examples
from tests.factories.journeys import Journey

AFTER = NOW + timedelta(hours=3)
KINDS = ("running", "asked", "parked", "retry", "queued", "fresh", "done")
"""How a branch of a release can stand: each of its environments, or all of it."""


@dataclass(frozen=True)
class World:
    """A release of several branches that go side by side, and what people and time can do to it."""

    branches: tuple[str, ...]
    answered: tuple[int, ...] = ()
    paused: bool = False
    ahead: bool = False
    begun: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def standing(self) -> Standing:
        about = {"now": NOW, "paused": self.paused, **self.extra}
        if not self.begun or self.ahead:
            ahead = Ahead(run_id="r0", version="1.0.0", requested_by="rita") if self.ahead else None
            return Standing(**about, state="queued", ahead=ahead)
        found = [self._branch(number, kind) for number, kind in enumerate(self.branches)]
        tasks = [task for task, _ in found if task is not None]
        return Standing(**about, state="running", tasks=tasks, questions=[one for _, asked in found for one in asked])

    def _branch(self, number: int, kind: str) -> tuple[TaskSeen | None, list[QuestionSeen]]:
        about = {"task_id": f"quality.e{number}.do", "title": f"Task {number}"}
        states = {"running": "running", "parked": "deferred", "retry": "up_for_retry", "done": "success"}
        if kind == "asked":
            asked = {"task_id": f"quality.e{number}.sign_off", "title": f"Sign e{number} off"}
            people = [("ben",), ("cora", "dan")]
            questions = [QuestionSeen(**asked, people=one, until=AFTER) for one in people]
            return TaskSeen(**about, state="success"), questions
        if kind in ("queued", "fresh"):
            since = NOW - PATIENCE if kind == "queued" else NOW
            return TaskSeen(**about, state="queued", since=since), []
        return TaskSeen(**about, state=states[kind], waits="the window" if kind == "parked" else ""), []

    def do(self, act: Act) -> World:
        """Do what is named; to do what the release does not wait for changes nothing."""
        if act.kind == "unpause":
            after = replace(self, paused=False)
            return after.do(Act(kind="schedule", what="", by=())) if self.paused else self  # a scheduler is there
        if act.kind == "end_ahead":
            return replace(self, ahead=False, begun=True, branches=("running",)) if self.ahead else self
        if act.kind == "schedule":
            if not self.begun and not self.ahead:
                return replace(self, begun=True, branches=("running",))
            idle = self.begun and not self.ahead and set(self.branches) <= {"done"}
            return replace(self, branches=("running",)) if idle else self
        number = int(act.task.split(".")[1][1:])
        waits = {"answer": "asked", "wait": "parked", "retry": "retry", "work": "queued"}[act.kind]
        if number >= len(self.branches) or self.branches[number] != waits or not self.begun or self.ahead:
            return self
        return replace(self, branches=(*self.branches[:number], "running", *self.branches[number + 1 :]))


EVERY_ACT = tuple(
    [Act(kind=kind, what="", by=()) for kind in ("unpause", "end_ahead", "schedule")]
    + [
        Act(kind=kind, what="", by=(), task=f"quality.e{number}.x")
        for kind in ("answer", "wait", "retry", "work")
        for number in range(3)
    ]
)
worlds = st.builds(
    World,
    branches=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3).map(tuple),
    paused=st.booleans(),
    ahead=st.booleans(),
    begun=st.booleans(),
)


def key(act: Act) -> tuple[str, str]:
    return act.kind, act.task.rpartition(".")[0]


@given(worlds)
@examples(1000)
def test_doing_what_is_named_moves_the_release(world: World) -> None:
    found = explain(world.standing, {})
    after = world
    for act in found.acts:
        after = after.do(act)
    if found.state != "moves":
        moved = explain(after.standing, {})
        assert moved.state == "moves", f"{found.why} → {moved.why}"


@given(worlds)
@examples(1000)
def test_no_act_that_is_not_named_moves_the_release(world: World) -> None:
    found = explain(world.standing, {})
    named = {key(act) for act in found.acts}
    for act in EVERY_ACT:
        if key(act) not in named:
            assert explain(world.do(act).standing, {}) == found, act


@given(worlds)
@examples(1000)
def test_whatever_stands_still_is_explained_in_a_sentence_with_somebody_who_can_act(world: World) -> None:
    found = explain(world.standing, {})
    assert found.why.endswith(".")
    for act in found.acts:
        assert act.by or act.kind == "wait"
    if found.state == "stuck":
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
    found = explain(Standing(now=NOW, state="running", refusals=("Emergency stop in force: all.",)), {})
    assert found.refusals == ("Emergency stop in force: all.",)


def test_many_people_are_not_all_listed() -> None:
    questions = tuple(asked(f"tester{number}") for number in range(9))
    assert "tester4 and 4 more (0 of 9 answered)" in said(questions=questions)
