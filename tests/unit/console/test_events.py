"""Events of other systems: the route of the console, and a ledger in memory."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.adapters.signing.witness import only_witnessed
from interlock.adapters.webhooks.signatures import secrets_in, signed_headers
from interlock.console.pages import events
from interlock.domain.calendars.stops import STOPS, stops_in_force
from interlock.domain.catalogue.outside.events import EventSource
from interlock.domain.errors import LedgerError, ReleaseError
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.events import open_incidents
from interlock.domain.ledger.findings import text_of_events
from interlock.domain.ledger.kinds import (
    EMERGENCY_STOP_DECLARED,
    EMERGENCY_STOP_LIFTED,
    EVENT_COUNTED,
    INCIDENT_SEEN,
    RECORD_ANSWERED,
    ROLLOUT_FROZEN,
)
from interlock.domain.outbox.authority import RecordRead, read_in_events, why_not_approved
from tests.asgi_server import asgi_server
from tests.factories.told_releases import chain_of, steps
from tests.memory_ledger import MemoryLedger
from tests.unit.domain import samples

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "a-secret-of-sixteen-characters-or-more"
SOURCE = {"connection": "pager", "types": ["incident.opened"], "stops": ["bike-shop"], "lasts": "PT2H"}


class Console:
    """The console's app, and what it left in the ledger."""

    def __init__(self) -> None:
        self.ledger, self.url = MemoryLedger(), ""

    def send(self, *, source: str = "pager", id: str = "msg-1", secret: str = SECRET, **changes: Any) -> Any:
        data = {"scope": "bike-shop", "reason": "Checkout fails", "incident": "INC-7", **changes.pop("data", {})}
        event = {
            "specversion": "1.0",
            "id": "e1",
            "source": "/pager",
            "type": "incident.opened",
            "data": data,
            **changes,
        }
        return self.post(json.dumps(event).encode(), source=source, id=id, secret=secret)

    def post(self, body: bytes, *, source: str = "pager", id: str = "msg-1", secret: str = SECRET) -> Any:
        headers = signed_headers(secrets_in(secret, "c"), id, datetime.now(UTC), body)
        return httpx.post(f"{self.url}/events/{source}", content=body, headers=headers)

    def kept(self, kind: Any) -> list[dict[str, Any]]:
        return [entry.payload for entry in self.ledger.entries(INSTALLATION, kind=kind)]


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    policy = samples.policy(events={"pager": SOURCE})
    monkeypatch.setattr(events, "load_rules", lambda _: (policy, None))
    found = {"pager": type("Connection", (), {"password": SECRET})}
    monkeypatch.setattr(events, "connection_of", lambda name: found[name])
    made = Console()
    app = FastAPI()
    app.state.open_ledger = lambda: made.ledger
    app.post("/events/{source}")(events.take_event)
    with asgi_server(app) as made.url:
        yield made


def test_an_incident_stops_rollouts_once(console: Console) -> None:
    answers = [console.send() for _ in range(2)]
    assert [one.json()["result"] for one in answers] == ["stopped", "known"]
    (stop,) = console.kept(EMERGENCY_STOP_DECLARED)
    assert (stop["scope"], stop["reason"], stop["incident"], stop["by"]) == (
        "bike-shop",
        "Checkout fails",
        "INC-7",
        "event.pager",
    )
    declared = console.ledger.entries(INSTALLATION, kind=STOPS)
    now = datetime.now(UTC)
    assert list(stops_in_force(declared, samples.service(), now))
    assert not list(stops_in_force(declared, samples.service(), now + timedelta(hours=2, seconds=1)))
    (counted,) = console.kept(EVENT_COUNTED)
    assert (counted["source"], counted["webhook"], counted["stop"]) == ("pager", "msg-1", stop["id"])


def test_a_webhook_that_comes_again_does_not_stop_again_what_people_lifted(console: Console) -> None:
    stop = console.send().json()["stop"]
    console.ledger.append(INSTALLATION, EMERGENCY_STOP_LIFTED, {"id": stop}, actor="rita", key="lifted")
    assert console.send().json() == {"result": "known", "stop": stop}
    assert not list(
        stops_in_force(console.ledger.entries(INSTALLATION, kind=STOPS), samples.service(), datetime.now(UTC))
    )


def test_a_wrong_signature_an_unknown_source_and_none_at_all_get_the_same_answer(console: Console) -> None:
    other = "whsec_" + "A" * 40
    answers = [console.send(secret=other), console.send(source="other"), httpx.post(f"{console.url}/events/pager")]
    assert {(one.status_code, one.text) for one in answers} == {(401, answers[0].text)}
    assert console.ledger.kept == {}


