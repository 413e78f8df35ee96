"""What people did by hand, told from what the guard refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.ledger.interventions import (
    MAX_CLOCK_SKEW,
    SEVERAL,
    WINDOW,
    AuditRow,
    Refusal,
    audit_row,
    connections_edited,
    done_by_hand,
    may_be_refused_yet,
    refusal,
    settled,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAG, RUN = "release_bike_shop", "manual__1"
SECONDS = st.integers(-200, 200).map(lambda seconds: NOW + timedelta(seconds=seconds))


def row(event: str = "patch_task_instance", **changes: Any) -> AuditRow:
    fields: dict[str, Any] = {
        "event_log_id": 7,
        "when": NOW.isoformat(),
        "event": event,
        "owner": "olga",
        "dag_id": DAG,
        "run_id": RUN,
        "task_id": "rollout.cast_ballot",
        "extra": {"method": "PATCH", "new_state": "success"},
    }
    fields |= changes
    return audit_row({**fields, "extra": json.dumps(fields["extra"])})


def refused(**changes: Any) -> Refusal:
    fields: dict[str, Any] = {
        "user": "olga",
        "method": "PATCH",
        "entity": "TASK_INSTANCE",
        "dag_id": DAG,
        "run_id": RUN,
        "task_id": "rollout.cast_ballot",
        "first_at": "2026-11-23T12:00:00.000000Z",
        "at": "2026-11-23T12:00:00.000000Z",
        "count": 1,
    }
    return refusal({**fields, **changes})


def done(*rows: AuditRow, refusals: tuple[Refusal, ...] = ()) -> list[str]:
    return [one.event for one in done_by_hand(rows, refusals, dag_id=DAG, run_id=RUN)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "olga marked rollout.cast_ballot at 2026-11-23 12:00:00 UTC"),
        (
            {
                "event": "post_clear_task_instances",
                "task_id": None,
                "extra": {"method": "POST", "task_ids": ["a", ["b", 2]]},
            },
            "olga cleared a, b",
        ),
        ({"event": "update_xcom_entry"}, "olga edited an XCom of rollout.cast_ballot"),
        ({"event": "delete_dag_run", "task_id": None}, "olga deleted the run"),
        ({"event": "patch_dag", "run_id": None, "extra": {"method": "PATCH", "is_paused": True}}, "paused the Dag"),
        ({"event": "rewind_everything"}, "olga did rewind_everything"),
        ({"event": "cli_task_clear", "run_id": None, "extra": {"full_command": "['airflow']"}}, "did cli_task_clear"),
    ],
)
def test_what_changes_a_run_is_an_intervention_and_is_said_in_words(changes: dict[str, Any], words: str) -> None:
    one = row(**changes)
    assert done(one) == [one.event]
    assert words in str(one)


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "update_hitl_detail"},
        {"event": "trigger_dag_run", "run_id": None},
        {"event": "get_task_instances_batch", "extra": {"method": "POST"}},
        {"event": "success", "extra": {"host_name": "worker-1"}},
        {"event": "running", "extra": None},
        {"event": "patch_dag", "extra": {"method": "PATCH", "is_paused": False}},
        {"run_id": "manual__2"},
        {"dag_id": "release_car_shop"},
    ],
)
def test_answers_triggers_reading_and_what_airflow_does_itself_are_none(changes: dict[str, Any]) -> None:
    assert done(row(**changes)) == []


def test_what_the_guard_refused_was_not_done() -> None:
    assert done(row(), refusals=(refused(),)) == []


@pytest.mark.parametrize(
    "other",
    [
        {"user": "mallory"},
        {"dag_id": "release_car_shop"},
        {"run_id": "manual__2"},
        {"task_id": "rollout.await_board"},
        {"entity": "XCOM"},
        {"at": "2026-11-23T11:50:00Z", "first_at": "2026-11-23T11:50:00Z"},
        {"at": "2026-11-23T12:01:00Z", "first_at": "2026-11-23T12:01:00Z"},
    ],
)
def test_a_refusal_of_something_else_hides_nothing(other: dict[str, Any]) -> None:
    assert done(row(), refusals=(refused(**other),)) == ["patch_task_instance"]


def test_an_unknown_event_is_never_taken_for_refused() -> None:
    assert done(row("rewind_everything"), refusals=(refused(), refused(dag_id=SEVERAL, entity=SEVERAL))) != []


def test_attempts_of_too_many_kinds_cover_what_a_pause_is_not() -> None:
    several = refused(dag_id=SEVERAL, run_id=None, task_id=None, entity=SEVERAL, method=SEVERAL)
    pause = row("patch_dag", run_id=None, task_id=None, extra={"method": "PATCH", "is_paused": True})
    assert done(row(), pause, refusals=(several,)) == ["patch_dag"]


@given(SECONDS, SECONDS, SECONDS)
def test_a_refusal_covers_its_window_and_nothing_beyond(when: datetime, first: datetime, last: datetime) -> None:
    first, last = sorted((first, last))
    one = Refusal(user="olga", entity="TASK_INSTANCE", dag_id=DAG, first_at=first, at=last)
    covered = first - MAX_CLOCK_SKEW <= when <= max(last, first + WINDOW) + MAX_CLOCK_SKEW
    assert one.accounts_for(row(when=when.isoformat())) == covered


@given(st.lists(st.sampled_from(["patch_task_instance", "update_hitl_detail", "success", "patch_dag"])), st.data())
def test_the_order_in_which_rows_are_read_does_not_matter(events: list[str], data: st.DataObject) -> None:
    rows = [row(event, event_log_id=number) for number, event in enumerate(events)]
    shuffled = data.draw(st.permutations(rows))
    assert done_by_hand(shuffled, (), dag_id=DAG, run_id=RUN) == done_by_hand(rows, (), dag_id=DAG, run_id=RUN)


def connection(event: str, **extra: Any) -> AuditRow:
    return row(event, dag_id=None, run_id=None, task_id=None, extra=extra)


def test_edits_of_a_releases_connections_count_and_those_of_others_do_not() -> None:
    rows = [
        connection("patch_connection", method="PATCH", connection_id="interlock_hosts", host="evil"),
        connection("delete_connection", method="DELETE", connection_id="warehouse"),
        connection(
            "bulk_connections",
            method="PATCH",
            actions=[{"action": "delete", "entities": ["interlock_aws"]}, {"entities": [{"connection_id": "x"}]}],
        ),
        connection("bulk_connections", method="PATCH", actions=[{"entities": ["warehouse"]}]),
        connection("create_default_connections", method="POST"),
        connection("cli_connections_add", full_command="['airflow', 'connections', 'add']"),
        connection("cli_connections_list", full_command="…"),
        connection("patch_variable", method="PATCH", key="interlock_hosts"),
    ]
    edited = connections_edited(rows, {"interlock_hosts", "interlock_aws"})
    assert [one.event for one in edited] == ["patch_connection", "bulk_connections", "cli_connections_add"]
    assert "edited the connection interlock_hosts" in str(edited[0])


@pytest.mark.parametrize("extra", ["no json", "[1]", "null", None])
def test_a_row_whose_details_cannot_be_read_is_airflows_own(extra: str | None) -> None:
    read = audit_row({"event_log_id": 1, "when": NOW.isoformat(), "event": "failed", "owner": None, "extra": extra})
    assert (read.user, read.details, read.changes) == ("nobody", {}, False)


def test_a_young_row_may_still_turn_out_to_be_refused() -> None:
    assert may_be_refused_yet([row()], NOW + MAX_CLOCK_SKEW)
    assert not may_be_refused_yet([row()], NOW + WINDOW)
    assert settled([row()], NOW + WINDOW) == ()
    assert settled([row()], NOW + WINDOW + 3 * MAX_CLOCK_SKEW) == (row(),)
