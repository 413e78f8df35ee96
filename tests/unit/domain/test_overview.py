"""The board: what each environment runs by entries of the ledger, and what a row says of a service."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from interlock.domain.calendars.calendar import Calendars
from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.dag_names import dags_of_service
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.kinds import (
    DEPLOYMENT_FAILED,
    FINDING,
    PATH_DEPLOYED,
    RELEASE_ENDED,
    TEST_DEPLOYED,
    VERSION_MARKED_BAD,
    VERSION_MARKED_GOOD,
    VERSION_PINNED,
    VERSION_UNPINNED,
)
from interlock.domain.overview.board import Circumstances, Closings, Marks, Seen, flight_of, row_of
from interlock.domain.overview.running import MAX_DIFFERENCES, Running
from tests.factories import releases
from tests.memory_ledger import MemoryLedger

AT = releases.AT
OLD, NEW = "release_bike_shop/old", "release_bike_shop/new"


def told(kind: str, payload: dict[str, Any], chain: str = INSTALLATION, after: int = 0) -> Entry:
    """Return an entry of a ledger, so many minutes after the first."""
    at = AT + timedelta(minutes=after)
    return MemoryLedger().append(chain, kind, payload, actor="test", key=f"{chain}/{kind}/{after}", at=at)


def ended(run: str, version: str, outcome: str = "deployed", after: int = 0) -> Entry:
    payload = {"run": run, "service": "bike-shop", "version": version, "outcome": outcome}
    return told(RELEASE_ENDED, payload, after=after)


def deployed(
    version: str, *outcomes: str, kind: str = TEST_DEPLOYED, after: int = 0, environment: str = "test"
) -> Entry:
    results = [{"host": "h", "outcome": one, "after": f"{version}-0123456789ab"} for one in outcomes or ("deployed",)]
    return told(kind, {"environment": environment, "results": results}, release_chain(*NEW.split("/")), after)


def differs(host: str, after: int = 0) -> Entry:
    evidence = {"service": "bike-shop", "environment": "production", "host": host}
    return told(FINDING, {"what": f"{host} runs another release.", "evidence": evidence}, after=after)


def known(*entries: Entry) -> Running:
    running = Running()
    running.take(entries)
    return running


def test_production_runs_what_was_deployed_last_in_whatever_order_entries_come() -> None:
    entries = [ended(OLD, "1.0.0"), ended(NEW, "1.1.0", after=5), ended("release_bike_shop/x", "2.0.0", "rejected", 9)]
    for some in (entries, entries[::-1], [*entries, *entries]):
        found = known(*some).deployed("bike-shop", "production")
        assert found is not None
        assert (found.version, found.dag_id, found.run_id, found.certain) == ("1.1.0", "release_bike_shop", "new", True)
        assert found.since == AT + timedelta(minutes=5)
    assert known(*entries).deployed("repair-shop", "production") is None


def test_after_a_release_that_failed_it_is_not_certain_what_production_runs() -> None:
    found = known(ended(OLD, "1.0.0"), ended(NEW, "1.1.0", "failed", 5)).deployed("bike-shop", "production")
    assert found is not None
    assert (found.version, found.certain) == ("1.0.0", False)
    again = known(ended(NEW, "1.1.0", "failed", 5), ended(OLD, "1.2.0", after=6)).deployed("bike-shop", "production")
    assert again is not None
    assert again.certain
    back = known(ended(OLD, "1.0.0"), ended(NEW, "1.1.0", "backed_out", 5)).deployed("bike-shop", "production")
    assert back is not None
    assert (back.version, back.certain) == ("1.0.0", True)


def test_an_environment_before_production_runs_what_a_release_left_there() -> None:
    running = known(deployed("1.1.0"), deployed("1.2.0", kind=PATH_DEPLOYED, environment="staging", after=2))
    test, staging = running.deployed("bike-shop", "test"), running.deployed("bike-shop", "staging")
    assert test is not None
    assert staging is not None
    assert (test.version, staging.version, staging.run_id) == ("1.1.0", "1.2.0", "new")
    some = known(deployed("1.1.0", "deployed", "failed")).deployed("bike-shop", "test")
    assert some is not None
    assert not some.certain


def test_after_a_deployment_that_failed_it_is_not_certain_what_an_environment_runs() -> None:
    failed = deployed("1.2.0", "deployed", "failed", kind=DEPLOYMENT_FAILED, after=2)
    found = known(deployed("1.1.0"), failed).deployed("bike-shop", "test")
    assert found is not None
    assert (found.version, found.certain) == ("1.1.0", False)
    again = known(failed, deployed("1.1.0"), deployed("1.2.0", after=3)).deployed("bike-shop", "test")
    assert again is not None
    assert (again.version, again.certain) == ("1.2.0", True)


@pytest.mark.parametrize("results", [[], None, [{"host": "h", "outcome": "failed", "after": None}]])
def test_a_deployment_that_reached_no_host_changes_nothing(results: Any) -> None:
    entry = told(TEST_DEPLOYED, {"environment": "test", "results": results}, release_chain(*NEW.split("/")))
    assert known(entry).deployed("bike-shop", "test") is None


def test_hosts_differ_by_findings_since_the_last_deployment() -> None:
    running = known(differs("a", 1), ended(NEW, "1.1.0", after=5), differs("b", 6), differs("b", 7))
    assert [(one.host, one.at) for one in running.differences("bike-shop", "production")] == [
        ("b", AT + timedelta(minutes=7))
    ]
    many = known(*(differs(f"host-{number}", number) for number in range(2 * MAX_DIFFERENCES)))
    assert len(many.differences("bike-shop", "production")) == MAX_DIFFERENCES
    assert known(told(FINDING, {"what": "x", "evidence": "a text"})).differences("bike-shop", "production") == ()


def mark(kind: str, version: str, after: int) -> Entry:
    about = {"service": "bike-shop", "environment": "production", "version": version, "by": "rita", "reason": "Slow"}
    return told(kind, about, after=after)


def test_the_last_mark_and_the_last_pin_count() -> None:
    marks = Marks([mark(VERSION_MARKED_BAD, "1.0.0", 0), mark(VERSION_PINNED, "1.1.0", 1)])
    assert [one.version for one in marks.bad("bike-shop", "production")] == ["1.0.0"]
    pin = marks.pin("bike-shop", "production")
    assert pin is not None
    assert (pin.version, pin.by, pin.reason) == ("1.1.0", "rita", "Slow")
    taken = Marks(
        [
            mark(VERSION_MARKED_BAD, "1.0.0", 0),
            mark(VERSION_PINNED, "1.1.0", 1),
            mark(VERSION_MARKED_GOOD, "1.0.0", 2),
            mark(VERSION_UNPINNED, "1.1.0", 3),
        ]
    )
    assert (taken.bad("bike-shop", "production"), taken.pin("bike-shop", "production")) == ((), None)


def flight(state: str = "running", *tasks: tuple[str, str], paused: bool = False) -> Any:
    return flight_of(
        dag_id="release_bike_shop",
        run_id="now",
        state=state,
        version="2.0.0",
        requested_by="rita",
        since=AT,
        paused=paused,
        tasks=[Seen(task_id=task, state=one) for task, one in tasks],
        rollback=False,
    )


@pytest.mark.parametrize(
    ("found", "state", "stage"),
    [
        (flight("queued"), "queued", ""),
        (flight("running", ("quality.run_suites", "running")), "runs", "quality"),
        (
            flight("running", ("rollout.cast_ballot", "awaiting_input"), ("rollout.await_board", "deferred")),
            "asks",
            "rollout",
        ),
        (flight("running", ("quality.run_case", "awaiting_input"), ("quality.soak", "running")), "runs", "quality"),
        (flight("running", ("implementation.await_start", "deferred")), "waits", "implementation"),
        (flight("running", ("build.build_artifact", "up_for_retry")), "retries", "build"),
        (flight("running", ("build.build_artifact", "running"), paused=True), "paused", "build"),
        (flight("running", ("a_task_of_others", "running")), "runs", ""),
    ],
)
def test_a_flight_says_in_which_stage_it_is_and_what_it_does(found: Any, state: str, stage: str) -> None:
    assert (found.state, found.stage) == (state, stage)
    assert bool(found.stage_number) == bool(stage)


def circumstances(**other: Any) -> Circumstances:
    fields: dict[str, Any] = {
        "now": AT + timedelta(hours=1),
        "running": Running(),
        "marks": Marks(()),
        "stops": (),
        "overrides": {},
        "closings": Closings(Calendars(())),
        "ways": {"bike-shop": ("test", "production")},
        "departures": {},
        "flights": {},
    }
    return Circumstances(**{**fields, **other})


def test_a_row_has_the_states_that_it_can_be_filtered_by() -> None:
    service = releases.service()
    row = row_of(service, dags_of_service(service.name), circumstances())
    assert (row.states, [one.environment for one in row.cells]) == (("never_released",), ["test", "production"])
    stop = EmergencyStop(
        id="s", scope="everything", reason="A fire in the hall", by="olga", until=AT + timedelta(days=1)
    )
    full = circumstances(
        running=known(ended(NEW, "1.1.0"), differs("a", 1), ended(OLD, "1.2.0", "failed", 2)),
        marks=Marks([mark(VERSION_MARKED_BAD, "1.0.0", 0), mark(VERSION_PINNED, "1.1.0", 1)]),
        stops=(stop,),
        flights={"release_bike_shop": [flight("queued")]},
    )
    row = row_of(service, dags_of_service(service.name), full)
    assert row.states == ("in_flight", "waiting", "drift", "uncertain", "marked", "pinned", "closed")
    test, production = row.cells
    assert test.closed is None, "an emergency stop halts rollouts to production"
    assert production.closed is not None
    assert production.closed.what.startswith("Emergency stop of everything")


def test_calendars_that_cannot_be_read_close_every_environment() -> None:
    service = releases.service()
    closed = circumstances(closings=Closings(Calendars((), ["enterprise.yaml is not YAML."])))
    for cell in row_of(service, dags_of_service(service.name), closed).cells:
        assert cell.closed is not None
        assert "enterprise.yaml is not YAML." in cell.closed.what
