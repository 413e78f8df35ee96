"""Round the board at Airflow's API, while it votes."""

from __future__ import annotations

import json
from datetime import datetime
from secrets import token_hex
from typing import Any
from uuid import uuid4

import httpx
import pytest

from interlock.domain.board.accounts import DOUBTED
from interlock.domain.ledger.chain import INSTALLATION
from interlock.stages.approvals import people as questions
from interlock.stages.release.rollout import count
from interlock.stages.runtime.resources import catalogue_of
from tests.end_to_end.people import DAG, Colleague, Release
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import (
    BALLOT,
    BOARD,
    INJECTION,
    NEW,
    OTHER_PLAN,
    answer,
    as_task,
    ballot_of,
    nobody_changes,
    refused,
    vote,
)
from .suite import ADMIN, CLERK, FREE, MANAGER, MEMBER, OWNER, attack, by_admin

pytestmark = pytest.mark.timeout(1800)
ALL_DAGS, ALL_RUNS = "~", "~"


def entity(task: str, **more: Any) -> dict[str, Any]:
    """Return a task instance as a bulk request names it."""
    return {"task_id": task, "map_index": -1, **more}


def of_tasks(*entities: Any, action: str = "update") -> dict[str, Any]:
    """Return the content of a bulk request about task instances."""
    return {"actions": [{"action": action, "entities": list(entities)}]}


PLAN = "taskInstances/rollout.freeze_plan/xcomEntries/return_value"
QUALITY = "taskInstances/quality.judge_quality/xcomEntries/return_value"
HOSTS = "taskInstances/design.check_assets/xcomEntries/return_value"
EDITED = {"value": "{}", "map_index": -1}
SUCCESS = {"new_state": "success"}
CLEAR = {"dry_run": False, "only_failed": False}


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        by_admin("mark a ballot as success", "PATCH", f"{{run}}/taskInstances/{BALLOT}/0", SUCCESS),
        by_admin("mark the counting of the votes as success", "PATCH", f"{{run}}/taskInstances/{BOARD}", SUCCESS),
        by_admin("mark the quality gate as success", "PATCH", "{run}/taskInstances/quality.pass_gate", SUCCESS),
        by_admin("mark the whole stage of the board as success", "PATCH", "{run}/taskGroupInstances/rollout", SUCCESS),
        by_admin(
            "mark the counting as success in bulk",
            "PATCH",
            "{run}/taskInstances",
            of_tasks(entity(BOARD, **SUCCESS)),
        ),
        by_admin(
            "mark the counting as success in bulk, the Dag named in the body only",
            "PATCH",
            f"dags/{ALL_DAGS}/dagRuns/{ALL_RUNS}/taskInstances",
            of_tasks(entity(BOARD, dag_id=DAG, dag_run_id="{id}", **SUCCESS)),
        ),
        by_admin("mark the run as success", "PATCH", "{run}", {"state": "success"}),
        by_admin(
            "clear the ballots",
            "POST",
            "dags/{dag}/clearTaskInstances",
            {**CLEAR, "dag_run_id": "{id}", "task_ids": [BALLOT]},
        ),
        by_admin("clear the run", "POST", "{run}/clear", CLEAR),
        by_admin("edit the XCom of the plan", "PATCH", f"{{run}}/{PLAN}", EDITED),
        by_admin("edit the XCom of the quality report", "PATCH", f"{{run}}/{QUALITY}", EDITED),
        by_admin("edit the XCom of the hosts", "PATCH", f"{{run}}/{HOSTS}", EDITED),
        by_admin(
            "write the XCom of the board's decision before it decides",
            "POST",
            f"{{run}}/taskInstances/{BOARD}/xcomEntries",
            {"key": "return_value", "value": '{"approved": true}'},
        ),
        by_admin("delete the XCom of the plan", "DELETE", f"{{run}}/{PLAN}"),
        by_admin("delete a ballot's task", "DELETE", f"{{run}}/taskInstances/{BALLOT}?map_index=1"),
        by_admin("delete the run", "DELETE", "{run}"),
        by_admin("delete the Dag", "DELETE", "dags/{dag}"),
        by_admin(
            "start a release by a backfill",
            "POST",
            "backfills",
            {"dag_id": DAG, "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"},
        ),
    ],
)
def test_nobody_changes_a_release(stack: Stack, at_board: Release, method: str, path: str, content: Any) -> None:
    nobody_changes(stack, at_board, method, path, content)


