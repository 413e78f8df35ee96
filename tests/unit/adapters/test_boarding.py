"""Who would board a train: by a real repository, and a ledger in memory."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.source import git as source_git
from interlock.adapters.trains.boarding import NotReady, Platform, highest
from interlock.domain.catalogue import Prebuilt, Service
from interlock.domain.catalogue.train_file import Train
from interlock.domain.errors import SourceError, TransientError
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.trains.manifest import Boarded, Found, LeftBehind
from interlock.locations import CATALOGUE
from tests.factories import pipelines
from tests.factories.pipelines import Pipeline
from tests.file_server import FileServer, file_server
from tests.memory_ledger import MemoryLedger

TAGS = ("1.0.0", "1.1.0", "v1.2.0", "2.0.0-rc.1", "nightly")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A repository with a commit for each tag; return where it is, and the tags' commits."""
    folder = tmp_path_factory.mktemp("upstream")

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Ben", "-c", "user.email=ben@example.com"]
        done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    commits = {"url": folder.as_uri()}
    for tag in TAGS:
        git("commit", "--quiet", "--allow-empty", "-m", f"For {tag}")
        git("tag", tag)
        commits[tag] = git("rev-parse", "HEAD")
    return commits


def a_train(**passenger: Any) -> Train:
    said = {"name": "weekly", "title": "Weekly", "owner": "o", "time_zone": "UTC", "cadence": {"cron": "0 1 * * *"}}
    return Train.model_validate({**said, "passengers": [passenger]})


class Office:
    """A platform with a ledger, and a train."""

    def __init__(self, upstream: dict[str, str], folder: Path) -> None:
        self.ledger, self.upstream, self.folder = MemoryLedger(), upstream, folder
        self.error: Exception | None = None

    @contextmanager
    def opened(self, service: Service) -> Iterator[source_git.Repository]:
        if self.error:
            raise self.error
        yield source_git.open_repository(self.upstream["url"], self.folder / "repository.git")

    def look(self, *, service: str = "bike-shop", **passenger: Any) -> Found:
        platform = Platform(load_catalogue(CATALOGUE), self.ledger, self.opened, Connection, CATALOGUE)
        return platform.look(a_train(service=service, **passenger))[service]

    def ended(self, tag: str, outcome: str = "deployed", run: str = "") -> None:
        version = tag.removeprefix("v")
        name = f"release_bike_shop/{run or tag}"
        self.planned(name, tag)
        told = {"run": name, "service": "bike-shop", "version": version, "change_type": "normal", "outcome": outcome}
        self.ledger.append(INSTALLATION, "release.ended", told, actor="x", key=name)

    def accepted(self, tag: str, artifact: str = "") -> None:
        chain = self.planned(f"release_bike_shop/of_{tag}", tag, artifact)
        self.ledger.append(chain, "acceptance.decided", {"approved": True}, actor="x", key="accepted")

    def train(self, sent: str, accepted_meanwhile: str = "") -> None:
        """Have it on record that the train departed, and sent one service."""
        chain = release_chain("train_weekly", "scheduled__1")
        self.ledger.append(chain, "manifest.frozen", {}, actor="x", key="1")
        if accepted_meanwhile:
            self.accepted(accepted_meanwhile)
        self.ledger.append(chain, "train.departed", {}, actor="x", key="2")
        self.ledger.append(chain, "passenger.departed", {"service": sent}, actor="x", key="3")

    def planned(self, name: str, tag: str, artifact: str = "") -> str:
        chain = release_chain(*name.split("/"))
        made: dict[str, Any] = {"version": tag.removeprefix("v"), "commit": {"sha": self.upstream[tag]}}
        made |= {"artifact": artifact} if artifact else {}
        self.ledger.append(chain, "plan.made", made, actor="x", key="plan")
        return chain


@pytest.fixture
def office(upstream: dict[str, str], tmp_path: Path) -> Office:
    return Office(upstream, tmp_path)


def test_the_highest_version_among_the_tags_boards(office: Office) -> None:
    office.ended("1.0.0")
    found = office.look(tags="*1.*", risk={"irreversible": True}, tickets=["ABC-1"])
    assert isinstance(found, Boarded)
    assert (found.version, found.ref, found.commit) == ("1.2.0", "v1.2.0", office.upstream["v1.2.0"])
    assert (found.replaces, found.commits, found.authors) == ("1.0.0", 2, ("ben",))
    assert found.answers["irreversible"] is True
    assert found.risk >= 32
    assert found.why == "the highest version among the tags with the pattern *1.*"


