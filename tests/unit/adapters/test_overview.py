"""The board's memory: what was read of ledger and catalogue is not read again, and what is new shows at once."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interlock.adapters.calendars.copies import CopiesThere
from interlock.adapters.overview.plans import KEPT, KnownPlans
from interlock.adapters.overview.records import MOST_UNREVIEWED, Records
from interlock.domain.errors import CatalogueError
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.kinds import (
    EMERGENCY_STOP_DECLARED,
    FINDING,
    FINDING_TOLD,
    FREEZE_OVERRIDDEN,
    RELEASE_ENDED,
    RELEASE_REVIEWED,
    TEST_DEPLOYED,
)
from interlock.locations import CATALOGUE
from tests.memory_ledger import MemoryLedger

RUN = "release_bike_shop/one"
CHAIN = release_chain("release_bike_shop", "one")


class CountingLedger(MemoryLedger):
    """A ledger that keeps which chains were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def among(self, chains: Collection[str], kinds: Collection[str]) -> tuple[Entry, ...]:
        self.asked += chains
        return super().among(chains, kinds)


def deploy(ledger: MemoryLedger, version: str) -> None:
    results = [{"host": "h", "outcome": "deployed", "after": f"{version}-0123456789ab"}]
    ledger.append(CHAIN, TEST_DEPLOYED, {"environment": "test", "results": results}, actor="t", key=version)


def differ(ledger: MemoryLedger, chain: str, host: str) -> None:
    evidence = {"service": "bike-shop", "environment": "production", "host": host}
    ledger.append(chain, FINDING, {"what": f"{host} differs.", "evidence": evidence}, actor="t", key=f"finding/{host}")


def version(records: Records, ledger: MemoryLedger, environment: str, *under_way: str) -> str | None:
    found = records.read(ledger, under_way).running.deployed("bike-shop", environment)
    return found.version if found else None


def test_a_release_is_read_while_it_is_under_way_and_once_more_when_it_has_ended() -> None:
    ledger, records = CountingLedger(), Records()
    deploy(ledger, "1.0.0")
    assert version(records, ledger, "test") is None, "Airflow has no run of it, and the ledger no end"
    assert version(records, ledger, "test", RUN) == "1.0.0"
    deploy(ledger, "1.0.1")
    ended = {"run": RUN, "service": "bike-shop", "version": "1.0.1", "outcome": "deployed"}
    ledger.append(INSTALLATION, RELEASE_ENDED, ended, actor="t", key="end")
    assert version(records, ledger, "test") == "1.0.1"
    assert version(records, ledger, "production") == "1.0.1"
    assert ledger.asked == [CHAIN, CHAIN]


def test_findings_are_read_from_the_chain_that_people_were_told_of() -> None:
    ledger, records = CountingLedger(), Records()
    differ(ledger, CHAIN, "a")
    differ(ledger, INSTALLATION, "b")
    ledger.append(INSTALLATION, FINDING_TOLD, {"chain": CHAIN, "key": "finding/a", "to": []}, actor="t", key="told")
    running = records.read(ledger, ()).running
    assert [one.host for one in running.differences("bike-shop", "production")] == ["a", "b"]
    records.read(ledger, ())
    assert ledger.asked == [CHAIN]


def test_what_could_not_be_read_is_read_by_the_next_request() -> None:
    class Broken(MemoryLedger):
        broken = True

        def among(self, chains: Collection[str], kinds: Collection[str]) -> tuple[Entry, ...]:
            if self.broken:
                raise CatalogueError("No connection.")
            return super().among(chains, kinds)

    ledger, records = Broken(), Records()
    deploy(ledger, "1.0.0")
    ended = {"run": RUN, "service": "bike-shop", "version": "1.0.0", "outcome": "rejected"}
    ledger.append(INSTALLATION, RELEASE_ENDED, ended, actor="t", key="end")
    with pytest.raises(CatalogueError):
        records.read(ledger, ())
    ledger.broken = False
    assert version(records, ledger, "test") == "1.0.0"