@attack(
    "forge the event that says what production runs",
    by=ADMIN,
    way="API",
    stopped="only a release says what it released",
)
def test_nobody_says_what_production_runs(stack: Stack, at_board: Release) -> None:
    admin = stack.person("admin")
    found = next(one for one in admin.get("assets", limit=100)["assets"] if one["name"] == "bike-shop@production")
    event = {"asset_id": found["id"], "extra": {"version": NEW}}
    refused(admin.send("POST", "assets/events", event), "admin", "only its runs can change its assets")
    refused(admin.send("POST", f"assets/{found['id']}/materialize", {}), "admin", "other Dags cannot start them")


# --- votes -----------------------------------------------------------------------------------------------------------


@attack("vote for somebody else", by=ADMIN, way="API", stopped="a ballot is answered by whom it was given to")
def test_an_administrator_votes_for_nobody(stack: Stack, at_board: Release) -> None:
    for member in ("ben", "cora", "dan"):
        refused(answer(stack, at_board, "admin", ballot_of(at_board, member)), "admin")


@attack(
    "set a member's password, and vote as them",
    by=ADMIN,
    way="API",
    stopped="an account that changed answers nothing until a second person vouches for it, and is a finding",
)
def test_an_administrator_who_sets_a_password_votes_for_nobody(
    stack: Stack, at_board: Release, database: AirflowDatabase
) -> None:
    ((known,),) = database.run("SELECT password FROM ab_user WHERE username = 'dan'")
    url, path = stack.settings.airflow_url, f"{at_board.path}/taskInstances/{BALLOT}/{ballot_of(at_board, 'dan')}"
    account = f"{url}/auth/fab/v1/users/dan?update_mask=password"
    set_by_admin = stack.person("admin").send("PATCH", account, {"password": "the administrators"})
    assert set_by_admin.is_success, set_by_admin.text
    try:
        imposter = Colleague(url, "dan", "the administrators")
        vote = {"chosen_options": ["Approve"], "params_input": {"comment": "Fine"}}
        refused(imposter.send("PATCH", f"{path}/hitlDetails", vote), "dan", "The password of dan was reset")
        confirm = {"conf": {"user": "dan", "reason": "I am dan"}, "logical_date": None}
        refused(imposter.send("POST", "dags/confirm_account/dagRuns", confirm), "dan", "was reset")
        imposter.close()
    finally:
        database.run("UPDATE ab_user SET password = %s WHERE username = 'dan' RETURNING id", known)
    with wave.ledger() as ledger:
        assert any(one.payload.get("found") == DOUBTED for one in ledger.entries(INSTALLATION, kind="finding"))


@attack(
    "vote with an account that is newer than the ballot",
    by=OWNER,
    way="database",
    stopped="an account that changed answers nothing until a second person vouches for it, and is a finding",
)
def test_an_account_that_is_newer_than_the_ballot_answers_nothing(
    stack: Stack, at_board: Release, database: AirflowDatabase
) -> None:
    path = f"{at_board.path}/taskInstances/{BALLOT}/{ballot_of(at_board, 'dan')}/hitlDetails"
    ((since,),) = database.run("SELECT created_on FROM ab_user WHERE username = 'dan'")
    database.run("UPDATE ab_user SET created_on = %s WHERE username = 'dan'", datetime.now())
    try:
        vote = {"chosen_options": ["Approve"], "params_input": {"comment": "Fine"}}
        refused(stack.person("dan").send("PATCH", path, vote), "dan", "after the question")
    finally:
        database.run("UPDATE ab_user SET created_on = %s WHERE username = 'dan'", since)


@attack(
    "pause what watches releases, or what stops them",
    by=ADMIN,
    way="API",
    stopped="the guard at the API refuses it, and records the attempt",
)
@pytest.mark.parametrize("dag_id", ["reconcile", "emergency_stop"])
def test_nobody_pauses_what_watches_or_stops(stack: Stack, at_board: Release, dag_id: str) -> None:
    admin = stack.person("admin")
    path = f"dags/{dag_id}?update_mask=is_paused"
    refused(admin.send("PATCH", path, {"is_paused": True}), "admin", "cannot be paused")
    assert admin.get(f"dags/{dag_id}")["is_paused"] is False


@attack(
    "edit a connection so that the audit log names another",
    by=ADMIN,
    way="API",
    stopped="the door refuses what the audit log would not name",
)
@pytest.mark.parametrize("kind", ["application/x+json", "text/plain"])
def test_no_edit_of_a_connection_hides(stack: Stack, at_board: Release, kind: str) -> None:
    entity = {"connection_id": "interlock_hosts", "conn_type": "ssh", "host": "127.0.0.1"}
    content = {"actions": [{"action": "update", "entities": [entity]}]}
    path, headers = "connections?connection_id=smtp_default", {"Content-Type": kind}
    reply = stack.person("admin").request("PATCH", path, content=json.dumps(content), headers=headers)
    assert reply.status_code == 422, reply.text
    assert "audit log" in reply.text


