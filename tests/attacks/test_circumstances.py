"""After the vote: what is changed around an approved release before its first wave.

One approved release waits for support to acknowledge its training. What is changed is changed for real, a permit is
asked for as the wave's task asks, and it is changed back; at the end, everything is in the release's way at once, and
Airflow is let go on.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from interlock.adapters.signing.signing import generate_key
from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, EMERGENCY_STOP_LIFTED
from interlock.estate.settings import SERVICE
from interlock.estate.world import aws
from interlock.stages.runtime import resources
from tests.end_to_end.people import Release, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import NEW, OLD, approved, go
from .suite import ADMIN, AUTHOR, AWS, ENGINEER, HOST, KEEPER, MANAGER, MEMBER, NAMES, OWNER, attack, case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.attacks]
FREEZE_IN = timedelta(minutes=15)
"""By then the release is approved, and everything has been tried that is not the freeze, on a slow machine, too."""
INSTANCES = "the instances of production are compared with those of the plan before each wave"
CHANGED = "The rules of this release changed after it started: "


class Changes:
    """What is changed about a stack, and how it was."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.catalogue = stack, stack.settings.catalogue

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """Have a file of the catalogue say something else for a block."""
        path = self.catalogue / name
        before = path.read_text()
        assert before.count(old) == 1, f"{name} says {old!r} {before.count(old)} times"
        path.write_text(before.replace(old, new))
        try:
            yield
        finally:
            path.write_text(before)

    @contextmanager
    def added(self, name: str, text: str) -> Iterator[None]:
        """Have another file in the catalogue for a block."""
        path = self.catalogue / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        try:
            yield
        finally:
            path.unlink()

    @contextmanager
    def without_cora(self) -> Iterator[None]:
        """Have a board without one of those who approved for a block, and nothing that asks for her."""
        with (
            self.edited("board.yaml", "[ben, cora, dan, rita]", "[ben, dan, rita]"),
            self.edited("board.yaml", "      veto: [cora]", "      veto: [dan]"),
            self.edited("board.yaml", "operations: 1, security: 1 }\n\n# Delegates", "operations: 1 }\n\n# Delegates"),
        ):
            yield

    @contextmanager
    def bundle(self, release: Release, data: bytes | None) -> Iterator[None]:
        """Have other bytes, or none, in the place of the bundle for a block."""
        path = Path(urlsplit(wave.plan_of(release).bundle.uri).path)
        before, mode = path.read_bytes(), path.stat().st_mode
        path.chmod(0o600)
        path.unlink() if data is None else path.write_bytes(data)
        try:
            yield
        finally:
            path.write_bytes(before)
            path.chmod(mode)

    @contextmanager
    def stopped(self, scope: str) -> Iterator[None]:
        """Have an emergency stop for a block."""
        until = datetime.now(UTC) + timedelta(hours=1)
        stop = EmergencyStop(id=token_hex(4), scope=scope, reason="The warehouse burns", by="olga", until=until)
        self._record(EMERGENCY_STOP_DECLARED, stop.model_dump(mode="json"), stop.id)
        try:
            yield
        finally:
            self._record(
                EMERGENCY_STOP_LIFTED, {"id": stop.id, "scope": scope, "by": "olga", "reason": "It is out"}, stop.id
            )

    @contextmanager
    def another_port(self, database: AirflowDatabase, connection: str) -> Iterator[None]:
        """Have a connection lead to another port for a block, of which Airflow's audit log has no row."""
        edit = "UPDATE connection SET port = %s WHERE conn_id = %s"
        database.run(edit, self.stack.settings.ssh_port + 1, connection)
        try:
            yield
        finally:
            database.run(edit, self.stack.settings.ssh_port, connection)

    @contextmanager
    def another_instance(self, address: str = "10.99.0.1") -> Iterator[None]:
        """Have one instance more in production for a block; the estate makes no host of it."""
        tags = {"Name": "one-more", "Service": SERVICE, "Environment": "production"}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        with closing(aws.client(self.stack.settings, "ec2")) as ec2:
            made = ec2.run_instances(
                ImageId=aws.IMAGE,
                InstanceType=aws.INSTANCE_TYPE,
                MinCount=1,
                MaxCount=1,
                PrivateIpAddress=address,
                TagSpecifications=[{"ResourceType": "instance", "Tags": listed}],
            )
            try:
                yield
            finally:
                ec2.terminate_instances(InstanceIds=[one["InstanceId"] for one in made["Instances"]])

    @contextmanager
    def tags_moved(self) -> Iterator[None]:
        """Have an instance of production in another environment for a block, by its tags."""
        one = self.stack.hosts("production")[0]
        with closing(aws.client(self.stack.settings, "ec2")) as ec2:

            def say(environment: str) -> None:
                ec2.create_tags(Resources=[one.id], Tags=[{"Key": "Environment", "Value": environment}])

            say("elsewhere")
            try:
                yield
            finally:
                say("production")

    @contextmanager
    def another_host_key(self) -> Iterator[None]:
        """Have another key for each host of production for a block, as if other machines answered at their addresses.

        The estate writes its own file anew at once. So the connection of this process leads to another file.
        """
        known = self.stack.settings.known_hosts("production").read_text()
        with TemporaryDirectory() as folder:
            public = Ed25519PrivateKey.generate().public_key()
            text = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
            others = Path(folder) / "known_hosts"
            others.write_text("".join(f"{line.split()[0]} {text}\n" for line in known.splitlines() if line))
            with self._connection("INTERLOCK_HOSTS", known_hosts=str(others)):
                yield

    @contextmanager
    def another_signing_key(self) -> Iterator[None]:
        """Have this process, which asks for permits as a task does, sign and verify with another key for a block."""
        with TemporaryDirectory() as folder:
            generate_key(Path(folder) / "signing.pem")
            with self._connection("INTERLOCK_SIGNING_KEY", host=(Path(folder) / "signing.pem").as_uri()):
                yield

    @contextmanager
    def _connection(self, name: str, *, host: str = "", **extra: str) -> Iterator[None]:
        variable = f"AIRFLOW_CONN_{name}"
        said = json.loads(os.environ[variable])
        if host:
            said["host"] = host
        if extra:
            kept = said.get("extra") or "{}"
            changed = {**(json.loads(kept) if isinstance(kept, str) else kept), **extra}
            said["extra"] = json.dumps(changed) if isinstance(kept, str) else changed
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, json.dumps(said))
            yield

    def _record(self, kind: str, payload: dict[str, object], key: str) -> None:
        with wave.ledger() as ledger:
            ledger.append(INSTALLATION, kind, payload, actor="olga", key=f"{kind}/{key}")


