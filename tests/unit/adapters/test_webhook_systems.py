"""Receivers of webhooks in ``systems.yaml``, and the form that sends their events again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from interlock.adapters.catalogue.systems import load_systems, unknown_systems_of
from interlock.adapters.outbox.registry import open_system
from interlock.adapters.webhooks.sending import Webhooks
from interlock.domain.errors import RequestRefused
from interlock.domain.outbox.retrying import parse_retry
from tests.unit.domain import samples

FILE = "systems:\n  data: { kind: webhook, connection: data_events }\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "systems.yaml").write_text(FILE)
    return tmp_path


def test_a_receiver_is_a_system(folder: Path) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    connection = Connection(conn_id="data_events", conn_type="http", host="https://data.example/in", password=secret)
    assert isinstance(open_system(load_systems(folder).systems["data"], connection), Webhooks)


@pytest.mark.parametrize(
    ("mode", "said"), [("mirror", []), ("authority", ["no source under events of policy.yaml approves for data"])]
)
def test_a_receiver_decides_nothing(folder: Path, mode: str, said: list[str]) -> None:
    flows = {**samples.FLOWS, "normal": {"board": "cab", "records": {"data": mode}}}
    found = [str(one) for one in unknown_systems_of(samples.policy(change_types=flows), folder)]
    assert len(found) == len(said)
    assert all(part in one for part, one in zip(said, found, strict=True))


def test_events_are_sent_again_for_one_release() -> None:
    asked: dict[str, Any] = {"system": "data", "reason": "the receiver lost its data", "replay": True}
    with pytest.raises(RequestRefused, match="of which release"):
        parse_retry(asked, ["data"])
    assert parse_retry({**asked, "run": "1.4.0__2026"}, ["data"]).replay
