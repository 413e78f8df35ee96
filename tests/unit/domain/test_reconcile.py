"""What contradicts the ledger: each check finds what it is for, and nothing in a release that went by the book."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.hosts.released_files import Difference, Expected, Seen
from interlock.domain.ledger import airflow_record, host_record
from interlock.domain.ledger import findings as ledger_findings
from interlock.domain.ledger import runs as ledger_runs
from interlock.domain.ledger.airflow_record import HandedOn, RunSeen, Task
from interlock.domain.ledger.chain import INSTALLATION, Entry, next_entry
from interlock.domain.ledger.findings import Finding
from interlock.domain.records import Record
from tests.factories import releases

DAG, RUN = "release_bike_shop", "manual__1"
CHAIN = f"release/{DAG}/{RUN}"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ASKING = {"rollout.cast_ballot"}.__contains__
HOST = releases.host(1).address
OLD, NEW = "1.0.0-0123456789ab", f"1.1.0-{'a' * 12}"


def chain(*kinds: tuple[str, Record | dict[str, Any]], start: datetime = NOW - timedelta(hours=1)) -> list[Entry]:
    entries: list[Entry] = []
    for number, (kind, what) in enumerate(kinds):
        payload = what.to_xcom() if isinstance(what, Record) else what
        entries.append(
            next_entry(
                entries[-1] if entries else None,
                chain=CHAIN,
                at=start + timedelta(seconds=number),
                actor="a task",
                kind=kind,
                key=f"{kind}/{number}",
                payload=payload,
            )
        )
    return entries


def by_the_book() -> list[Entry]:
    return chain(
        ("policy.resolved", releases.policy()),
        ("plan.made", releases.plan()),
        ("rollout.frozen", frozen()),
        ("board.decided", {**releases.decision().to_xcom(), "board": None}),
        ("wave.deployed", {**releases.wave(1, releases.host_result(1)).to_xcom(), "digest": "a" * 64}),
    )


def frozen(**changes: Any) -> dict[str, Any]:
    plan = releases.rollout(**changes)
    return {**plan.to_xcom(), "digest": plan.digest}


def seen(**changes: Any) -> RunSeen:
    vote = releases.decision().votes[0]
    fields: dict[str, Any] = {
        "dag_id": DAG,
        "run_id": RUN,
        "at": NOW,
        "tasks": (
            Task(task_id="policy.resolve_policy", state="success"),
            Task(task_id="rollout.cast_ballot", map_index=0, state="success"),
            Task(task_id="rollout.await_board", state="success", tries=("failed", "success")),
            Task(task_id="implementation.wave_1", state="success"),
            Task(task_id="implementation.wave_2", state="running"),
            Task(task_id="verification.publish_deployment", state="success"),
        ),
        "answered": {("rollout.cast_ballot", 0)},
        "votes": (vote,),
        "handed_on": (
            HandedOn(task_id="policy.resolve_policy", map_index=-1, value=releases.policy().to_xcom()),
            HandedOn(task_id="rollout.prepare_ballots", map_index=-1, value=[{"subject": "Vote"}]),
            HandedOn(task_id="quality.pass_gate", map_index=-1, value=[]),
            HandedOn(
                task_id="implementation.wave_1",
                map_index=-1,
                value=releases.wave(1, releases.host_result(1)).to_xcom(),
            ),
        ),
    }
    return RunSeen(**{**fields, **changes})


def found(run: RunSeen, entries: list[Entry] | None = None) -> list[str]:
    return [one.kind for one in airflow_record.check_run(run, by_the_book() if entries is None else entries, ASKING)]


def test_a_release_by_the_book_has_no_finding() -> None:
    assert found(seen()) == []
    assert [*airflow_record.check_decisions(by_the_book())] == []
    assert [*airflow_record.check_catalogue(by_the_book(), lambda _: ())] == []


def test_a_ballot_that_is_success_without_an_answer_was_marked() -> None:
    unanswered = seen(answered=frozenset(), votes=())
    assert found(unanswered, chain(("policy.resolved", releases.policy())))[:1] == ["question_marked"]
    assert "question_marked" in found(unanswered)


def test_a_ballot_that_nobody_answered_in_time_was_not_marked() -> None:
    entries = [one for one in by_the_book() if one.kind != "board.decided"]
    tasks = tuple(task for task in seen().tasks if task.task_id != "rollout.await_board")
    nobody = releases.decision().votes[0].model_copy(update={"user": None, "choice": ""})
    assert found(seen(votes=(nobody,), tasks=tasks), entries) == []


@pytest.mark.parametrize(
    ("task", "without"),
    [
        ("rollout.await_board", "board.decided"),
        ("policy.resolve_policy", "policy.resolved"),
        ("implementation.wave_1", "wave.deployed"),
    ],
)
def test_a_task_that_is_success_and_left_nothing_was_marked(task: str, without: str) -> None:
    entries = [one for one in by_the_book() if one.kind != without]
    marked = [one for one in airflow_record.check_run(seen(handed_on=()), entries, ASKING) if one.kind == "task_marked"]
    assert [one.evidence for one in marked] == [{"task": task}]


def test_a_board_that_rejected_did_not_let_its_task_succeed() -> None:
    rejected = releases.decision(approved=False, votes=())
    entries = [*(one for one in by_the_book() if one.kind != "board.decided"), *chain(("board.decided", rejected))]
    assert found(seen(), entries) == ["task_marked"]


def test_the_second_wave_is_not_vouched_for_by_the_first() -> None:
    assert found(seen(tasks=(Task(task_id="implementation.wave_2", state="success"),))) == ["task_marked"]


def test_a_task_that_ran_again_after_it_had_succeeded_was_cleared() -> None:
    tries = ("success", "success")
    assert found(seen(tasks=(Task(task_id="policy.resolve_policy", state="success", tries=tries),))) == ["task_cleared"]


@pytest.mark.parametrize(
    "value",
    [
        {**releases.policy().to_xcom(), "digest": "e" * 64},
        {"anything": 1},
        "text",
        [releases.policy().to_xcom(), {**releases.policy().to_xcom(), "digest": "e" * 64}],
    ],
)
def test_a_result_that_the_ledger_does_not_have_was_edited(value: Any) -> None:
    edited = HandedOn(task_id="policy.resolve_policy", map_index=-1, value=value)
    assert found(seen(handed_on=(edited,))) == ["xcom_edited"]


def test_a_waiver_that_nobody_gave_is_found_where_there_was_none() -> None:
    forged = HandedOn(task_id="quality.pass_gate", map_index=-1, value=[{"schema_version": 1, "by": "mallory"}])
    assert found(seen(handed_on=(forged,))) == ["xcom_edited"]


def test_an_answer_that_decided_and_is_gone_was_cleared() -> None:
    other = seen().votes[0].model_copy(update={"choice": "Reject"})
    assert found(seen(votes=(other,))) == ["answer_gone"]


def test_a_decision_that_was_made_while_airflow_was_read_is_not_held_against_it() -> None:
    early = seen(answered=frozenset(), votes=(), at=NOW - timedelta(hours=2), tasks=())
    assert found(early) == []


def test_a_run_that_airflow_does_not_have_was_deleted() -> None:
    assert found(seen(state=None)) == ["run_gone"]


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        ("running", ["deploy"], []),
        ("failed", ["inspect"], []),
        ("failed", ["deploy"], ["left_open"]),
        ("success", ["deploy"], ["left_open"]),
        ("failed", ["deploy", "closed"], []),
    ],
)
def test_a_run_that_ended_without_being_closed_left_things_as_they_were(
    state: str, more: list[str], expected: list[str]
) -> None:
    entries = [("release.closed", releases.outcome()) if one == "closed" else used(one, 1) for one in more]
    assert found(seen(state=state, tasks=(), votes=(), handed_on=()), chain(*entries)) == expected


@pytest.mark.parametrize(
    ("traffic", "said"), [((), False), (("shared",), True), (("shared", "restored"), False), (("switched",), True)]
)
def test_traffic_that_nobody_put_back_is_told(traffic: tuple[str, ...], said: bool) -> None:
    entries = chain(used("deploy", 1), *((f"traffic.{one}", {"weights": {}}) for one in traffic))
    (finding,) = airflow_record.check_run(seen(state="failed", tasks=(), votes=(), handed_on=()), entries, ASKING)
    assert ("The load balancer still has the traffic shares" in finding.what) is said


def test_a_run_whose_chain_is_gone_is_one_finding() -> None:
    assert found(seen(handed_on=()), []) == ["chain_gone"]
    assert found(seen(tasks=(), handed_on=()), []) == []


def test_a_board_that_decided_anew_and_otherwise_is_found_in_the_chain() -> None:
    rejected = releases.decision(approved=False)
    again = chain(("board.decided", rejected), ("board.decided", releases.decision()))
    assert [one.kind for one in airflow_record.check_decisions(again)] == ["decided_again"]
    assert [*airflow_record.check_decisions(chain(("board.decided", rejected), ("board.decided", rejected)))] == []


def test_a_catalogue_that_changed_is_found_while_the_release_is_under_way() -> None:
    said = "board.yaml: boards.cab.quorum.approvals was 2 and is 3"
    (found,) = airflow_record.check_catalogue(by_the_book(), lambda _: [said])
    assert found.kind == "catalogue_changed"
    assert found.what == f"The rules of the release changed while it was in progress: {said}."
    assert found.evidence["differences"] == [said]
    assert [*airflow_record.check_catalogue(by_the_book(), lambda _: ())] == []
    closed = [*by_the_book(), *chain(("release.closed", releases.outcome()))]
    assert [*airflow_record.check_catalogue(closed, lambda _: [said])] == []
    assert [*airflow_record.check_catalogue([], lambda _: [said])] == []


# --- hosts


def used(purpose: str, *numbers: int) -> tuple[str, dict[str, Any]]:
    hosts = [releases.host(number).address for number in numbers]
    return "permit.used", {"permit": {"purpose": purpose, "hosts": hosts}}


def result(number: int = 1, **changes: Any) -> tuple[str, Record]:
    return "wave.deployed", releases.wave(1, releases.host_result(number, **changes))


@pytest.mark.parametrize(
    ("entries", "allowed"),
    [
        pytest.param([], None, id="never touched"),
        pytest.param([used("inspect", 1)], None, id="only asked"),
        pytest.param([used("deploy", 1)], {OLD, NEW}, id="under way"),
        pytest.param([used("deploy", 1), result()], {NEW}, id="deployed"),
        pytest.param([used("deploy", 2), result(2)], None, id="another host"),
        pytest.param([used("deploy", 1), result(after=OLD, outcome="failed")], {OLD}, id="put back"),
        pytest.param([used("deploy", 1), result(after=None, outcome="failed")], {OLD, NEW}, id="nobody knows"),
        pytest.param([used("deploy", 1), result(), used("back_out", 1)], {OLD, NEW}, id="going back"),
        pytest.param([used("deploy", 1), result(), used("back_out", 1), ("back_out.done", releases.back_out())], {OLD}),
    ],
)
def test_what_a_host_may_run_follows_from_permits_and_results(
    entries: list[tuple[str, Any]], allowed: set[str] | None
) -> None:
    found = host_record.releases_allowed(chain(("rollout.frozen", frozen()), *entries), "production")
    assert found.get(HOST) == (None if allowed is None else frozenset(allowed))


def test_a_rehearsal_touches_no_host_of_production() -> None:
    plan = frozen(rehearsal=True, environment="test")
    entries = chain(("rollout.frozen", plan), used("deploy", 1), result())
    assert host_record.releases_allowed(entries, "production") == {}


@given(st.sampled_from([OLD, NEW, "9.9.9-deadbeef", None]), st.sets(st.sampled_from([OLD, NEW, None])))
def test_a_host_is_found_if_and_only_if_it_runs_what_it_may_not(runs: str | None, allowed: set[str | None]) -> None:
    findings = [
        *host_record.check_host(
            service="bike-shop", environment="production", host=HOST, runs=runs, allowed=allowed, source=CHAIN
        )
    ]
    assert bool(findings) == (runs not in allowed)
    assert all("permit" not in one.what and "Who changed it, and when, is not known." in one.what for one in findings)


def test_a_release_that_found_a_host_so_is_not_blamed_for_it() -> None:
    entries = by_the_book()
    assert host_record.ran_before(entries, HOST, OLD)
    assert not host_record.ran_before(entries, HOST, "9.9.9-deadbeef")
    assert host_record.ran_before([], HOST, "9.9.9-deadbeef")


def file_findings(*paths: str, found: str = "b" * 64, release: str = NEW) -> list[Finding]:
    differ = [
        Difference(Expected(path, f"releases/{release}/{path}", "file", "a" * 64), Seen("file", found))
        for path in paths
    ]
    return [
        *host_record.check_files(
            service="bike-shop",
            environment="production",
            host=HOST,
            release=release,
            found=differ,
            about={"chain": CHAIN},
        )
    ]


def recorded(findings: list[Finding]) -> list[Entry]:
    return chain(*(("finding", one.payload) for one in findings))


def test_a_file_that_differs_is_a_finding_that_says_what_is_known_and_accuses_nobody() -> None:
    (found,) = file_findings("shop.py")
    assert found.what == (
        f"{HOST} of production runs {NEW} of bike-shop. At shop.py it has SHA-256 {'b' * 64}; released was SHA-256 "
        f"{'a' * 64}. Who changed it, and when, is not known."
    )


def test_a_file_that_differs_is_found_once_in_whichever_chain_and_again_with_other_contents() -> None:
    found = file_findings("shop.py", "other.py")
    assert host_record.new_file_findings(found, recorded(found[:1])) == found[1:]
    assert host_record.new_file_findings(found, recorded(found)) == []
    again = file_findings("shop.py", found="c" * 64)
    assert host_record.new_file_findings(again, recorded(found)) == again


def test_one_release_on_one_host_has_so_many_findings_about_files_and_no_more() -> None:
    found = file_findings(*(f"{number}.py" for number in range(30)))
    new = host_record.new_file_findings(found, [])
    assert len(new) == host_record.MAX_FILE_FINDINGS
    assert host_record.new_file_findings(found, recorded(new)) == []
    other = file_findings("shop.py", release=OLD)
    assert host_record.new_file_findings(other, recorded(new)) == other


# --- findings


def test_the_same_thing_has_the_same_key_however_it_is_said() -> None:
    one = Finding(kind="run_gone", what="Gone.", evidence={"a": 1, "b": 2}, chain=CHAIN)
    same = Finding(kind="run_gone", what="It is gone.", evidence={"b": 2, "a": 1}, chain=INSTALLATION)
    assert one.key == same.key
    assert one.key != one.model_copy(update={"evidence": {"a": 2}}).key
    assert one.payload == {"what": "Gone.", "found": "run_gone", "evidence": {"a": 1, "b": 2}}


@pytest.mark.parametrize("chain_name", ["installation", "reconcile/2026-11-23", "release/x", "release_x/y"])
def test_a_chain_that_is_no_releases_has_no_run(chain_name: str) -> None:
    assert ledger_runs.run_of(chain_name) is None


def test_a_releases_chain_names_its_run_whatever_is_in_the_name() -> None:
    assert ledger_runs.run_of("release/release_bike_shop/manual__a/b") == ("release_bike_shop", "manual__a/b")


def test_the_mail_says_what_was_found_and_renders_nothing_of_it() -> None:
    entry = chain(("finding", {"what": "olga cleared <b>a_b</b>\n# x"}))[0]
    assert f"- olga cleared \\<b\\>a\\_b\\</b\\> \\# x (entry 1 of `{CHAIN}`)" in ledger_findings.mail_text([entry])
