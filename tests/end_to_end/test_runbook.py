"""Releases with steps before, between and after the waves, end to end: by people, on hosts, in Airflow and in AWS.

The first goes to every host, although a task is killed in the middle of a step. The second breaks after its first wave.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import expect

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.domain.paths import run_page
from interlock.estate.airflow.accounts import passwords
from interlock.estate.settings import REGION
from interlock.estate.world import aws
from interlock.verify.__main__ import verify
from tests import shop_aws
from tests.browser import chromium, log_in, opened_page
from tests.git_project import GitProject

from .people import Colleague, Release, dag_of, until
from .stack import BOOK_SHOP, Stack
from .test_release import accept, approve, train

pytestmark = pytest.mark.timeout(2400)
SERVICE, DAG = BOOK_SHOP, dag_of(BOOK_SHOP)
NEW, BROKEN = "1.7.0", "1.7.1"  # others look for 1.1.* in the same repository
STEPS = ("tell-the-bank", "expand", "copy", "flush", "close-the-books", "notify", "tell-the-tax-office", "warm")
CONNECTIONS = {
    "shop_snapshots": "`snapshot`",
    "shop_documents": "`document` with `host`",
    "shop_functions": "`function`",
}
"""Connections of the runbook, each of an account with the rights that the documentation names for this kind of step."""
_NOTE = '#!/bin/sh\nset -eu\necho {0} >>"$INTERLOCK_SHARED/steps"\nsleep {1}\necho "{0} is done"\n'
SCRIPTS = {
    f"bin/{name}": _NOTE.format(name, 15 if name == "expand" else 0) for name in ("expand", "shrink", "warm", "cool")
}


@pytest.fixture(scope="module")
def rita(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Colleague:
    """The release manager of a service whose bundle has the programs of the runbook, and whose database is in RDS."""
    work = GitProject(tmp_path_factory.mktemp("source") / "shop")
    work.folder.mkdir()
    work.git("clone", "--quiet", str(stack.settings.repository), ".")
    work.git("checkout", "--quiet", "-b", "books", "1.1.0")
    for version in (NEW, BROKEN):
        work.commit({**SCRIPTS, "VERSION": f"{version}\n"}, f"feat: sell books, {version} (SHOP-12)")
        work.git("tag", "--annotate", "--message", version, version)
    work.git("push", "--quiet", "origin", NEW, BROKEN)
    shop_aws.answers(stack.settings.aws_endpoint, REGION, *CALLS)  # first: moto forgets its functions by this
    with ExitStack() as clients:
        rds, iam, functions, ssm = (
            clients.enter_context(closing(aws.client(stack.settings, kind))) for kind in ("rds", "iam", "lambda", "ssm")
        )
        shop_aws.make_database(rds)
        shop_aws.make_function(iam, functions)
        shop_aws.make_document(ssm)
        for name, kind in CONNECTIONS.items():
            login, password = shop_aws.account_with(iam, name, shop_aws.documented_rights(kind))
            extra = {"endpoint_url": stack.settings.aws_endpoint, "region_name": REGION}
            about = {"conn_type": "aws", "login": login, "password": password, "extra": json.dumps(extra)}
            reply = stack.person("admin").send("POST", "connections", {"connection_id": name, **about})
            assert reply.is_success, reply.text
    return stack.person("rita")


CALLS = ("told", "told again", "taken back", "and no other call")
"""What the function answers, one after the other: it is called by the first release, and twice by the second."""


def called(stack: Stack) -> list[str]:
    """Return the documents that were sent to the first host of production, by the comments of the commands."""
    with closing(aws.client(stack.settings, "ssm")) as ssm:
        first = min(stack.hosts("production"), key=lambda host: host.name)
        return [one["Comment"] for one in ssm.list_commands(InstanceId=first.id)["Commands"]]


def noted(stack: Stack) -> list[str]:
    """Return which programs ran on the host that runs the commands, in their order."""
    first = min(stack.hosts("production"), key=lambda host: host.name)
    file = stack.settings.host_folder(first.name) / "srv" / SERVICE / "shared" / "steps"
    return file.read_text().split() if file.exists() else []


def released(stack: Stack, rita: Colleague, version: str) -> Release:
    """Take a release to its first step: accepted, voted on by the board and, as it is irreversible, by maya."""
    run = rita.release(version)
    accept(stack, run)
    approve(stack, run)
    assert run.result("rollout.await_board") is None, "the further member has not voted"
    stack.person("maya").decide(run, "rollout.cast_ballot", "Approve", "The tax office knows")
    train(stack, run)
    return run


def reports(run: Release, *tasks: str) -> dict[str, dict[str, Any]]:
    return {task: run.result(task) for task in tasks}


def forward(run: Release) -> list[dict[str, Any]]:
    return [run.result(f"implementation.step_{number}") for number in range(1, len(STEPS) + 1)]


def proven(stack: Stack, run: Release) -> list[str]:
    """Prove the evidence pack of a release offline, and return what was said."""
    pack = Path(unquote(urlsplit(run.result("closure.pack_evidence")["uri"]).path)).read_bytes()
    said: list[str] = []
    assert verify(pack, [], said.append), said
    return said


def runs_of(admin: AirflowApi, dag: str) -> list[dict[str, Any]]:
    return list(admin.pages(f"dags/{dag}/dagRuns", "dag_runs"))


@pytest.fixture(scope="module")
def first(stack: Stack, rita: Colleague) -> Iterator[Release]:
    run = released(stack, rita, NEW)
    sam = stack.person("sam")
    sam.decide(run, "implementation.ask_step_1", "Done", "ticket 4711")
    until("the program to run", lambda: noted(stack) == ["expand"])
    (task,) = [one for one in run.tasks() if one["task_id"] == "implementation.step_2"]
    os.kill(int(task["pid"]), signal.SIGKILL)
    sam.decide(run, "implementation.ask_step_7", "Done", "receipt 12")
    return run


def test_the_ballot_says_what_cannot_be_taken_back_and_a_further_member_votes(first: Release) -> None:
    ballots = [question for question in first.questions() if question.task_id == "rollout.cast_ballot"]
    assert {ballot.assigned[0] for ballot in ballots} == {"ben", "cora", "dan", "maya"}
    for ballot in ballots:
        assert "### This release cannot be taken back as a whole" in ballot.body
        assert "“Tell the tax office” cannot be taken back." in ballot.body
        assert "“Copy the database” cannot be taken back." not in ballot.body, "a snapshot changes nothing"
        assert 'a run of the Dag close_the_books with {"month":"2026-11"}' in ballot.body


def test_each_step_is_done_once_in_its_place_planned_against_actual(stack: Stack, first: Release) -> None:
    assert first.finish() == "success", first.outcome()
    assert stack.production() == {NEW}
    done = forward(first)
    assert [(one["name"], one["outcome"]) for one in done] == [(name, "done") for name in STEPS]
    assert [one["began_at"] for one in done] == sorted(one["began_at"] for one in done)
    assert all(one["estimate"] and one["began_at"] < one["ended_at"] for one in done)
    assert noted(stack) == ["expand", "warm"], "the program whose task was killed ran once"
    assert len(first.person.tries(DAG, first.id, "implementation.step_2", -1)) == 2
    assert done[0]["by"] == done[6]["by"] == "sam"
    assert "ticket 4711" in done[0]["evidence"]

    admin = stack.person("admin")
    (books,) = runs_of(admin, "close_the_books")
    assert (books["dag_run_id"], books["triggering_user_name"]) == (
        f"interlock__{done[4]['id']}",
        "interlock_conductor",
    )
    assert books["conf"] == {"month": "2026-11"}
    assert runs_of(admin, "open_the_books") == []
    with closing(aws.client(stack.settings, "rds")) as rds:
        copies = [one["DBSnapshotIdentifier"] for one in rds.describe_db_snapshots()["DBSnapshots"]]
    assert copies.count(f"interlock-{done[2]['id']}") == 1
    assert called(stack).count(f"interlock {done[3]['id']}") == 1
    assert "Success" in done[3]["evidence"]
    assert done[5]["evidence"] == "told"
    assert proven(stack, first)

    with chromium() as browser, opened_page(browser) as page:
        page.goto(stack.settings.airflow_url)
        log_in(page, "rita", passwords(stack.settings)["rita"])
        page.goto(f"{stack.settings.airflow_url}/{run_page(DAG, first.id)}/plugin/release")
        rows = page.get_by_role("row")
        for title, planned in (("Tell the bank", "5 min"), ("Close the books", "60 s")):
            expect(rows.filter(has_text=title).filter(has_text=planned).first).to_be_visible()
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{folder}/steps.png", full_page=True)


@pytest.mark.usefixtures("first")
def test_a_release_that_breaks_after_its_first_wave_is_taken_back_in_reverse(stack: Stack, rita: Colleague) -> None:
    before = noted(stack)
    run = released(stack, rita, BROKEN)
    sam = stack.person("sam")
    sam.decide(run, "implementation.ask_step_1", "Done", "ticket 4712")
    sam.decide(run, "implementation.ask_step_7", "Failed", "The form was refused")
    sam.decide(run, "verification.ask_back_step_1", "Done", "ticket 4713")
    assert run.finish() == "failed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("backed_out", "implementation"), outcome
    assert "The form was refused" in outcome["reason"]
    assert "What cannot be taken back stays: “Tell the tax office”." in outcome["reason"]
    assert stack.production() == {NEW}
    assert stack.in_service() == 3
    assert noted(stack) == [*before, "expand", "shrink"]

    tasks = [f"verification.back_step_{number}" for number in (8, 6, 5, 4, 2, 1)]
    back = reports(run, *tasks)
    assert [back[task]["outcome"] for task in tasks] == ["left_out", "done", "done", "done", "done", "done"]
    hosts = {one["task_id"]: one for one in run.tasks()}["verification.back_out"]
    times = {task: [back[task]["began_at"], back[task]["ended_at"]] for task in tasks}
    times |= {"hosts": [hosts["start_date"], hosts["end_date"]]}
    order = [at for what in (*tasks[1:3], "hosts", *tasks[3:]) for at in times[what]]
    assert order == sorted(order), "first what came after the first wave, then the hosts, then what was before them"
    assert run.result("implementation.step_6")["evidence"] == "told again"
    assert back[tasks[1]]["evidence"] == "taken back"
    assert called(stack).count(f"interlock {back[tasks[3]]['id']}") == 1
    with closing(aws.client(stack.settings, "lambda")) as functions:
        assert functions.invoke(FunctionName="notify", Payload=b"{}")["Payload"].read().decode() == CALLS[3], (
            "it was called once each"
        )
    (opened,) = runs_of(stack.person("admin"), "open_the_books")
    assert opened["state"] == "success"
    assert any("tell-the-tax-office has no way back" in line for line in proven(stack, run))
