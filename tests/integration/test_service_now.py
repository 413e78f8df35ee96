"""Releases as changes of ServiceNow, against a stateful server; and through a proxy that breaks 30 % of all calls."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.adapters.outbox.delivering import deliver
from interlock.adapters.servicenow.approvals import read_approvals
from interlock.adapters.servicenow.changes import Changes, plan_in
from interlock.adapters.servicenow.instance import open_instance
from interlock.domain.catalogue import ChangeType
from interlock.domain.errors import AssetMissing, DeliveryRefused, SystemBusy
from interlock.domain.ledger.chain import release_chain
from interlock.domain.outbox.authority import why_not_approved
from interlock.domain.outbox.delivery import Cursor, Delivery, correlation_of
from interlock.domain.outbox.facts import Statement, records_of, statements
from interlock.domain.outbox.systems_file import ServiceNow
from tests import service_now as server
from tests.factories.told_releases import chain_of, chained, signed, steps, train_steps
from tests.service_now import Instance, serving
from tests.unit.domain import samples

CHAIN = chain_of(1)
DESCRIBED = ServiceNow.model_validate(
    {
        "kind": "servicenow",
        "connection": "service_now",
        "calls_per_second": 1000,
        "states": {
            "planned": server.NEW,
            "assessed": [server.ASSESS, server.AUTHORIZE],
            "scheduled": server.SCHEDULED,
            "implementing": server.IMPLEMENT,
            "review": server.REVIEW,
            "closed": server.CLOSED,
            "cancelled": server.CANCELED,
        },
        "task_states": {"open": server.OPEN_TASK, "closed": server.CLOSED_TASK, "failed": server.CANCELED_TASK},
        "templates": {"small-patch": server.TEMPLATE},
        "configuration_items": {"bike-shop": "f" * 32},
    }
)


def connection(url: str, **changes: Any) -> SimpleNamespace:
    fields = {"host": url, "port": None, "schema": None, "conn_type": "http"}
    login = {"login": server.USER, "password": server.PASSWORD, "extra_dejson": {}}
    return SimpleNamespace(**{**fields, **login, **changes})


@contextmanager
def opened(answers: Any, described: ServiceNow = DESCRIBED, **changes: Any) -> Iterator[Changes]:
    with serving(answers) as url:
        api = open_instance(connection(url, **changes))
        try:
            yield Changes(api, described)
        finally:
            api.close()


def told(end: str = "deployed", **changes: Any) -> tuple[Statement, ...]:
    entries = chained(CHAIN, steps(end, **changes))
    return statements(entries, signed(entries))


def delivered(system: Changes, said: tuple[Statement, ...]) -> Delivery:
    kept = [Delivery(system="snow", chain=CHAIN, correlation=correlation_of("snow", CHAIN))]
    return deliver(kept[0], said, system, kept.append)


@pytest.mark.parametrize(
    ("end", "way", "code"),
    [
        ("deployed", "-5 -4 -3 -2 -1 0 3", "successful"),
        ("backed_out", "-5 -4 -3 -2 -1 0 3", "unsuccessful"),
        ("rejected", "-5 4", "unsuccessful"),
        ("withdrawn", "-5 4", "unsuccessful"),
        ("failed", "-5 4", "unsuccessful"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["model", "legacy"])
def test_a_change_goes_through_the_states_of_its_model(end: str, way: str, code: str, legacy: bool) -> None:
    instance, said = Instance(legacy=legacy), told(end)
    with opened(instance) as system:
        done = delivered(system, said)
    ((sys_id, change),) = instance.changes.items()
    assert (done.error, done.number, done.told) == ("", "CHG0030001", said[-1].told)
    assert instance.history[sys_id] == way.split()
    assert change["close_code"] == code
    assert instance.journal[sys_id] == ["\n\n".join(one.text for one in said)], "what waited is told at once"
    assert len(instance.tasks) == (2 if way.endswith("3") else 0), "a change that is cancelled gets no tasks"
    assert Cursor.read(change["correlation_display"]) == said[-1].told


def test_a_change_has_what_an_auditor_reads() -> None:
    instance, said = Instance(), told()
    with opened(instance) as system:
        delivered(system, said)
    (change,) = instance.changes.values()
    plan = said[-1].change.plan
    assert change["short_description"] == "Release bike-shop 1.1.0 to production"
    assert change["cmdb_ci"] == "f" * 32
    assert change["start_date"] < change["end_date"]
    assert change["work_start"] < change["work_end"]
    assert plan_in(change["correlation_display"]) == plan
    assert [task["state"] for task in instance.tasks.values()] == [server.CLOSED_TASK] * 2
    names = [one["file_name"] for one in instance.files]
    assert names == [f"rollout-plan-{plan[:12]}.json", f"board-decision-{plan[:12]}.json"] if plan else []
    assert hashlib.sha256(instance.files[0]["content"]).hexdigest() == plan


def test_each_change_type_is_made_by_its_own_way() -> None:
    instance = Instance()
    with opened(instance) as system:
        for number, kind in enumerate((ChangeType.NORMAL, ChangeType.EMERGENCY, ChangeType.STANDARD)):
            (planned, *_) = told(change_type=kind)
            change = planned.change.model_copy(update={"template": "small-patch"})
            system.create(f"c{number}", planned.model_copy(update={"change": change}))
    assert [one["type"] for one in instance.changes.values()] == ["normal", "emergency", "standard"]


def test_a_template_without_its_counterpart_is_refused_with_what_to_do() -> None:
    (planned, *_) = told(change_type=ChangeType.STANDARD)
    planned = planned.model_copy(update={"change": planned.change.model_copy(update={"template": "small-patch"})})
    described = DESCRIBED.model_copy(update={"templates": {}})
    with opened(Instance(), described) as system, pytest.raises(DeliveryRefused, match="add small-patch to templates"):
        system.create("c", planned)


def test_a_condition_that_people_have_to_meet_waits_and_says_which() -> None:
    instance, said = Instance(approvals=True), told()
    with opened(instance) as system:
        waiting = delivered(system, said)
        assert waiting.state == "failing"
        assert "CHG0030001 cannot go from Authorize to Scheduled in ServiceNow yet" in waiting.error
        assert "Approved" in waiting.error
        assert waiting.intent is None
        (change,) = instance.changes.values()
        for person in instance.approvers:
            instance.decide(change, person, "approved")
        assert deliver(waiting, said, system, lambda one: None).told == said[-1].told


def test_a_change_that_was_not_approved_in_time_is_cancelled_when_the_release_ends() -> None:
    instance, said = Instance(approvals=True), told("withdrawn")
    with opened(instance) as system:
        decided = [one.event for one in said].index("decided")
        open_yet = tuple(one.model_copy(update={"is_late": False}) for one in said[: decided + 1])
        waiting = delivered(system, open_yet)
        assert "Approved" in waiting.error
        done = deliver(waiting, said, system, lambda one: None)
    (sys_id,) = instance.changes
    assert (done.error, done.told) == ("", said[-1].told)
    assert instance.history[sys_id] == ["-5", "-4", "-3", "4"]
    assert "\n\n".join(instance.journal[sys_id]) == "\n\n".join(one.text for one in said)


@pytest.mark.parametrize(
    ("train", "way", "code", "tasks"),
    [
        ({}, "-5 -4 -3 -2 -1 0 3", "successful", [server.CLOSED_TASK, server.CLOSED_TASK]),
        ({"lost": "till"}, "-5 -4 -3 -2 -1 0 3", "unsuccessful", [server.CANCELED_TASK, server.CLOSED_TASK]),
        ({"departs": False}, "-5 -4 -3 4", "unsuccessful", [server.CANCELED_TASK, server.CANCELED_TASK]),
    ],
    ids=["arrived", "one lost", "rejected"],
)
def test_a_train_is_one_change_with_its_passengers_as_tasks(
    train: dict[str, Any], way: str, code: str, tasks: list[str]
) -> None:
    instance, entries = Instance(), chained(release_chain("train_shops", "r"), train_steps(**train))
    assert records_of(entries) == {"snow": "mirror"}
    with opened(instance) as system:
        for number in range(1, len(entries) + 1):  # as they come
            said = statements(entries[:number], number)
            done = delivered(system, said)
    (change,) = instance.changes.values()
    assert (done.error, change["close_code"]) == ("", code)
    assert instance.history[change["sys_id"]] == way.split()
    named = [one["short_description"].rpartition(": ")[2] for one in instance.tasks.values()]
    assert named == ["till 1.4.0", "bike-shop 2.0.0"]
    assert [one["state"] for one in instance.tasks.values()] == tasks
    assert instance.files[0]["file_name"].startswith("manifest-")
    assert hashlib.sha256(instance.files[0]["content"]).hexdigest() == plan_in(change["correlation_display"])


def test_a_mandatory_field_is_named_to_people() -> None:
    with opened(Instance(mandatory=("u_cost_centre",))) as system:
        assert "u_cost_centre is mandatory" in delivered(system, told()).error
    described = DESCRIBED.model_copy(update={"fields": {"u_cost_centre": "4711"}})
    with opened(Instance(mandatory=("u_cost_centre",)), described) as system:
        assert delivered(system, told()).error == ""


def test_what_was_told_before_is_not_told_again() -> None:
    instance, said = Instance(), told()
    with opened(instance) as system:
        delivered(system, said)
        before = instance.requests
        delivered(system, said)  # the row was lost, say
    assert instance.requests == before + 1
    assert len(instance.changes) == 1


def test_documents_and_tasks_that_are_there_are_not_made_again() -> None:
    instance, said = Instance(), told()
    frozen = next(one for one in said if one.event == "frozen")
    with opened(instance) as system:
        remote = system.create("c", said[0])
        for _ in range(2):  # the answer to the note was lost, say
            system.change(remote, frozen)
            (remote,) = system.find("c")
    assert (len(instance.files), len(instance.tasks)) == (1, 2)


def test_a_duplicate_is_cancelled_and_says_what_it_is() -> None:
    instance, said = Instance(), told()
    with opened(instance) as system:
        for _ in range(2):
            system.create(correlation_of("snow", CHAIN), said[0])
        done = delivered(system, said)
    first, second = instance.changes.values()
    assert done.number == first["number"]
    assert (first["state"], second["state"]) == (server.CLOSED, server.CANCELED)
    assert first["number"] in second["close_notes"]


def test_a_quota_is_met_with_the_time_that_the_instance_names() -> None:
    with opened(Instance(quota=1, window=600)) as system:
        system.find("a")
        with pytest.raises(SystemBusy) as refused:
            system.find("b")
    assert refused.value.until is not None


def test_client_credentials_are_exchanged_for_a_token_and_again_when_it_is_refused() -> None:
    instance = Instance()
    extra = {"client_id": server.CLIENT, "client_secret": server.SECRET}
    with opened(instance, login=None, password=None, extra_dejson=extra) as system:
        system.find("a")
        instance.tokens.clear()
        instance.tokens.add("of somebody else")
        system.find("b")
    wrong = {**extra, "client_secret": "x"}
    with (
        opened(Instance(), login=None, password=None, extra_dejson=wrong) as system,
        pytest.raises(DeliveryRefused, match="401"),
    ):
        system.find("a")


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({"host": ""}, "a host"),
        ({"password": ""}, "login and password"),
        ({"host": "http://example.service-now.com"}, "not encrypted"),
        ({"extra_dejson": {"client_id": "x"}, "password": ""}, "client_secret"),
    ],
)
def test_a_connection_that_cannot_be_used_says_what_it_lacks(changes: dict[str, Any], lacks: str) -> None:
    with pytest.raises(AssetMissing, match=lacks):
        open_instance(connection("http://127.0.0.1:1", **changes))


def approved_by(instance: Instance, system: Changes, **by: str) -> str:
    """Tell of a release up to its board's decision, and have people answer; return the sys_id of the change."""
    delivered(system, told()[:3])
    (change,) = instance.changes.values()
    for person in instance.approvers:
        instance.decide(change, person, "approved", by=by.get(person, ""), at="2026-03-02 10:00:00")
    return str(change["sys_id"])


