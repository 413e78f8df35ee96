"""What the catalogue's services want of the estate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.catalogue import Service
from interlock.estate.settings import Settings
from interlock.estate.world.memory import KeptGroup, KeptInstance, KeptListener, Memory, file_of, read_memory
from interlock.estate.world.wanted import embedded_aws, signature, wanted, wanted_of
from interlock.locations import PROJECT

EMBEDDED = frozenset({"interlock_aws"})


def service(**production: Any) -> Service:
    """Return a service whose production is described so."""
    known = load_catalogue(PROJECT / "include" / "catalogue").services["bike-shop"]
    data = {**known.model_dump(by_alias=True), "name": "bakery"}
    data["environments"]["test"]["hosts"] = {"App": "bakery", "Stage": "test"}
    data["environments"]["production"] |= {"hosts": {"App": "bakery"}, "target_group": "bakery", **production}
    data["environments"]["production"]["hosts"].setdefault("Stage", "live")
    return Service.model_validate(data)


def test_the_sample_has_its_hosts_already() -> None:
    found = wanted_of(Settings())
    assert found.fleets == ()
    assert {group.name for group in found.groups} == {"bike-shop-production"}
    assert found.elsewhere == ()


def test_hosts_are_wanted_by_the_tags_that_the_file_names_and_productions_come_first() -> None:
    found = wanted([service()], EMBEDDED)
    described = [(one.name, one.environment, one.tags, one.size, one.group) for one in found.fleets]
    assert described == [
        ("bakery-production", "production", {"App": "bakery", "Stage": "live"}, 3, "bakery"),
        ("bakery-test", "test", {"App": "bakery", "Stage": "test"}, 1, None),
    ]
    assert [(one.name, one.port, one.path, one.balanced) for one in found.groups] == [("bakery", 8400, "/health", True)]


def test_a_canary_has_its_groups_and_no_load_balancer_forwards_to_them() -> None:
    canary = {"traffic": "10%", "target_group": "bakery-canary", "baseline_target_group": "bakery-base"}
    found = wanted([service(strategy="canary", canary=canary)], EMBEDDED)
    assert {one.name: one.balanced for one in found.groups} == {
        "bakery": True,
        "bakery-canary": False,
        "bakery-base": False,
    }


def test_hosts_that_a_release_creates_itself_are_not_made_before() -> None:
    launch = {"image_id": "ami-0b1c7c1e", "instance_type": "t3.micro"}
    found = wanted([service(missing="create", launch=launch)], EMBEDDED)
    assert [one.name for one in found.fleets] == ["bakery-test"]
    assert [one.name for one in found.groups] == ["bakery"]


def test_an_account_that_is_not_embedded_gets_nothing_and_is_named() -> None:
    found = wanted([service(aws="company_aws")], EMBEDDED)
    assert [one.name for one in found.fleets] == ["bakery-test"]
    assert found.groups == ()
    assert found.elsewhere == ("bakery, production: its AWS connection company_aws does not lead to the embedded AWS",)


def test_the_delivered_connection_leads_to_the_embedded_aws_wherever_that_listens() -> None:
    assert embedded_aws(Settings()) == embedded_aws(Settings(aws_port=5999)) == EMBEDDED


def test_a_changed_catalogue_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    settings = Settings(state=tmp_path / "state", catalogue=tmp_path)
    before = signature(settings)
    assert signature(settings) == before
    (tmp_path / "services" / "bakery.yaml").write_text("name: bakery\n")
    assert signature(settings) != before


def test_what_was_kept_and_cannot_be_read_is_put_aside_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(state=tmp_path)
    assert read_memory(settings) == Memory()
    assert not caplog.records
    file_of(settings).parent.mkdir(parents=True)
    file_of(settings).write_text('{"schema_version": 2}')
    assert read_memory(settings) == Memory()
    assert "does not come back" in caplog.text
    assert json.loads(file_of(settings).with_suffix(".unusable").read_text()) == {"schema_version": 2}


def test_the_sample_can_be_forgotten_and_nothing_else_is() -> None:
    hosts = tuple(
        KeptInstance(address=address, tags={"Service": name}, type="t3.micro", zone="a", stopped=False)
        for address, name in (("127.0.0.1", "bike-shop"), ("127.0.0.2", "bakery"))
    )
    group = KeptGroup(name="both", protocol="HTTP", port=80, path="/", targets=("127.0.0.1", "127.0.0.2"))
    listeners = tuple(
        KeptListener(balancer=name, scheme="internal", protocol="HTTP", port=80, forward={"both": 1})
        for name in ("bike-shop-production", "bike-shop-b2b")
    )
    left = Memory(instances=hosts, groups=(group,), listeners=listeners).without("bike-shop", "bike-shop-production")
    assert left.instances == hosts[1:]
    assert left.placed == {"127.0.0.2"}
    assert [one.balancer for one in left.listeners] == ["bike-shop-b2b"]
