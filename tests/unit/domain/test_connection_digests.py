"""What the connections of a release are, by digest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection

from interlock.domain.permits.connections import changes, digests_of, fields_of

KEY = b"a secret of the installation"
USUAL: dict[str, Any] = {
    "conn_type": "ssh",
    "host": "bastion.example.com",
    "login": "deploy",
    "password": "hunter2",
    "schema": "",
    "port": 22,
    "extra": {
        "key_file": "/keys/production",
        "known_hosts": "/keys/known_hosts",
        "private_key_passphrase": "swordfish",
    },
}


def connection(**edits: Any) -> Connection:
    about = {**USUAL, **edits}
    return Connection(conn_id="interlock_hosts", **{**about, "extra": json.dumps(about["extra"])})


def digests(**edits: Any) -> Any:
    return digests_of({"interlock_hosts": fields_of(connection(**edits))}, KEY)


@pytest.mark.parametrize(
    ("edits", "field"),
    [
        ({"conn_type": "aws"}, "type"),
        ({"host": "evil.example.com"}, "host"),
        ({"login": "root"}, "login"),
        ({"port": 2222}, "port"),
        ({"schema": "other"}, "schema"),
        ({"extra": {**USUAL["extra"], "known_hosts": "/tmp/mine"}}, "extra.known_hosts"),
        ({"extra": {**USUAL["extra"], "no_host_key_check": True}}, "extra.no_host_key_check"),
    ],
)
def test_each_edit_of_what_a_connection_is_is_named_by_its_field(edits: dict[str, Any], field: str) -> None:
    assert changes(digests(), digests()) == ()
    (said,) = changes(digests(), digests(**edits))
    assert said == (
        f"The connection interlock_hosts is not what it was when the plan was frozen: it differs in {field}."
    )


@pytest.mark.parametrize(
    "edits", [{"password": "rotated"}, {"extra": {**USUAL["extra"], "private_key_passphrase": "rotated"}}]
)
def test_a_new_password_leads_to_the_same_place(edits: dict[str, Any]) -> None:
    assert changes(digests(), digests(**edits)) == ()


def test_a_connection_that_came_or_went_is_named() -> None:
    nothing = digests_of({"interlock_hosts": {}}, KEY)
    assert "interlock_hosts was deleted" in changes(digests(), nothing)[0]
    assert "interlock_hosts was created" in changes(nothing, digests())[0]
    assert changes(nothing, digests_of({}, KEY)) == ()


def test_digests_by_another_key_accuse_no_connection() -> None:
    other = digests_of({"interlock_hosts": fields_of(connection())}, b"another secret")
    (said,) = changes(digests(), other)
    assert "cannot be compared" in said
    assert "interlock_hosts" not in said


def test_a_plan_from_before_connections_were_recorded_is_compared_with_nothing() -> None:
    assert changes(None, digests()) == ()


def test_a_reader_of_digests_finds_no_value_without_the_key() -> None:
    """The same value has another digest in each field, each connection and each installation."""
    fields = {"host": "22", "port": "22"}
    found = [digests_of({name: fields}, key).of[name] for name in ("a", "b") for key in (KEY, b"another")]
    every = [digest for one in found for digest in one.values()]
    assert len(set(every)) == len(every) == 8
    text = digests().model_dump_json()
    assert not [value for value in ("bastion", "deploy", "hunter2", "swordfish", "/keys") if value in text]