@pytest.fixture(scope="module")
def changes(stack: Stack) -> Changes:
    return Changes(stack)


def freeze(title: str, begins: datetime) -> str:
    """Return a calendar with a day's freeze."""
    first, last = (at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (begins, begins + timedelta(days=1)))
    entry = f"{{ name: freeze, title: {title}, kind: freeze, from: {first}, until: {last} }}"
    return f"title: Freezes\nowner: the office\ntime_zone: UTC\nentries:\n  - {entry}\n"


@pytest.fixture(scope="module")
def freeze_begins(changes: Changes) -> Iterator[datetime]:
    """Have a freeze in a calendar from before the release was asked for; it begins after the vote."""
    begins = datetime.now(UTC) + FREEZE_IN
    with changes.added("calendars/stocktaking.yaml", freeze("Stocktaking", begins)):
        yield begins


@pytest.fixture(scope="module")
def waiting(stack: Stack, freeze_begins: datetime) -> Release:
    """A release that is approved, and waits for support."""
    return approved(stack)


def test_the_release_would_get_a_permit_if_nothing_happened(waiting: Release, freeze_begins: datetime) -> None:
    assert wave.refusal(waiting) == ""
    assert datetime.now(UTC) < freeze_begins, "the machine is too slow: the freeze has begun already"


Change = Callable[[Changes, Release], AbstractContextManager[None]]


def edit(name: str, old: str, new: str) -> Change:
    """Return a change of the catalogue."""
    return lambda changes, release: changes.edited(name, old, new)