@attack(
    "vote with another member's ballot", by=MEMBER, way="API", stopped="a ballot is answered by whom it was given to"
)
def test_a_member_votes_for_no_other(stack: Stack, at_board: Release) -> None:
    refused(answer(stack, at_board, "dan", ballot_of(at_board, "ben")), "dan")


@attack(
    "vote as the requester, who sits on the board",
    by=MANAGER,
    way="API",
    stopped="who asks for a release gets no ballot, and no other's is theirs",
)
def test_the_requester_does_not_vote(stack: Stack, at_board: Release) -> None:
    asked = {user for one in at_board.questions() for user in one.assigned}
    assert "rita" not in asked
    refused(answer(stack, at_board, "rita", ballot_of(at_board, "ben")), "rita")


@attack(
    "vote with a ballot beyond the last",
    by=MEMBER,
    way="API",
    stopped="there are as many ballots as members, and a number makes no more",
)
@pytest.mark.parametrize("index", [3, 99, -1])
def test_there_is_no_ballot_but_those_given_out(stack: Stack, at_board: Release, index: int) -> None:
    reply = answer(stack, at_board, "ben", index)
    assert reply.status_code in (404, 405), f"{reply.status_code}: {reply.text[:300]}"


@attack(
    "vote as somebody whose name looks like a member's",
    by=ADMIN,
    way="API",
    stopped="user names are compared letter by letter",
)
@pytest.mark.parametrize("name", ["c\u043era", "cora ", "Cora", "cor\u0430", "c\u200bora"])
def test_a_name_that_looks_like_a_members_is_none(stack: Stack, at_board: Release, name: str) -> None:
    secret = token_hex(12)
    made = httpx.post(
        f"{stack.settings.airflow_url}/auth/fab/v1/users",
        headers={"Authorization": stack.person("admin")._client.headers["Authorization"]},
        json={
            "username": name,
            "password": secret,
            "email": f"{token_hex(4)}@example.com",
            "first_name": "Cora",
            "last_name": "Lindqvist",
            "roles": [{"name": "board_member"}],
        },
        trust_env=False,
    )
    if not made.is_success:
        assert made.status_code < 500, made.text
        return  # there is no such user
    look_alike = Colleague(stack.settings.airflow_url, name, secret)
    path = f"{at_board.path}/taskInstances/{BALLOT}/{ballot_of(at_board, 'cora')}/hitlDetails"
    reply = look_alike.send("PATCH", path, {"chosen_options": ["Approve"], "params_input": {}})
    look_alike.close()
    assert reply.status_code == 403, reply.text


@attack(
    "approve as the board's clerk, who may answer every ballot",
    by=CLERK,
    way="API",
    stopped="what the clerk answers closes a ballot and counts for nobody",
)
def test_the_clerks_answers_do_not_count(stack: Stack, at_board: Release) -> None:
    assert answer(stack, at_board, "board_clerk", ballot_of(at_board, "dan")).is_success
    vote(stack, at_board, "ben", "Approve")
    plan = wave.plan_of(at_board)
    with wave.task_of(at_board):
        assert count(catalogue_of("bike-shop"), plan, expired=False) is None, "one approval and the clerk's were enough"
    assert at_board.states()[BOARD] in ("deferred", "scheduled", "queued", "running")


@attack("vote twice", by=MEMBER, way="API", stopped="a ballot that was answered is closed")
def test_nobody_votes_twice(stack: Stack, at_board: Release) -> None:
    if not any(one.answered for one in at_board.questions() if one.map_index == 0):
        vote(stack, at_board, "ben", "Approve")
    reply = answer(stack, at_board, "ben", ballot_of(at_board, "ben"))
    assert reply.status_code == 409, reply.text


@attack(
    "have a vote count for another plan, named in the summary in the ballot's own words",
    by=MANAGER,
    way="API",
    stopped="a vote is on the digest with which its ballot ends",
)
def test_a_ballot_is_about_one_plan(stack: Stack, at_board: Release) -> None:
    bodies = [one.body for one in at_board.questions() if one.task_id == BALLOT]
    assert all(OTHER_PLAN in body for body in bodies), "the summary is not in the ballots"
    assert all("interlock_ledger.password" in body for body in bodies), "the summary was rendered as a template"
    plan = wave.plan_of(at_board)
    with wave.task_of(at_board):
        assert questions.votes_on(BALLOT, plan.digest)
        assert questions.votes_on(BALLOT, OTHER_PLAN) == ()
    assert plan.summary == INJECTION


