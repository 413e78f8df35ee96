"""Production by another name: what a sandbox is given, without a permit, is not production's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook

from interlock.adapters.hosts.fleet import Deployment, deploy_hosts, ssh_login
from interlock.adapters.permits.issuer import Admission
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain.calendars.bookings import Entered
from interlock.domain.permits.on_hosts import NAMESPACE, ShownPermit, permit_text
from interlock.domain.permits.permit import MAX_PERMIT_AGE, Permit
from interlock.domain.permits.production import Production
from interlock.domain.records import Host, HostResult
from tests.deployments import WithToken
from tests.end_to_end.stack import Stack
from tests.local_host import make_local_release

from .people import BROKEN
from .suite import ADMIN, OWNER, attack

HOST = "a production host verifies the permit itself, with keys that are installed there"
PLACE = "what belongs to a production environment of any service is reached with a permit only, whatever it is called"


@contextmanager
def edited(stack: Stack, connection: str, extra: dict[str, Any]) -> Iterator[None]:
    """Have an administrator change a connection for as long as this lasts."""
    admin = stack.person("admin")
    path = f"connections/{connection}"
    before = admin.get(path)["extra"]

    def write(text: str) -> None:
        about = {"connection_id": connection, "conn_type": "ssh", "extra": text}
        assert admin.send("PATCH", f"{path}?update_mask=extra", about).status_code == 200

    write(json.dumps({**json.loads(before), **extra}))
    try:
        yield
    finally:
        write(before)


@attack("give the test environment production's login, and rehearse there", by=ADMIN, way="API", stopped=PLACE)
def test_no_rehearsal_has_productions_login(stack: Stack) -> None:
    settings = stack.settings
    theirs = {
        "key_file": str(settings.deployer_key("production")),
        "known_hosts": str(settings.known_hosts("production")),
    }
    with edited(stack, "interlock_test_hosts", theirs):
        release = stack.person("rita").release(BROKEN, rehearsal=True)
        assert release.finish() == "failed"
        reason = release.outcome()["reason"]
        assert "the key of the login belongs to production of bike-shop" in reason


@attack(
    "deploy to production's hosts as to test hosts, with production's login and without a permit",
    by=OWNER,
    way="host",
    stopped=HOST,
)
def test_a_production_host_refuses_a_visit_without_a_permit(stack: Stack, tmp_path: Path) -> None:
    results = visited(stack, tmp_path, Admission.sandbox("test", production=Production()), "test")
    assert len(results) == 3
    for result in results:
        assert "is a host of production, and it refused to be changed: it was shown no permit" in result.error
    assert stack.production() == {"1.0.0"}


@attack(
    "deploy to production's hosts with a permit that another key signed",
    by=OWNER,
    way="host",
    stopped=HOST,
)
def test_a_production_host_refuses_a_forged_permit(stack: Stack, tmp_path: Path) -> None:
    generate_key(tmp_path / "forger")
    admission, now = WithToken(1_000_000), datetime.now(UTC)
    permit = Permit(
        id="0" * 32,
        purpose="deploy",
        chain="release/attack/forged",
        environment="production",
        hosts=tuple(host.address for host in hosts_of(stack)),
        catalogue="c" * 64,
        issued_at=now,
        expires_at=now + MAX_PERMIT_AGE,
        entered=Entered(place="booking/production/bike-shop", token=admission.token),
    )
    text = permit_text(permit)
    forged = load_signer((tmp_path / "forger").as_uri()).sign_for_ssh(text.encode(), NAMESPACE)
    admission._shown = ShownPermit(text, forged)
    results = visited(stack, tmp_path, admission, "production")
    assert len(results) == 3
    for result in results:
        assert "permit-keys signed the permit" in result.error
    assert stack.production() == {"1.0.0"}


def hosts_of(stack: Stack) -> list[Host]:
    return [
        Host(instance_id=one.id, name=one.name, address=one.address, zone="eu-central-1a")
        for one in stack.hosts("production")
    ]


def visited(stack: Stack, folder: Path, admission: Admission, environment: str) -> tuple[HostResult, ...]:
    """Have the product's own code change production's hosts."""
    release = make_local_release(folder / "release", "6.6.6", {"version": "6.6.6"}, "")
    about = release.contents
    deployment = Deployment(
        service="bike-shop",
        environment=environment,
        deployment_id="release_bike_shop/attack",
        deploy_root="srv/bike-shop",
        release=about.release,
        version=about.version,
        commit=about.commit,
        sha256=about.sha256,
        bundle=release.bundle,
        keep_releases=3,
        health=None,
        drain_timeout=timedelta(seconds=1),
    )
    login = ssh_login(BaseHook.get_connection("interlock_hosts"))
    return asyncio.run(deploy_hosts(hosts_of(stack), deployment, login=login, admission=admission, balancer=None))