BIKE_SHOP = "services/bike-shop.yaml"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        case(
            lambda changes, release: changes.bundle(release, b"something else"),
            "The bundle has the digest",
            what="replace the artifact's bytes in the store",
            by=HOST,
            way="store",
            stopped="its bytes are read again before each wave",
        ),
        case(
            lambda changes, release: changes.bundle(release, None),
            "The bundle is not in the artifact store",
            what="delete the artifact from the store",
            by=HOST,
            way="store",
            stopped="its bytes are read again before each wave",
        ),
        case(
            edit(BIKE_SHOP, "    count: 3\n", "    count: 2\n"),
            CHANGED,
            what="change the hosts in the catalogue after the vote",
            by=KEEPER,
            way="catalogue",
            stopped="the plan that was voted on has the catalogue's digest",
        ),
        case(
            edit("board.yaml", "      approvals: 2\n      veto", "      approvals: 3\n      veto"),
            "A recount of the votes does not approve the plan",
            what="keep an approval with fewer votes than a raised quorum asks",
            by=KEEPER,
            way="catalogue",
            stopped="votes are counted again before each wave, by the rule of then and the rule of now",
        ),
        case(
            edit(BIKE_SHOP, "max_p95_ms: 800", "max_p95_ms: 0.001"),
            "Judged by thresholds that were tightened since",
            what="keep a quality report that a tightened threshold does not allow",
            by=KEEPER,
            way="catalogue",
            stopped="quality is judged again by the tighter of each two thresholds",
        ),
        case(
            edit("board.yaml", "[ben, cora, dan, rita]", "[ben, dan, rita]"),
            "quorum.veto",
            what="keep the vote of a member who was taken from the board, but not from its quorum",
            by=MEMBER,
            way="catalogue",
            stopped="a catalogue that contradicts itself permits nothing",
        ),
        case(
            lambda changes, release: changes.without_cora(),
            "only 1 of 2 approvals",
            what="keep the vote of a member who left the board after voting",
            by=MEMBER,
            way="catalogue",
            stopped="votes are counted again before each wave, by the board as it is then",
        ),
        case(
            edit("board.yaml", "email: dan@example.com, role: business", "email: dan@example.com, role: audit"),
            CHANGED,
            what="give a member another role after the vote",
            by=KEEPER,
            way="catalogue",
            stopped="the plan that was voted on has the catalogue's digest",
        ),
        case(
            lambda changes, release: changes.another_instance(),
            "belongs to production now, but the plan does not have it",
            what="add a host to production after the vote, which then keeps the old version",
            by=AWS,
            way="host",
            stopped=INSTANCES,
        ),
        case(
            lambda changes, release: changes.another_instance(wave.plan_of(release).hosts[0].address),
            "but the plan has bike-shop-production-",
            what="give the address of a host to another instance after the vote",
            by=AWS,
            way="host",
            stopped=INSTANCES,
        ),
        case(
            lambda changes, release: changes.tags_moved(),
            "does not belong to production any more",
            what="move the tags of a host to another environment after the vote",
            by=AWS,
            way="host",
            stopped=INSTANCES,
        ),
        case(
            lambda changes, release: changes.another_host_key(),
            "the host key of",
            what="have other machines answer at the addresses of hosts, and replace the keys by which these are known",
            by=ENGINEER,
            way="host",
            stopped="the plan that was voted on has the digest of each host's key",
        ),
        case(
            lambda changes, release: changes.stopped("everything"),
            "Emergency stop: everything, by olga: The warehouse burns",
            what="go on when everything was stopped after the vote",
            by=MANAGER,
            way="ledger",
            stopped="emergency stops are looked for before each wave",
        ),
        case(
            lambda changes, release: changes.stopped("bike-shop"),
            "Emergency stop: bike-shop",
            what="go on when the service was stopped after the vote",
            by=MANAGER,
            way="ledger",
            stopped="emergency stops are looked for before each wave",
        ),
    ],
)
def test_what_changes_after_the_vote_stops_the_release(
    changes: Changes, waiting: Release, change: Change, why: str
) -> None:
    with change(changes, waiting):
        refused = wave.refusal(waiting)
    assert refused
    assert why in refused
    assert wave.refusal(waiting) == "", "it is not as it was"


@attack(
    "lead the name of a host to another machine",
    by=NAMES,
    way="host",
    stopped="a plan has the addresses that EC2 gives, so that no name of a host is looked up",
)
def test_no_name_of_a_host_is_looked_up(waiting: Release) -> None:
    assert [str(ip_address(host.address)) for host in wave.plan_of(waiting).hosts] == [
        host.address for host in wave.plan_of(waiting).hosts
    ]