PLAN = samples.rollout(2)
FROZEN_AT = datetime(2026, 3, 2, 9, 2, tzinfo=UTC)
NOBODY: dict[str, Any] = {"service_accounts": {server.USER}, "people": {}, "known": {"ben", "cora", "rita"}}


def test_an_approval_counts_with_who_when_and_on_which_plan() -> None:
    instance = Instance(approvals=True)
    with opened(instance) as system:
        read = read_approvals(system.api, "snow", approved_by(instance, system), server.CANCELED)
    assert (read.number, read.plan, read.approved, read.rejected) == ("CHG0030001", PLAN.digest, True, False)
    assert {(one.user, one.set_by) for one in read.answers} == {("ben", "ben"), ("cora", "cora")}
    assert why_not_approved(read, PLAN, frozen_at=FROZEN_AT, **NOBODY) == ""


def test_an_approval_that_somebody_else_set_or_that_came_before_counts_for_nobody() -> None:
    instance = Instance(approvals=True)
    with opened(instance) as system:
        sys_id = approved_by(instance, system, ben=server.USER, cora="admin")
        read = read_approvals(system.api, "snow", sys_id, server.CANCELED)
    assert "no approval counts" in why_not_approved(read, PLAN, frozen_at=FROZEN_AT, **NOBODY)
    own = read.model_copy(
        update={"answers": tuple(one.model_copy(update={"set_by": one.user}) for one in read.answers)}
    )
    assert why_not_approved(own, PLAN, frozen_at=FROZEN_AT, **NOBODY) == ""
    late = datetime(2026, 3, 2, 11, tzinfo=UTC)
    assert "no approval counts" in why_not_approved(own, PLAN, frozen_at=late, **NOBODY)
    accounts = {**NOBODY, "service_accounts": {"ben", "cora"}}
    assert "no approval counts" in why_not_approved(own, PLAN, frozen_at=FROZEN_AT, **accounts)
    same = {**NOBODY, "people": {"ben": PLAN.requested_by, "cora": PLAN.requested_by}}
    assert "no approval counts" in why_not_approved(own, PLAN, frozen_at=FROZEN_AT, **same)
    strangers = {**NOBODY, "known": {"rita"}}  # either may be the requester under another name
    assert "no approval counts" in why_not_approved(own, PLAN, frozen_at=FROZEN_AT, **strangers)
    named = {**strangers, "known": {"rita", "benjamin"}, "people": {"ben": "benjamin"}}
    assert why_not_approved(own, PLAN, frozen_at=FROZEN_AT, **named) == ""


def test_a_withdrawn_approval_another_plan_and_a_rejection_are_named() -> None:
    instance = Instance(approvals=True)
    with opened(instance) as system:
        sys_id = approved_by(instance, system)
        other = samples.rollout(3)
        read = read_approvals(system.api, "snow", sys_id, server.CANCELED)
        assert f"but this is {other.digest[:12]}" in why_not_approved(read, other, frozen_at=FROZEN_AT, **NOBODY)
        instance.decide(instance.changes[sys_id], "ben", "requested")
        read = read_approvals(system.api, "snow", sys_id, server.CANCELED)
        assert "is not approved" in why_not_approved(read, PLAN, frozen_at=FROZEN_AT, **NOBODY)
        instance.decide(instance.changes[sys_id], "ben", "rejected")
        read = read_approvals(system.api, "snow", sys_id, server.CANCELED)
        assert "rejected or cancelled, by ben" in why_not_approved(read, PLAN, frozen_at=FROZEN_AT, **NOBODY)
