"""Who would board a train: by a real repository, and a ledger in memory."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.source import git as source_git
from interlock.adapters.trains.boarding import NotReady, Platform, highest
from interlock.domain.catalogue import Prebuilt, Service
from interlock.domain.catalogue.train_file import Train
from interlock.domain.errors import SourceError, TransientError
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.trains.manifest import Boarded, Found, LeftBehind
from interlock.locations import CATALOGUE
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
        said = {"name": "weekly", "title": "Weekly", "owner": "o", "time_zone": "UTC", "cadence": {"cron": "0 1 * * *"}}
        train = Train.model_validate({**said, "passengers": [{"service": service, **passenger}]})
        return Platform(load_catalogue(CATALOGUE), self.ledger, self.opened).look(train)[service]

    def ended(self, tag: str, outcome: str = "deployed", run: str = "") -> None:
        version = tag.removeprefix("v")
        name = f"release_bike_shop/{run or tag}"
        self.planned(name, tag)
        told = {"run": name, "service": "bike-shop", "version": version, "change_type": "normal", "outcome": outcome}
        self.ledger.append(INSTALLATION, "release.ended", told, actor="x", key=name)

    def accepted(self, tag: str) -> None:
        chain = self.planned(f"release_bike_shop/of_{tag}", tag)
        self.ledger.append(chain, "acceptance.decided", {"approved": True}, actor="x", key="accepted")

    def train(self, sent: str, accepted_meanwhile: str = "") -> None:
        """Have it on record that the train departed, and sent one service."""
        chain = release_chain("train_weekly", "scheduled__1")
        self.ledger.append(chain, "manifest.frozen", {}, actor="x", key="1")
        if accepted_meanwhile:
            self.accepted(accepted_meanwhile)
        self.ledger.append(chain, "train.departed", {}, actor="x", key="2")
        self.ledger.append(chain, "passenger.departed", {"service": sent}, actor="x", key="3")

    def planned(self, name: str, tag: str) -> str:
        chain = release_chain(*name.split("/"))
        made = {"version": tag.removeprefix("v"), "commit": {"sha": self.upstream[tag]}}
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


def test_a_service_that_its_own_pipeline_builds_stays_behind(upstream: dict[str, str], tmp_path: Path) -> None:
    office, catalogue = Office(upstream, tmp_path), load_catalogue(CATALOGUE)
    build = Prebuilt(tool="prebuilt", store="oci", connection="shop_artifacts", artifact="shop/web")
    service = catalogue.services["bike-shop"].model_copy(update={"build": build})
    train = Train.model_validate(
        {
            "name": "weekly",
            "title": "Weekly",
            "owner": "o",
            "time_zone": "UTC",
            "cadence": {"cron": "0 1 * * *"},
            "passengers": [{"service": "bike-shop", "tags": "*"}],
        }
    )
    changed = catalogue.model_copy(update={"services": {"bike-shop": service}})
    found = Platform(changed, office.ledger, office.opened).look(train)["bike-shop"]
    assert isinstance(found, LeftBehind)
    assert "its own pipeline builds it" in found.why