def test_without_a_deployment_on_record_it_is_the_first(office: Office) -> None:
    office.ended("1.1.0", outcome="backed_out")
    found = office.look(tags="1.*")
    assert isinstance(found, Boarded)
    assert (found.version, found.replaces) == ("1.1.0", None)


def test_pre_releases_board_only_if_the_pattern_says_so() -> None:
    assert highest(TAGS, "*").version == "1.2.0"
    assert highest(TAGS, "2.*-rc*").version == "2.0.0-rc.1"
    with pytest.raises(NotReady, match="no tag with the pattern 3"):
        highest(TAGS, "3.*")


@pytest.mark.parametrize(
    ("runs", "passenger", "late", "why"),
    [
        ("v1.2.0", {"tags": "*1.*"}, False, "1.2.0, the version that would board, already runs"),
        ("v1.2.0", {"tags": "1.*"}, False, "1.2.0 already runs, but 1.1.0 would board"),
        ("1.0.0", {"tags": "7.*"}, True, "no tag with the pattern 7.* is a version"),
        ("1.0.0", {"accepted": True}, True, "no release of it was accepted"),
        ("1.0.0", {"named": {"ref": "9.9.9", "version": "9.9.9", "by": "rita"}}, True, "9.9.9"),
    ],
)
def test_who_stays_behind_says_why(office: Office, runs: str, passenger: Any, late: bool, why: str) -> None:
    office.ended(runs)
    found = office.look(**passenger)
    assert isinstance(found, LeftBehind)
    assert found.late is late
    assert why in found.why


def test_a_version_that_is_marked_bad_stays_behind(office: Office) -> None:
    bad = {"service": "bike-shop", "environment": "production", "version": "1.1.0", "reason": "It leaks", "by": "rita"}
    office.ledger.append(INSTALLATION, "version.marked_bad", bad, actor="rita", key="bad")
    found = office.look(tags="1.*")
    assert isinstance(found, LeftBehind)
    assert found.late
    assert "1.1.0 of bike-shop is marked bad in production by rita" in found.why


def test_a_named_version_says_who_named_it(office: Office) -> None:
    found = office.look(named={"ref": "1.1.0", "version": "1.1.0", "by": "rita"})
    assert isinstance(found, Boarded)
    assert found.by == "rita"


def test_what_was_accepted_last_since_the_last_departure_boards(office: Office) -> None:
    office.accepted("1.0.0")
    office.accepted("1.1.0")
    refused = office.planned("release_bike_shop/2", "v1.2.0")
    office.ledger.append(refused, "acceptance.decided", {"approved": False}, actor="x", key="accepted")
    found = office.look(accepted=True)
    assert isinstance(found, Boarded)
    assert (found.version, found.commit) == ("1.1.0", office.upstream["1.1.0"])
    assert "accepted at" in found.why
    office.train("bike-shop")
    missed = office.look(accepted=True)
    assert isinstance(missed, LeftBehind)
    assert "no release of it was accepted since the train took it, at" in missed.why


def test_what_was_accepted_between_cut_off_and_departure_boards_the_next_train(office: Office) -> None:
    office.train("bike-shop", accepted_meanwhile="1.1.0")
    found = office.look(accepted=True)
    assert isinstance(found, Boarded)
    assert found.version == "1.1.0"


def test_what_was_left_behind_boards_the_next_train(office: Office) -> None:
    office.accepted("1.1.0")
    office.train("till")
    found = office.look(accepted=True)
    assert isinstance(found, Boarded)
    assert found.version == "1.1.0"


def test_a_service_without_a_file_stays_behind(office: Office) -> None:
    found = office.look(service="till", tags="*")
    assert isinstance(found, LeftBehind)
    assert "the service does not exist" in found.why


def test_a_repository_that_cannot_be_used_leaves_behind_but_one_that_does_not_answer_is_tried_again(
    office: Office,
) -> None:
    office.error = SourceError("It is no repository.")
    found = office.look(tags="*")
    assert isinstance(found, LeftBehind)
    assert found.why == "It is no repository"
    office.error = TransientError("It does not answer.")
    with pytest.raises(TransientError):
        office.look(tags="*")


