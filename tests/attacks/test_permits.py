"""With permits: the installation's real key and its real ledger, and a permit in the wrong hands."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import BaseHook
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.permits.issuer import Admission, PermitIssuer
from interlock.adapters.signing.signing import Signer
from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import ClockError, DigestMismatch, LostRight, PolicyViolation
from interlock.domain.ledger.chain import release_chain
from interlock.domain.permits.permit import MAX_PERMIT_AGE
from interlock.domain.permits.production import Production
from interlock.estate.settings import SERVICE
from interlock.stages.runtime import resources
from tests.end_to_end.people import Release

from . import wave
from .suite import FREE, HOST, MANAGER, attack

pytestmark = pytest.mark.timeout(1800)
Envelope = dict[str, Any]
PRODUCTION = "production"
DEPLOY = {"purposes": ("deploy",), "environment": PRODUCTION}


OPEN = "release/attack/open"
"""A chain that has not ended: one that has gets no permit at all."""


def issued(office: PermitIssuer, release: Release, *, wave_number: int = 1, chain: str = OPEN) -> Envelope:
    """Return a permit for one wave of a release, as if all had held."""
    plan = wave.plan_of(release)
    return office.issue(
        purpose="deploy",
        chain=chain,
        environment=PRODUCTION,
        service=SERVICE,
        hosts=[host.address for host in plan.waves[wave_number - 1]],
        catalogue=plan.policy_digest,
        wave=wave_number,
        plan=plan.digest,
        bundle=plan.bundle.sha256,
    )


def rolled(by: timedelta) -> Callable[[], datetime]:
    """Return a clock that is wrong by so much."""
    return lambda: datetime.now(UTC) + by


@attack("use a permit twice", by=HOST, way="code", stopped="its use is an entry in the ledger, and there is only one")
def test_a_permit_is_used_once(rejected: Release) -> None:
    with wave.office() as office:
        permit = issued(office, rejected)
        office.redeem(permit, **DEPLOY)
    with wave.office() as another, pytest.raises(PolicyViolation, match="was already used by attacker"):
        another.redeem(permit, **DEPLOY)


@attack(
    "use a permit that a finished task used, found in the ledger",
    by=HOST,
    way="ledger",
    stopped="it is used, and it was to inspect",
)
def test_a_permit_on_record_opens_nothing(rejected: Release) -> None:
    found = [one.payload["envelope"] for one in wave.entries(rejected, "permit.issued")][:1]
    assert found
    with wave.office() as office:
        with pytest.raises(PolicyViolation, match="it was issued to inspect"):
            office.redeem(found[0], **DEPLOY)
        with pytest.raises(PolicyViolation, match=r"was already used|it expired at"):
            office.redeem(found[0], purposes=("inspect",), environment=PRODUCTION)


@attack(
    "give a release a permit that has ended",
    by=HOST,
    way="code",
    stopped="the ledger's database lets nobody enter whose release has ended",
)
def test_a_release_that_has_ended_gets_no_permit(rejected: Release) -> None:
    chain = release_chain(rejected.dag_id, rejected.id)
    with wave.office() as office, pytest.raises(LostRight, match="has ended and cannot enter"):
        issued(office, rejected, chain=chain)


@attack("use a permit for another wave", by=HOST, way="code", stopped="a permit names its hosts")
def test_a_permit_is_for_its_wave(rejected: Release) -> None:
    plan = wave.plan_of(rejected)
    with wave.office() as office:
        permit = issued(office, rejected, wave_number=1)
        admission = Admission.by_permit(PRODUCTION, office, lambda: permit, "deploy")
        for host in plan.waves[1]:
            with pytest.raises(PolicyViolation, match=f"does not name {host.address}"):
                asyncio.run(admission.admit(host.address))


@attack("use a permit for another environment", by=HOST, way="code", stopped="a permit names its environment")
def test_a_permit_is_for_its_environment(rejected: Release) -> None:
    with wave.office() as office, pytest.raises(PolicyViolation, match="it was issued for production"):
        office.redeem(issued(office, rejected), purposes=("deploy",), environment="elsewhere")


@attack("use a permit later", by=HOST, way="clock", stopped="a permit holds for a quarter of an hour")
def test_a_permit_ends(rejected: Release) -> None:
    with wave.office() as office:
        permit = issued(office, rejected)
    late = rolled(MAX_PERMIT_AGE + timedelta(seconds=1))
    with wave.office(clock=late) as later, pytest.raises(PolicyViolation, match="it expired at"):
        later.redeem(permit, **DEPLOY)


@attack(
    "give out a permit from the future, to be used then",
    by=HOST,
    way="clock",
    stopped="a permit from later than now is none",
)
def test_a_permit_from_later_is_none(rejected: Release) -> None:
    with wave.office(clock=rolled(timedelta(hours=6))) as ahead:
        permit = issued(ahead, rejected)
    with wave.office() as office, pytest.raises(PolicyViolation, match="which is in the future"):
        office.redeem(permit, **DEPLOY)


@attack(
    "roll the clock back until an old permit holds again",
    by=HOST,
    way="clock",
    stopped="its use must be recorded, and the ledger takes no time that is not its database's",
)
def test_a_clock_that_was_rolled_back_revives_no_permit(rejected: Release) -> None:
    with wave.office(clock=rolled(-MAX_PERMIT_AGE - timedelta(minutes=1))) as before:
        old = issued(before, rejected)
    back = rolled(timedelta(minutes=-10))
    with open_ledger(BaseHook.get_connection(resources.LEDGER), clock=back) as ledger:
        office = PermitIssuer(resources.signer(), ledger, actor="attacker", clock=back)
        with pytest.raises(ClockError, match="clock of this machine"):
            office.redeem(old, **DEPLOY)


@attack(
    "roll the clock back a little, to date an entry before the one it follows",
    by=HOST,
    way="clock",
    stopped="time does not go backwards in a chain",
)
def test_an_entry_is_not_dated_back(rejected: Release) -> None:
    chain = OPEN
    with wave.ledger() as ledger:
        ledger.append(chain, "note", {}, actor="attacker", key="now")
    back = rolled(timedelta(minutes=-4))
    with (
        open_ledger(BaseHook.get_connection(resources.LEDGER), clock=back) as ledger,
        pytest.raises(ClockError) as said,
    ):
        ledger.append(chain, "board.decided", {"approved": True}, actor="attacker", key="earlier")
    assert "an entry is not earlier than the entry before it" in str(said.value)


@attack(
    "use a permit that another installation signed",
    by=FREE,
    way="code",
    stopped="only the installation's own key signs permits",
)
def test_anothers_permit_is_none(rejected: Release) -> None:
    with wave.ledger() as ledger:
        theirs = issued(PermitIssuer(Signer(Ed25519PrivateKey.generate()), ledger, actor="another"), rejected)
    with wave.office() as office, pytest.raises(DigestMismatch, match="signature is not valid"):
        office.redeem(theirs, **DEPLOY)


@attack("write more hosts into a signed permit", by=HOST, way="code", stopped="its signature does not hold any more")
def test_an_edited_permit_is_none(rejected: Release) -> None:
    with wave.office() as office:
        permit = issued(office, rejected)
        said = json.loads(base64.b64decode(permit["payload"]))
        said["hosts"] = [host.address for host in wave.plan_of(rejected).hosts]
        edited = {**permit, "payload": base64.b64encode(canonical_bytes(said)).decode()}
        with pytest.raises(DigestMismatch, match="signature is not valid"):
            office.redeem(edited, **DEPLOY)


@attack(
    "show something else that the installation signed as a permit",
    by=HOST,
    way="code",
    stopped="what is signed says what it is",
)
def test_a_signed_head_is_no_permit(rejected: Release) -> None:
    with wave.ledger() as ledger:
        head = ledger.heads(release_chain(rejected.dag_id, rejected.id))[-1]
    with wave.office() as office, pytest.raises(DigestMismatch, match="is not a permit"):
        office.redeem(head.envelope, **DEPLOY)


@attack("call production a sandbox, which needs no permit", by=MANAGER, way="code", stopped="only test is a sandbox")
def test_production_is_no_sandbox() -> None:
    with pytest.raises(PolicyViolation, match="production is not a sandbox"):
        Admission.sandbox(PRODUCTION, production=Production())
    with pytest.raises(PolicyViolation, match="No permit was shown"):
        asyncio.run(Admission(PRODUCTION).admit("127.43.0.11"))
