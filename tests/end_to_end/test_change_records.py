"""Releases and their changes in ServiceNow, end to end: a mirror that may be down, and an authority."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from interlock.adapters.catalogue.systems import FILE
from interlock.domain.dag_names import DELIVER_RECORDS
from interlock.domain.ledger.chain import release_chain
from interlock.domain.outbox.delivery import correlation_of
from tests.fault_proxy import FaultProxy
from tests.integration.test_service_now import DESCRIBED
from tests.service_now import AUTHORIZE, CANCELED, CLOSED, CLOSED_TASK, PASSWORD, USER, WAY, Instance, serving

from .people import Colleague, Release, dag_of, until
from .stack import HARBOUR_SHOP, Stack
from .test_release import accept, approve, train

pytestmark = pytest.mark.timeout(2400)
SERVICE = HARBOUR_SHOP
NEW = "1.1.0"
ABOVE = "policy:\n"
AWAITS = "rollout.await_authorities"


class ServiceNow:
    """The instance that is told of the releases of the service, and what is in front of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.instance = stack, Instance()
        self.proxy = FaultProxy(self.instance, seed=16, share=0)
        self._file = stack.settings.catalogue / "services" / f"{SERVICE}.yaml"
        self._before = self._file.read_text()

    def becomes(self, mode: str) -> None:
        """Have the service's policy make it a mirror or an authority, and the Dag of the service follow.

        An authority comes first: its Dag differs from that of a mirror, and from that without any.
        """
        asked = f"{ABOVE}  change_types: {{ normal: {{ records: {{ snow: {mode} }} }} }}\n"
        assert self._before.count(ABOVE) == 1, "the policy of the service is elsewhere now"
        self._file.write_text(self._before.replace(ABOVE, asked))
        dag, rita = dag_of(SERVICE), self.stack.person("rita")

        def follows() -> bool:
            waits = AWAITS in {one["task_id"] for one in rita.get(f"dags/{dag}/tasks")["tasks"]}
            if waits is not (mode == "authority"):
                self.stack.parse(dag)  # again: a file that was just being read when it changed was read too early
                return False
            return True

        until(f"{dag} to have an instance that is its {mode}", follows)

    def forget(self) -> None:
        """Leave the catalogue as it was."""
        self._file.write_text(self._before)

    def changes(self, run: Release) -> list[dict[str, Any]]:
        """Return the changes of a release there."""
        return self.instance.live(correlation_of("snow", release_chain(run.dag_id, run.id)))

    def in_state(self, run: Release, state: str) -> dict[str, Any]:
        """Return the only change of a release, once it is in a state."""
        (change,) = until(
            f"the change of {run.id} to be in the state {state}",
            lambda: [one for one in self.changes(run) if one["state"] == state],
            within=300,
        )
        assert len(self.changes(run)) == 1
        return change

    def tasks(self, change: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the tasks of a change."""
        about = f"{change['sys_id']}-"
        return [one for one in self.instance.tasks.values() if one["correlation_id"].startswith(about)]

    def facts(self, change: dict[str, Any]) -> list[str]:
        """Return the beginning of each fact in the work notes, in order; a note has the facts that waited."""
        told = "\n\n".join(self.instance.journal[change["sys_id"]]).split("\n\n")
        return [fact.partition(":")[0].partition(",")[0] for fact in told]


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


@pytest.fixture(scope="module")
def snow(stack: Stack) -> Iterator[ServiceNow]:
    """An instance, of which catalogue and connections know."""
    there, systems = ServiceNow(stack), stack.settings.catalogue / FILE
    with serving(there.proxy) as address:
        url = urlsplit(address)
        account = {"conn_type": "http", "host": f"http://{url.hostname}", "port": url.port}
        connection = {**account, "connection_id": DESCRIBED.connection, "login": USER, "password": PASSWORD}
        reply = stack.person("admin").send("POST", "connections", connection)
        assert reply.is_success, reply.text
        described = DESCRIBED.model_dump(mode="json", exclude_defaults=True)
        systems.write_text(yaml.safe_dump({"systems": {"snow": described}}))
        stack.parse(DELIVER_RECORDS)
        try:
            yield there
        finally:
            there.forget()
            systems.unlink()


def approve_here(stack: Stack, run: Release) -> None:
    """Let the board here approve; it waits for the approval there afterwards."""
    approve(stack, run)
    until("the board's decision", lambda: run.result("rollout.await_board"))


@pytest.fixture(scope="module")
def authority(snow: ServiceNow) -> ServiceNow:
    """The instance, whose approval is required."""
    snow.instance.approvals = True
    snow.becomes("authority")
    return snow


def test_an_approval_counts_if_a_person_gave_it_and_until_it_is_withdrawn(
    stack: Stack, rita: Colleague, authority: ServiceNow
) -> None:
    run = rita.release(NEW)
    accept(stack, run)
    approve_here(stack, run)
    change = authority.in_state(run, AUTHORIZE)
    for person in ("ben", "cora"):
        authority.instance.decide(change, person, "approved", by=USER)

    def waits(what: str) -> bool:
        return what in (run.result(AWAITS, "waits_for") or "")

    until("the service account's approval to be read", lambda: waits("is approved, but no approval counts"))
    assert waits(f"the approval of {change['number']} in snow, until ")
    assert run.states()[AWAITS] == "deferred"
    authority.instance.decide(change, "ben", "approved")
    until("the release to go on", lambda: run.states()[AWAITS] == "success")
    authority.instance.decide(change, "ben", "requested")
    train(stack, run)
    assert run.finish() == "failed"
    reason = run.outcome()["reason"]
    assert f"{change['number']} in snow is not approved; asked there: ben" in reason, reason
    assert run.states()["implementation.wave_1"] == "upstream_failed"
    assert run.outcome()["running"] == {}, "nothing of it went to production"
    ended = authority.in_state(run, CANCELED)
    assert ended["close_code"] == "unsuccessful"
    assert authority.facts(ended)[-1] == "The release ended"


def test_a_rejection_there_is_a_rejection_here(stack: Stack, rita: Colleague, authority: ServiceNow) -> None:
    run = rita.release(NEW)
    accept(stack, run)
    approve_here(stack, run)
    change = authority.in_state(run, AUTHORIZE)
    authority.instance.decide(change, "cora", "rejected")
    assert run.finish() == "failed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("rejected", "rollout"), outcome
    assert f"{change['number']} in snow was rejected or cancelled, by cora" in outcome["reason"]
    authority.in_state(run, CANCELED)
    assert run.outcome()["running"] == {}, "nothing of it went to production"


def test_a_service_that_is_down_keeps_no_release_back_and_is_told_every_fact_once(
    stack: Stack, rita: Colleague, snow: ServiceNow
) -> None:
    snow.instance.approvals = False
    snow.becomes("mirror")
    snow.proxy.down = True
    run = rita.release(NEW)
    accept(stack, run)
    until("the frozen plan", lambda: run.result("rollout.freeze_plan"), within=900)
    snow.proxy.down = False
    frozen = snow.in_state(run, AUTHORIZE)["correlation_display"]
    snow.proxy.down = True
    approve(stack, run)
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    assert stack.production() == {NEW}
    snow.proxy.down = False
    change = snow.in_state(run, CLOSED)
    assert (change["close_code"], snow.instance.history[change["sys_id"]]) == ("successful", [*WAY])
    assert snow.facts(change) == [
        "Planned",
        "Functional acceptance",
        "Rollout plan frozen",
        "Board on the frozen rollout plan",
        "Implementation began",
        "Wave 1",
        "Wave 2",
        "Verified",
        "The release ended",
    ]
    assert [one["state"] for one in snow.tasks(change)] == [CLOSED_TASK, CLOSED_TASK]
    digest = run.result("rollout.await_board")["digest"]
    assert frozen.startswith(f"Interlock sha256:{digest} ")
    files = [one for one in snow.instance.files if one["table_sys_id"] == change["sys_id"]]
    assert [one["file_name"] for one in files] == [
        f"rollout-plan-{digest[:12]}.json",
        f"board-decision-{digest[:12]}.json",
    ]