class Pipelined:
    """A platform for a service that its own pipeline builds, and the place where the pipeline leaves its artifacts."""

    def __init__(self, upstream: dict[str, str], folder: Path, server: FileServer) -> None:
        self.office, self.upstream, self.server, self.pipeline = Office(upstream, folder), upstream, server, Pipeline()
        self.stores = ("shop_artifacts",)

    def leave(self, *digests: str, version: str = "1.2.0", by: Pipeline | None = None, **said: Any) -> None:
        """Leave signed provenance about artifacts of a version."""
        usual = {"repository": self.upstream["url"], "commit": self.upstream[f"v{version}"]}
        signed = pipelines.statement(digests[0], pipelines.provenance(**usual | said))
        signed["subject"] = [{"name": "shop.tar.gz", "digest": {"sha256": digest}} for digest in digests]
        self.server.put(f"{version}.jsonl", (by or self.pipeline).envelope(signed))

    def connection(self, name: str) -> Connection:
        return Connection(conn_id=name, conn_type="http", host=self.server.url)

    def look(self, **passenger: Any) -> Found:
        catalogue = load_catalogue(CATALOGUE)
        build = Prebuilt(
            tool="prebuilt",
            store="https",
            connection="shop_artifacts",
            artifact="shop-{version}.tar.gz",
            statements=("{version}.jsonl", "{artifact}.jsonl"),
        )
        rules = self.pipeline.rules.model_copy(update={"stores": self.stores})
        changed = catalogue.model_copy(
            update={
                "services": {"bike-shop": catalogue.services["bike-shop"].model_copy(update={"build": build})},
                "policy": catalogue.policy.model_copy(update={"prebuilt": rules}),
            }
        )
        train = a_train(service="bike-shop", **passenger)
        platform = Platform(changed, self.office.ledger, self.office.opened, self.connection, CATALOGUE)
        return platform.look(train)["bike-shop"]


@pytest.fixture
def pipelined(upstream: dict[str, str], tmp_path: Path) -> Iterator[Pipelined]:
    with file_server() as server:
        yield Pipelined(upstream, tmp_path, server)


DIGEST, OTHER = "d" * 64, "e" * 64


def test_of_a_service_that_its_own_pipeline_builds_the_signed_artifact_boards(pipelined: Pipelined) -> None:
    pipelined.leave(DIGEST)
    found = pipelined.look(tags="*1.*")
    assert isinstance(found, Boarded)
    assert (found.version, found.artifact) == ("1.2.0", DIGEST)


def test_an_accepted_release_boards_with_its_artifact(pipelined: Pipelined) -> None:
    pipelined.office.accepted("v1.2.0", artifact=OTHER)
    found = pipelined.look(accepted=True)
    assert isinstance(found, Boarded)
    assert (found.version, found.artifact) == ("1.2.0", OTHER)
    assert pipelined.server.asked == []


@pytest.mark.parametrize(
    ("left", "why"),
    [
        (None, "no statement at 1.2.0.jsonl"),
        ({"by": Pipeline()}, "no pinned key of policy.yaml signed it"),
        ({"commit": "b" * 40}, f"found {'b' * 40}"),
        ({"repository": "https://elsewhere.example/shop.git"}, "source: expected "),
        ({"builder": "https://elsewhere/"}, "builder: expected "),
        ({"digests": (DIGEST, OTHER)}, f"names several artifacts of version 1.2.0: {DIGEST}, {OTHER}"),
    ],
    ids=["nothing", "another key", "another commit", "another repository", "another builder", "two"],
)
def test_without_one_artifact_that_is_proven_it_stays_behind(
    pipelined: Pipelined, left: dict[str, Any] | None, why: str
) -> None:
    if left is not None:
        pipelined.leave(*left.pop("digests", (DIGEST,)), **left)
    found = pipelined.look(tags="*1.*")
    assert isinstance(found, LeftBehind)
    assert (found.late, why in found.why) == (True, True), found.why


def test_a_place_that_the_policy_does_not_allow_is_not_asked(pipelined: Pipelined) -> None:
    pipelined.leave(DIGEST)
    pipelined.stores = ()
    found = pipelined.look(tags="*1.*")
    assert isinstance(found, LeftBehind)
    assert "takes its artifacts from shop_artifacts, which the policy does not allow" in found.why
    assert pipelined.server.asked == []