@attack(
    "trigger a release with a conf that names another plan, hosts or requester",
    by=MANAGER,
    way="API",
    stopped="the form has the fields that it has; what else is in it is refused at the door",
)
@pytest.mark.parametrize(
    "more",
    [
        {"plan": OTHER_PLAN},
        {"hosts": ["127.43.0.11"]},
        {"requested_by": "maya"},
        {"environment": "production", "rehearsal": True},
        {"waves": []},
    ],
)
def test_a_conf_names_no_plan(stack: Stack, more: dict[str, Any]) -> None:
    form = {"ref": NEW, "version": NEW, "change_type": "normal", "summary": "Bikes", "tickets": [], **more}
    reply = stack.person("rita").ask_for_release(form)
    assert reply.status_code in (400, 422), f"{reply.status_code}: {reply.text}"
    assert next(iter(more)) in reply.text


# --- the API that tasks use ------------------------------------------------------------------------------------------


@attack(
    "answer a ballot at the API that tasks use",
    by=FREE,
    way="API",
    stopped="such an answer is nobody's, and counts for nobody",
)
def test_an_answer_that_is_nobodys_does_not_count(stack: Stack, at_board: Release, database: AirflowDatabase) -> None:
    instance = database.instance(at_board, BALLOT, ballot_of(at_board, "cora"))
    path = f"hitlDetails/{instance}"
    content = {"ti_id": instance, "chosen_options": ["Approve"], "params_input": {}}
    assert as_task(stack, "PATCH", path, instance, content).is_success
    plan = wave.plan_of(at_board)
    with wave.task_of(at_board):
        decision = count(catalogue_of("bike-shop"), plan)
    assert decision is not None
    assert not decision.approved
    database.run("UPDATE hitl_detail SET responded_at = NULL, chosen_options = NULL WHERE ti_id = %s", instance)


@attack(
    "start a release, or clear one, from a task of another Dag",
    by=FREE,
    way="API",
    stopped="the door refuses it: a release is asked for at its form",
)
def test_no_task_starts_or_clears_a_release(stack: Stack, at_board: Release, database: AirflowDatabase) -> None:
    instance = database.instance(at_board, BALLOT, 0)
    for path in (f"dag-runs/{DAG}/attack", f"dag-runs/{DAG}/{at_board.id}/clear"):
        reply = as_task(stack, "POST", path, instance, {"conf": {}})
        assert reply.status_code == 403, reply.text
        assert "under release control" in reply.text


@attack(
    "read the ledger's password, or the key that signs, from a task of another Dag",
    by=FREE,
    way="API",
    stopped="the door refuses it: only tasks of Interlock's own Dags read what proof rests on",
)
def test_no_task_of_another_dag_reads_what_proof_rests_on(stack: Stack, at_board: Release) -> None:
    for name in ("interlock_ledger", "interlock_signing_key", "interlock_board_clerk", "INTERLOCK_LEDGER"):
        reply = as_task(stack, "GET", f"connections/{name}", str(uuid4()))
        assert reply.status_code == 403, reply.text
        assert "protects the release process" in reply.text


@attack(
    "write the ballots' texts, or delete them, as another task",
    by=FREE,
    way="API",
    stopped="the door refuses it: a result is written by its own task",
)
def test_no_task_writes_what_another_left(stack: Stack, at_board: Release, database: AirflowDatabase) -> None:
    path = f"xcoms/{DAG}/{at_board.id}/rollout.prepare_ballots/return_value"
    before = database.xcom(at_board, "rollout.prepare_ballots")
    for instance in (database.instance(at_board, "rollout.freeze_plan"), str(uuid4())):
        for method, content in (("POST", []), ("DELETE", None)):
            assert as_task(stack, method, path, instance, content).status_code == 403
    assert database.xcom(at_board, "rollout.prepare_ballots") == before


@attack(
    "call a run so that the bypass detector looks elsewhere",
    by=MANAGER,
    way="API",
    stopped="the door refuses the name: in an address it stands for something else",
)
@pytest.mark.parametrize("name", [".", "..", "~"])
@pytest.mark.parametrize("dag_id", [DAG, "rollback_bike_shop", "reconcile"])
def test_no_run_blinds_the_detector(stack: Stack, at_board: Release, dag_id: str, name: str) -> None:
    form = {"ref": NEW, "version": NEW, "summary": "Bikes"}
    reply = stack.person("rita").send(
        "POST", f"dags/{dag_id}/dagRuns", {"dag_run_id": name, "logical_date": None, "conf": form}
    )
    assert reply.status_code == 422, reply.text
    assert "leave dag_run_id out" in reply.text