@attack(
    "move the tag of a version to another commit after the vote",
    by=AUTHOR,
    way="code",
    stopped="a release has the commit and the bytes that were approved; its tag is not read again",
)
def test_a_moved_tag_moves_no_release(stack: Stack, waiting: Release) -> None:
    def git(*arguments: str) -> str:
        repository = str(stack.settings.repository)
        return subprocess.run(
            ["git", "-C", repository, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    plan, tag = wave.plan_of(waiting), git("rev-parse", f"refs/tags/{NEW}")
    git("update-ref", f"refs/tags/{NEW}", git("rev-parse", f"refs/tags/{OLD}"))
    try:
        assert wave.refusal(waiting) == ""
        assert wave.plan_of(waiting) == plan
        assert resources.store().digest_of(plan.bundle) == plan.bundle.sha256
    finally:
        git("update-ref", f"refs/tags/{NEW}", tag)


@attack(
    "keep an emergency stop waiting, by taking the slots of the pool in which its task runs",
    by=ADMIN,
    way="API",
    stopped="a stop holds as it is asked for, and waits for no task",
)
def test_an_emergency_stop_waits_for_no_pool(stack: Stack, waiting: Release) -> None:
    admin, olga, pool = stack.person("admin"), stack.person("olga"), "pools/default_pool"

    def give(slots: int) -> None:
        said = admin.send("PATCH", f"{pool}?update_mask=slots", {"pool": "default_pool", "slots": slots})
        assert said.is_success, said.text

    slots = admin.get(pool)["slots"]
    give(0)
    try:
        olga.start("emergency_stop", {"scope": "bike-shop", "reason": "Payments fail", "hours": 1})
        assert "Emergency stop: bike-shop, by olga: Payments fail" in wave.refusal(waiting)
    finally:
        give(slots)
    lift = olga.start("emergency_stop", {"scope": "bike-shop", "reason": "Payments work again", "lift": "bike-shop"})
    until("the stop to be lifted", lambda: lift.state == "success")
    assert wave.refusal(waiting) == ""


@attack(
    "go on when a freeze was added after the vote",
    by=MANAGER,
    way="catalogue",
    stopped="freezes are looked for before each wave",
)
def test_a_freeze_that_is_added_holds(changes: Changes, waiting: Release) -> None:
    with changes.added("calendars/fire.yaml", freeze("Fire", datetime.now(UTC))):
        assert "closed by Fire (freeze in calendars/fire.yaml)" in wave.refusal(waiting)
    assert wave.refusal(waiting) == ""


@attack(
    "replace the key that signs after the vote",
    by=ENGINEER,
    way="host",
    stopped="what was decided is signed with the key that the installation had, and counts with no other",
)
def test_another_signing_key_permits_nothing(changes: Changes, waiting: Release) -> None:
    with changes.another_signing_key():
        refused = wave.refusal(waiting)
    assert "Either the key is another one, or the entry was not written by" in refused, refused
    assert not wave.findings(waiting), "with another key, nothing is known of who changed what"
    assert wave.refusal(waiting) == ""


@pytest.fixture(scope="module")
def refused_for_everything(
    stack: Stack, changes: Changes, waiting: Release, freeze_begins: datetime, database: AirflowDatabase
) -> str:
    """Let Airflow go on when everything is in the release's way; return why the release failed."""
    time.sleep(max((freeze_begins - datetime.now(UTC)).total_seconds(), 0) + 1)
    with (
        changes.bundle(waiting, b"something else"),
        changes.stopped("retail"),
        changes.another_port(database, "interlock_hosts"),
    ):
        go(stack, waiting)
        assert waiting.finish() == "failed"
    outcome = waiting.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "implementation")
    return str(outcome["reason"])


@attack(
    "go on into a freeze that begins after the vote",
    by=MANAGER,
    way="API",
    stopped="no permit is given during a freeze, whenever the board voted",
)
def test_everything_at_once_is_refused_by_airflow_with_every_reason(
    waiting: Release, refused_for_everything: str
) -> None:
    for why in ("closed by Stocktaking", "Emergency stop: retail, by olga", "The bundle has the digest"):
        assert why in refused_for_everything
    assert {one.payload["permit"]["purpose"] for one in wave.entries(waiting, "permit.issued")} == {"inspect"}


@attack(
    "edit a connection of production after the vote, without a row in the audit log that names it",
    by=OWNER,
    way="database",
    stopped="connections are compared with those of the plan before each wave, by what they are",
)
def test_a_connection_that_nobody_is_seen_to_edit_stops_the_release(refused_for_everything: str) -> None:
    differs = "The connection interlock_hosts is not what it was when the plan was frozen: it differs in port"
    assert differs in refused_for_everything