def test_an_event_that_is_too_large_is_not_read_to_its_end(console: Console) -> None:
    assert console.post(b" " * (events.MAX_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{" * 60_000, b'{"specversion": "0.3"}', b"\xff"],
    ids=["empty", "list", "deep", "another version", "no text"],
)
def test_what_is_no_event_is_refused(console: Console, body: bytes) -> None:
    assert console.post(body).status_code == 400
    assert console.ledger.kept == {}


def test_an_event_of_another_type_does_nothing(console: Console) -> None:
    assert console.send(type="incident.resolved").json()["result"] == "ignored"
    assert console.ledger.kept == {}


@pytest.mark.parametrize("scope", ["everything", "retail", "no-such-thing"])
def test_a_source_stops_only_what_policy_lets_it_stop(console: Console, scope: str) -> None:
    answer = console.send(data={"scope": scope})
    assert answer.status_code == 422
    assert "Rule: events.pager.stops, in policy.yaml." in answer.json()["detail"]
    assert console.ledger.kept == {}


def test_a_ledger_that_does_not_answer_has_the_event_sent_again(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LedgerError("The ledger at postgres://secret does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(console.ledger, "append_once", broken)
        answer = console.send()
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert console.send().json()["result"] == "stopped"


def test_without_its_secret_nothing_is_taken(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ReleaseError("no such connection")

    monkeypatch.setattr(events, "connection_of", broken)
    assert console.send().status_code == 503


def test_people_are_told_what_events_stopped(console: Console) -> None:
    console.send(data={"reason": "Checkout *fails*"})
    text = text_of_events(console.ledger.entries(INSTALLATION, kind=EVENT_COUNTED))
    assert r"Emergency stop of bike-shop by an event of pager: Checkout \*fails\*" in text


@pytest.fixture
def show(console: Console, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Have policy show incidents of a kind; what it returns says which are open for some scopes."""

    def shown(*scopes: str, **source: Any) -> list[str]:
        if source:
            policy = samples.policy(events={"pager": {**SOURCE, "types": [], **source}})
            monkeypatch.setattr(events, "load_rules", lambda _: (policy, None))
            secret = OTHER_SECRET if "kind" in source else SECRET
            monkeypatch.setattr(events, "connection_of", lambda _: type("Connection", (), {"password": secret}))
        return [*open_incidents(console.ledger.entries(INSTALLATION, kind=INCIDENT_SEEN), scopes, datetime.now(UTC))]

    return shown


def test_an_incident_is_shown_until_it_ends_and_stops_nothing(console: Console, show: Callable[..., list[str]]) -> None:
    show(shows=["incident.opened"], ends=["incident.resolved"])
    assert [console.send().json()["result"] for _ in range(2)] == ["shown", "known"]
    said = ["INC-7 of pager, about bike-shop: Checkout fails"]
    assert (show("bike-shop"), show(), show("other-shop")) == (said, said, [])
    assert console.kept(STOPS) == []
    assert console.send(id="msg-2", type="incident.resolved").json() == {"result": "ended"}
    assert show("bike-shop") == []
    (first, last) = console.kept(INCIDENT_SEEN)
    assert (first["ended"], last["ended"], first["body"] != last["body"]) == (False, True, True)


def test_an_incident_that_nobody_ends_is_shown_as_long_as_policy_says(
    console: Console, show: Callable[..., list[str]]
) -> None:
    show(shows=["incident.opened"], lasts="PT1H")
    console.send()
    seen = console.ledger.entries(INSTALLATION, kind=INCIDENT_SEEN)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert (len(open_incidents(seen, (), datetime.now(UTC))), open_incidents(seen, (), later)) == (1, ())


def pagerduty(console: Console, type: str, secret: str = OTHER_SECRET, service: str = "PSHOP") -> Any:
    incident = {"id": "Q1", "title": "Checkout fails", "service": {"id": service, "summary": "Shop"}}
    body = json.dumps({"event": {"id": f"e-{type}", "event_type": type, "data": incident}}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-PagerDuty-Signature": f"v1=0000,v1={signature}"}
    return httpx.post(f"{console.url}/events/pager", content=body, headers=headers)


def test_an_incident_of_pagerduty_is_shown_and_can_stop(console: Console, show: Callable[..., list[str]]) -> None:
    mapped = {"kind": "pagerduty", "services": {"PSHOP": "bike-shop"}}
    show(shows=["incident.triggered"], ends=["incident.resolved"], **mapped)
    assert pagerduty(console, "incident.triggered", secret="a" * 20).status_code == 401
    assert "no service" in pagerduty(console, "incident.triggered", service="POTHER").json()["why"]
    assert console.ledger.kept == {}
    assert pagerduty(console, "incident.triggered").json() == {"result": "shown"}
    assert show("bike-shop") == ["Q1 of pager, about bike-shop: Checkout fails"]
    assert pagerduty(console, "incident.resolved").json() == {"result": "ended"}
    assert show("bike-shop") == []
    show(types=["incident.triggered"], **mapped)
    assert pagerduty(console, "incident.triggered").json()["result"] == "stopped"
    assert [one["incident"] for one in console.kept(EMERGENCY_STOP_DECLARED)] == ["Q1"]


def test_an_alert_of_opsgenie_is_shown_by_its_tag(console: Console, show: Callable[..., list[str]]) -> None:
    show(kind="opsgenie", services={"shop": "bike-shop"}, shows=["Create"], ends=["Close"])

    def send(action: str, secret: str = OTHER_SECRET) -> Any:
        alert = {"alertId": "a1", "message": "Checkout fails", "tags": ["web", "shop"], "updatedAt": 1}
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.post(f"{console.url}/events/pager", json={"action": action, "alert": alert}, headers=headers)

    assert send("Create", secret="b" * 20).status_code == 401
    assert [send("Create").json()["result"] for _ in range(2)] == ["shown", "known"]
    assert show("bike-shop") == ["a1 of pager, about bike-shop: Checkout fails"]
    assert (send("Close").json(), show("bike-shop")) == ({"result": "ended"}, [])


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"event": []}', b'{"event": {"data": {"service": 1}}}'])
def test_what_is_no_event_of_pagerduty_is_refused(
    console: Console, show: Callable[..., list[str]], body: bytes
) -> None:
    show(kind="pagerduty", services={"P": "bike-shop"}, shows=["incident.triggered"])
    signature = hmac.new(OTHER_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-PagerDuty-Signature": f"v1={signature}"}
    assert httpx.post(f"{console.url}/events/pager", content=body, headers=headers).status_code == 400
    assert console.ledger.kept == {}


APPROVES = {
    "connection": "pager",
    "system": "erp",
    "approves": ["change.approved"],
    "rejects": ["change.rejected"],
    "withdraws": ["change.withdrawn"],
}


class Authority:
    """A release whose plan is frozen, and another system that may approve it by events."""

    def __init__(self, console: Console, key: bytes) -> None:
        self.console, self.key, self.chain = console, key, chain_of(1)
        self.known = {"ben", "cora", "rita"}
        self.plan = samples.rollout(2)

    def begins(self, chain: str = "", system: str = "erp", mode: str = "authority", number: int = 4) -> None:
        """Have a release's chain up to the board's decision."""
        for place, (kind, payload) in enumerate([*steps(records={system: mode})][:number]):
            self.console.ledger.append(chain or self.chain, kind, payload, actor="rita", key=f"{kind}/{place}")

    def sends(self, state: str = "approved", *, user: str = "ben", minutes: float = 0, **changes: Any) -> Any:
        """Send an event of the other system; ``minutes``: after now."""
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        about = {"release": self.chain, "plan": self.plan.digest, "user": user, **changes.pop("data", {})}
        id = changes.pop("id", f"{state}-{user}-{minutes}")
        given = {"type": f"change.{state}", "time": at.isoformat(), **changes}
        return self.console.send(data=about, id=id, **given)

    def read(self, sources: tuple[str, ...] = ("pager",)) -> RecordRead:
        """Return what tasks read of it."""
        entries = only_witnessed(self.console.ledger.entries(self.chain), self.key)
        return read_in_events("erp", entries, sources, self.plan.digest)

    def why_not(self, **changes: Any) -> str:
        """Return why it does not approve the release; empty: it does."""
        frozen = next(one.at for one in self.console.ledger.entries(self.chain) if one.kind == ROLLOUT_FROZEN)
        about = {"service_accounts": ("robot",), "people": {}, "known": self.known, "frozen_at": frozen}
        return why_not_approved(self.read(), self.plan, **{**about, **changes})


@pytest.fixture
def authority(console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Authority:
    monkeypatch.setattr(events, "load_rules", lambda _: (samples.policy(events={"pager": APPROVES}), None))
    generate_key(tmp_path / "witness.pem")
    monkeypatch.setenv("INTERLOCK_WITNESS_KEY", (tmp_path / "witness.pem").as_uri())
    made = Authority(console, load_signer((tmp_path / "witness.pem").as_uri()).public_key)
    made.begins()
    return made


def test_a_person_approves_by_an_event_takes_it_back_and_approves_again(authority: Authority) -> None:
    assert "is not approved" in authority.why_not()
    assert authority.sends().json() == {"result": "approved"}
    assert authority.why_not() == ""
    assert authority.sends("withdrawn", minutes=1).json() == {"result": "withdrawn"}
    assert "is not approved" in authority.why_not()
    assert authority.sends(minutes=2).json() == {"result": "approved"}
    assert authority.why_not() == ""
    authority.sends("rejected", user="cora")
    assert "was rejected or cancelled, by cora" in authority.why_not()


def test_an_approval_that_was_sent_before_counts_once_and_not_after_its_withdrawal(authority: Authority) -> None:
    answers = [authority.sends(minutes=-2), authority.sends("withdrawn", minutes=-1), authority.sends(minutes=-2)]
    assert [one.json()["result"] for one in answers] == ["approved", "withdrawn", "known"]
    late = authority.sends(minutes=-2, id="another webhook of the same approval".replace(" ", "-"))
    assert late.json() == {"result": "approved"}
    assert "is not approved" in authority.why_not(frozen_at=datetime.min.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"plan": "0" * 64}}, "is about the plan 000000000000"),
        ({"data": {"release": chain_of(2)}}, "is no release that waits for an approval"),
        ({"data": {"release": "installation"}}, "is no release that waits for an approval"),
        ({"data": {"release": chain_of(3)}}, "does not make erp an authority"),
        ({"data": {"release": chain_of(4)}}, "is no release that waits for an approval"),
        ({"data": {"release": chain_of(5)}}, "does not make erp an authority"),
        ({"minutes": 60}, "more than five minutes ahead"),
        ({"time": None}, "more than five minutes ahead"),
    ],
    ids=["other plan", "unknown", "no release", "mirror", "ended", "of another system", "tomorrow", "no time"],
)
def test_an_event_about_something_else_approves_nothing(
    authority: Authority, changes: dict[str, Any], said: str
) -> None:
    authority.begins(chain_of(3), mode="mirror")
    authority.begins(chain_of(4), number=99)
    authority.begins(chain_of(5), system="snow")
    before = {chain: len(entries) for chain, entries in authority.console.ledger.kept.items()}
    answer = authority.sends(**changes)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert {chain: len(entries) for chain, entries in authority.console.ledger.kept.items()} == before


def test_an_event_without_the_secret_or_of_another_source_approves_nothing(authority: Authority) -> None:
    assert authority.sends(secret="whsec_" + "A" * 40).status_code == 401
    assert authority.sends(type="incident.opened").json()["result"] == "ignored"
    assert authority.sends(data={"plan": "all"}).status_code == 400
    assert "is not approved" in authority.why_not()


@pytest.mark.parametrize(
    "changes",
    [{"user": "robot"}, {"user": "rita"}, {"user": "mallory"}, {"user": "ben", "data": {"set_by": "robot"}}],
    ids=["service account", "requester", "unknown", "set by another account"],
)
def test_an_approval_counts_only_of_a_person_who_may_give_it(authority: Authority, changes: dict[str, Any]) -> None:
    authority.known.add("robot")
    assert authority.sends(**changes).json() == {"result": "approved"}
    assert "no approval counts" in authority.why_not()
    assert authority.sends(user="cora").json() == {"result": "approved"}
    assert authority.why_not() == ""


def test_what_the_api_server_did_not_sign_and_a_source_that_policy_dropped_approve_nothing(
    authority: Authority,
) -> None:
    authority.sends(user="rita")
    (entry,) = [one for one in authority.console.ledger.entries(authority.chain) if one.kind == RECORD_ANSWERED]
    forged = {**entry.payload, "user": "ben", "set_by": "ben"}
    authority.console.ledger.append(authority.chain, RECORD_ANSWERED, forged, actor="event.pager", key="forged")
    assert "no approval counts" in authority.why_not()
    authority.sends()
    assert authority.why_not() == ""
    assert not authority.read(sources=("other",)).approved


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"withdraws": []}, "who can approve can take it back"),
        ({"system": ""}, "system"),
        ({"rejects": ["change.approved"]}, "change.approved must be in one of"),
        ({"kind": "pagerduty", "services": {"a": "bike-shop"}}, "events of pagerduty approve nothing"),
        ({"types": ["incident.opened"]}, "stops: must say"),
    ],
)
def test_a_source_that_approves_is_described_whole(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EventSource.model_validate({**APPROVES, **changes})