def test_stops_and_overrides_end() -> None:
    ledger, records, now = MemoryLedger(), Records(), datetime.now(UTC)
    stop = {"scope": "everything", "reason": "A fire in the hall", "by": "olga"}
    over = {"place": "enterprise.yaml/christmas", "service": "bike-shop", "environment": "production"}
    for name, until in (("over", now - timedelta(hours=1)), ("holds", now + timedelta(hours=1))):
        declared = {**stop, "id": name, "until": until.isoformat()}
        ledger.append(INSTALLATION, EMERGENCY_STOP_DECLARED, declared, actor="t", key=name)
        ledger.append(INSTALLATION, FREEZE_OVERRIDDEN, {**over, "until": until.isoformat()}, actor="t", key=f"o{name}")
    found = records.read(ledger, ())
    assert [one.id for one in found.stops] == ["holds"]
    assert {place: len(entries) for place, entries in found.overrides.items()} == {("bike-shop", "production"): 1}


def test_releases_without_a_review_are_kept_until_it_is_held() -> None:
    ledger, records = MemoryLedger(), Records()
    told = {"service": "bike-shop", "change_type": "emergency"}
    for number in range(MOST_UNREVIEWED + 2):
        ended = {**told, "run": f"release_bike_shop/{number}", "version": f"1.0.{number}", "outcome": "deployed"}
        ledger.append(INSTALLATION, RELEASE_ENDED, ended, actor="t", key=f"end {number}")
    failed = {**told, "run": "release_bike_shop/x", "version": "2.0.0", "outcome": "failed"}
    ledger.append(INSTALLATION, RELEASE_ENDED, failed, actor="t", key="failed")
    kept = records.read(ledger, ()).unreviewed["bike-shop"]
    assert [one.version for one in kept] == [f"1.0.{number}" for number in range(2, MOST_UNREVIEWED + 2)]
    ledger.append(INSTALLATION, RELEASE_REVIEWED, {"run": "release_bike_shop/5"}, actor="t", key="reviewed")
    assert "1.0.5" not in [one.version for one in records.read(ledger, ()).unreviewed["bike-shop"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CATALOGUE, tmp_path / "catalogue")
    return tmp_path / "catalogue"


def plans_of(folder: Path) -> KnownPlans:
    return KnownPlans(folder, lambda now: CopiesThere(folder / "copies", now=now))


def test_the_catalogue_is_read_again_when_a_file_of_it_changes(folder: Path) -> None:
    known, now = plans_of(folder), datetime.now(UTC)
    first = known.at(now)
    assert known.at(now) is first
    assert known.at(now + KEPT).catalogue is first.catalogue, "only the calendars are looked at again"
    file = folder / "services" / "bike-shop.yaml"
    file.write_text(file.read_text().replace("title: Bike shop\n", "title: The bike shop\n"))
    assert known.at(now).catalogue.services["bike-shop"].title == "The bike shop"
    file.write_text("name: [")
    assert "services/bike-shop.yaml" in known.at(now).faults[0]


def test_the_next_departure_is_that_of_a_train_that_departs_by_itself(folder: Path) -> None:
    now, file = datetime.now(UTC), folder / "trains" / "weekly.yaml"
    assert plans_of(folder).at(now).next_departures(now, frozenset()) == {}, "it is off schedule"
    file.write_text(file.read_text().replace("on_schedule: false", "on_schedule: true"))
    plans = plans_of(folder).at(now)
    found = plans.next_departures(now, frozenset())["bike-shop"]
    assert (found.train, found.at > now) == ("weekly", True)
    after = plans.next_departures(found.at, frozenset())["bike-shop"]
    assert after.at > found.at
    assert plans.next_departures(now, frozenset({"weekly"})) == {}


FREEZE = """\
title: Calendar
owner: o
time_zone: UTC
entries:
  - name: audit
    title: The yearly audit
    kind: freeze
    scope: {{ services: [bike-shop] }}
    from: {begin:%Y-%m-%dT%H:%M}
    until: {end:%Y-%m-%dT%H:%M}
"""


def test_a_freeze_closes_from_its_begin_to_its_end_although_answers_are_kept(folder: Path) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    begin, end = now + timedelta(minutes=5), now + timedelta(minutes=8)
    (folder / "calendars" / "audit.yaml").write_text(FREEZE.format(begin=begin, end=end))
    plans = plans_of(folder).at(now)
    service = plans.catalogue.services["bike-shop"]

    def closed(minutes: int) -> str:
        found = plans.closings.at(service, "production", now + timedelta(minutes=minutes), ())
        return found.what if found else ""

    before = closed(0)
    assert "audit" not in before
    assert [closed(minute) for minute in (4, 5, 7, 8)] == [before, *["The yearly audit"] * 2, before]
