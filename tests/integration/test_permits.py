"""Permits on a real ledger: signed, for what they name, used once; and no connection without one."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.hosts.ssh import SshTransport
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.permits.issuer import POLL_INTERVAL, Admission, PermitIssuer
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.domain.errors import DigestMismatch, PolicyViolation
from interlock.domain.permits.permit import MAX_PERMIT_AGE
from interlock.domain.permits.production import Production
from interlock.estate.settings import Settings
from tests.integration.ledger_server import ledger_connection

CHAIN = "release/release_bike_shop/one"
HOST, OTHER_HOST = "127.20.0.11", "127.20.0.12"


@pytest.fixture(scope="module")
def ledger(server: Settings) -> Iterator[Ledger]:
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    generate_key(tmp_path / "key")
    return load_signer((tmp_path / "key").as_uri())


@pytest.fixture
def office(ledger: Ledger, signer: Signer) -> PermitIssuer:
    return PermitIssuer(signer, ledger, actor="release_bike_shop/implementation.wave_1")


def issue(office: PermitIssuer, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "purpose": "deploy",
        "chain": CHAIN,
        "environment": "production",
        "hosts": [HOST],
        "catalogue": "c" * 64,
        "service": "bike-shop",
        "wave": 1,
        "plan": "d" * 64,
        "bundle": "b" * 64,
    }
    return office.issue(**{**fields, **changes})


def redeem(office: PermitIssuer, envelope: dict[str, Any], *, environment: str = "production") -> Any:
    return office.redeem(envelope, purposes=("deploy",), environment=environment)


def test_a_permit_is_used_once_and_both_are_in_the_chain(office: PermitIssuer, ledger: Ledger) -> None:
    envelope = issue(office)
    permit = redeem(office, envelope)
    assert (permit.wave, permit.hosts, permit.chain) == (1, (HOST,), CHAIN)
    issued, used = ledger.entries(CHAIN, kind="permit.*")[-2:]
    assert (issued.kind, used.kind) == ("permit.issued", "permit.used")
    assert issued.payload["permit"] == used.payload["permit"] == permit.model_dump(mode="json")

    with pytest.raises(PolicyViolation, match=r"was already used by release_bike_shop/implementation\.wave_1"):
        redeem(office, envelope)
    entries = ledger.entries(CHAIN, kind="permit.used")
    assert [one.payload["permit"]["id"] for one in entries].count(permit.id) == 1


def test_of_many_who_show_one_permit_at_once_one_gets_in(office: PermitIssuer) -> None:
    envelope = issue(office)

    def tries(_: int) -> bool:
        try:
            return bool(redeem(office, envelope))
        except PolicyViolation:
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(tries, range(6))) == 1


def test_a_permit_for_something_else_is_refused_and_stays_unused(office: PermitIssuer) -> None:
    envelope = issue(office)
    with pytest.raises(PolicyViolation, match="issued for production"):
        redeem(office, envelope, environment="staging")
    with pytest.raises(PolicyViolation, match="issued to deploy"):
        office.redeem(envelope, purposes=("inspect",), environment="production")
    assert redeem(office, envelope)


def test_a_permit_that_was_changed_or_signed_by_another_is_refused(
    office: PermitIssuer, ledger: Ledger, tmp_path: Path
) -> None:
    envelope = issue(office)
    changed = copy.deepcopy(envelope)
    changed["payload"] = issue(office, hosts=[OTHER_HOST])["payload"]
    with pytest.raises(DigestMismatch):
        redeem(office, changed)
    generate_key(tmp_path / "forger")
    forger = PermitIssuer(load_signer((tmp_path / "forger").as_uri()), ledger, actor="mallory")
    with pytest.raises(DigestMismatch):
        redeem(office, issue(forger))


def test_something_else_that_was_signed_is_no_permit(office: PermitIssuer, signer: Signer) -> None:
    with pytest.raises(DigestMismatch, match="is not a permit"):
        redeem(office, signer.sign(b"{}", "application/vnd.in-toto+json"))


def test_a_permit_that_was_kept_too_long_is_refused(ledger: Ledger, signer: Signer, office: PermitIssuer) -> None:
    envelope = issue(office)
    later = PermitIssuer(signer, ledger, actor="later", clock=lambda: datetime.now(UTC) + MAX_PERMIT_AGE)
    with pytest.raises(PolicyViolation, match="it expired at"):
        redeem(later, envelope)


def test_what_halts_a_rollout_is_looked_for_between_two_hosts(ledger: Ledger, signer: Signer) -> None:
    late, looks = timedelta(), []

    def clock() -> datetime:
        return datetime.now(UTC) + late

    def halt() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise PolicyViolation("The wave is halted.")

    office = PermitIssuer(signer, ledger, actor="wave", clock=clock)
    admission = Admission.by_permit(
        "production", office, lambda: issue(office, hosts=[HOST, OTHER_HOST]), "deploy", halt=halt, clock=clock
    )
    asyncio.run(admission.admit(HOST))
    assert looks == [], "the permit was just given: all was looked at"
    late += POLL_INTERVAL * 2
    asyncio.run(admission.admit(HOST))
    asyncio.run(admission.admit(OTHER_HOST))
    assert looks == [1], "one look serves two seconds"
    late += POLL_INTERVAL * 2
    with pytest.raises(PolicyViolation, match="The wave is halted"):
        asyncio.run(admission.admit(OTHER_HOST))


def test_an_admission_asks_for_one_permit_for_all_its_hosts_and_for_another_when_it_has_ended(
    ledger: Ledger, signer: Signer
) -> None:
    late = timedelta()

    def clock() -> datetime:
        return datetime.now(UTC) + late

    office = PermitIssuer(signer, ledger, actor="wave", clock=clock)
    asked = []

    def ask() -> dict[str, Any]:
        asked.append(1)
        return issue(office, hosts=[HOST, OTHER_HOST])

    admission = Admission.by_permit("production", office, ask, "deploy", clock=clock)

    async def both() -> None:
        await asyncio.gather(admission.admit(HOST), admission.admit(OTHER_HOST))

    asyncio.run(both())
    assert len(asked) == 1
    late = MAX_PERMIT_AGE
    asyncio.run(admission.admit(HOST))
    assert len(asked) == 2


def test_without_a_permit_a_wave_is_not_even_begun(office: PermitIssuer, ledger: Ledger) -> None:
    def refuse() -> dict[str, Any]:
        raise PolicyViolation("No permit: everything is frozen.")

    with pytest.raises(PolicyViolation, match="everything is frozen"):
        Admission.by_permit("production", office, refuse, "deploy").begin()
    asked: list[int] = []

    def ask() -> dict[str, Any]:
        asked.append(1)
        return issue(office)

    admission = Admission.by_permit("production", office, ask, "deploy")
    admission.begin()
    asyncio.run(admission.admit(HOST))
    assert asked == [1], "the permit with which it began is the one for its hosts"
    Admission.sandbox("test", production=Production()).begin()


def test_an_admission_lets_to_no_host_that_its_permit_does_not_name(office: PermitIssuer) -> None:
    admission = Admission.by_permit("production", office, lambda: issue(office), "deploy")
    with pytest.raises(PolicyViolation, match=r"does not name 127\.20\.0\.12"):
        asyncio.run(admission.admit(OTHER_HOST))


def test_a_refused_permit_opens_nothing(office: PermitIssuer) -> None:
    def ask() -> dict[str, Any]:
        raise PolicyViolation("No permit: The release has ended.")

    with pytest.raises(PolicyViolation, match="The release has ended"):
        asyncio.run(Admission.by_permit("production", office, ask, "deploy").admit(HOST))


def test_only_a_sandbox_is_entered_without_a_permit() -> None:
    asyncio.run(Admission.sandbox("test", production=Production()).admit(HOST))
    with pytest.raises(PolicyViolation, match="production is not a sandbox"):
        Admission.sandbox("production", production=Production())
    with pytest.raises(PolicyViolation, match="No permit was shown"):
        asyncio.run(Admission("production").admit(HOST))


def test_the_door_to_hosts_opens_for_nobody_without_an_admission() -> None:
    with pytest.raises(PolicyViolation, match="it has no admission"):
        SshTransport(None, object())  # type: ignore[arg-type]
