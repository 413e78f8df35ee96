"""Which version of a service would board a train now: by the tags of its repository, or by the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semver import Version

from interlock.adapters.evidence import attestation
from interlock.adapters.ledger.past_releases import ended_releases
from interlock.adapters.prebuilt.pipeline import announced
from interlock.adapters.prebuilt.places import open_place
from interlock.domain.board.decision import authors_of
from interlock.domain.catalogue import Catalogue, Prebuilt, Service
from interlock.domain.catalogue.train_file import Train, TrainPassenger
from interlock.domain.change.policy import resolve_policy
from interlock.domain.change.risk import assess
from interlock.domain.change.semver import bump, is_version
from interlock.domain.dag_names import dag_of_release, dag_of_train
from interlock.domain.errors import HostUnreachable, ReleaseError, TransientError
from interlock.domain.ledger.chain import INSTALLATION, Chains, release_chain
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    MANIFEST_FROZEN,
    PASSENGER_DEPARTED,
    PLAN_MADE,
    RELEASE_ENDED,
)
from interlock.domain.ledger.runs import of_dag
from interlock.domain.outcome import deployments
from interlock.domain.outcome import marks as outcome_marks
from interlock.domain.prebuilt.claims import Expected
from interlock.domain.prebuilt.places import refuse_unlisted_place
from interlock.domain.records import Commit
from interlock.domain.trains.manifest import Boarded, Found, LeftBehind

if TYPE_CHECKING:
    from interlock.adapters.source.git import Repository


OpenRepository = Callable[[Service], AbstractContextManager["Repository"]]
Connections = Callable[[str], Any]


class NotReady(Exception):
    """A passenger is not ready; the message says why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What would board: where it was found, and why just that."""

    ref: str
    version: str
    why: str
    by: str | None = None
    artifact: str | None = None


class Platform:
    """Where passengers are looked for.

    :param opens: opens the repository of a service.
    :param connections: returns an Airflow connection by its id.
    :param folder: of the catalogue.
    """

    def __init__(
        self, catalogue: Catalogue, ledger: Chains, opens: OpenRepository, connections: Connections, folder: Path
    ) -> None:
        self._catalogue, self._ledger, self._opens = catalogue, ledger, opens
        self._connections, self._folder = connections, folder

    def look(self, train: Train) -> dict[str, Found]:
        """Say of each service of a train which version would board now, or why none would."""
        return {one.service: self.look_for(train, one) for one in train.passengers}

    def look_for(self, train: Train, passenger: TrainPassenger) -> Found:
        """Return which version of one service would board now, or why none would.

        :raises TransientError: its repository cannot be reached.
        """
        service = self._catalogue.services.get(passenger.service)
        if service is None:
            return LeftBehind(service=passenger.service, late=True, why=unusable(self._catalogue, passenger.service))
        try:
            with self._opens(service) as repository:
                choice = self._choice(train, passenger, repository)
                return self._boarded(train, passenger, service, choice, repository)
        except NotReady as error:
            return LeftBehind(service=passenger.service, late=True, why=str(error))
        except (TransientError, HostUnreachable):
            raise
        except ReleaseError as error:
            return LeftBehind(service=passenger.service, late=True, why=error.what.rstrip("."))

    def _choice(self, train: Train, passenger: TrainPassenger, repository: Repository) -> Choice:
        if passenger.named is not None:
            named = passenger.named
            return Choice(named.ref, named.version, f"named in the train's file by {named.by}", named.by)
        if passenger.tags is not None:
            return highest(repository.tags(), passenger.tags)
        return self._accepted(train, passenger.service)

    def _accepted(self, train: Train, service: str) -> Choice:
        """Return what was accepted last, or rehearsed, since the train took the service last."""
        since = self._taken_last(train, service)
        found: tuple[datetime, Choice] | None = None
        for chain in self._ledger.chains(of_dag(dag_of_release(service))):
            entries = self._ledger.entries(chain)
            at = next((one.at for one in entries if one.kind == ACCEPTANCE_DECIDED and one.payload["approved"]), None)
            plan = next((one.payload for one in entries if one.kind == PLAN_MADE), None)
            if at and plan and (since is None or at > since) and (found is None or at > found[0]):
                why = f"accepted at {at:%Y-%m-%d %H:%M} UTC, by {chain}"
                found = at, Choice(plan["commit"]["sha"], plan["version"], why, artifact=plan.get("artifact"))
        if found is None:
            after = f" since the train took it, at {since:%Y-%m-%d %H:%M} UTC" if since else ""
            raise NotReady(f"no release of it was accepted{after}")
        return found[1]

    def _taken_last(self, train: Train, service: str) -> datetime | None:
        """Return when the manifest was frozen with which the train sent a service last; None: it never did."""
        found = []
        for chain in self._ledger.chains(of_dag(dag_of_train(train.name))):
            entries = self._ledger.entries(chain)
            if any(one.kind == PASSENGER_DEPARTED and one.payload["service"] == service for one in entries):
                found += [one.at for one in entries if one.kind == MANIFEST_FROZEN]
        return max(found, default=None)

    def _boarded(
        self, train: Train, passenger: TrainPassenger, service: Service, choice: Choice, repository: Repository
    ) -> Found:
        commit = repository.resolve(choice.ref)
        runs = deployed_last(self._ledger, service.name)
        if runs is not None and (why := _nothing_new(choice, commit, runs)):
            return LeftBehind(service=service.name, late=False, why=why)
        marks = self._ledger.entries(INSTALLATION, kind=outcome_marks.MARKS)
        if marked := outcome_marks.describe_block(marks, service.name, train.environment, choice.version):
            raise NotReady(marked.rstrip("."))
        before = _known(repository, runs)
        _, count = repository.commits(before, commit.sha)
        policy = self._catalogue.policy
        answers = {one.key: passenger.risk.get(one.key, False) for one in policy.risk.questions}
        risk = assess(
            policy.risk,
            answers=answers,
            commits=count,
            tier=service.tier,
            bump=bump(runs[0] if runs else None, choice.version),
            history=ended_releases(self._ledger, service.name),
        )
        return Boarded(
            service=service.name,
            version=choice.version,
            ref=choice.ref,
            commit=commit.sha,
            replaces=runs[0] if runs else None,
            commits=count,
            risk=risk.score,
            answers=answers,
            summary=passenger.summary or f"{service.title} {choice.version}, on {train.title}"[:200],
            tickets=passenger.tickets,
            after=passenger.after,
            why=choice.why,
            authors=authors_of(repository.authors(before, commit.sha), self._catalogue.board),
            by=choice.by,
            artifact=self._artifact(train, service, choice, commit, repository),
        )

    def _artifact(
        self, train: Train, service: Service, choice: Choice, commit: Commit, repository: Repository
    ) -> str | None:
        """Return the digest of the artifact that was accepted, or that its pipeline signed; none: it is built here."""
        spec, policy = service.build, self._catalogue.policy
        if not isinstance(spec, Prebuilt):
            return None
        if choice.artifact:
            return choice.artifact
        refuse_unlisted_place(service, spec, policy)
        demanded = resolve_policy(policy, service, train.change_type).demanded.claims
        address = attestation.address_of(repository.url)
        expected = Expected.of(service, spec, policy, demanded, repository=address, commit=commit.sha)
        place = open_place(spec, self._connections(spec.connection))
        return announced(spec, place, expected, choice.version, policy.prebuilt, catalogue=self._folder)


def deployed_last(ledger: Chains, service: str) -> tuple[str, str] | None:
    """Return version and commit of the last deployed release, by the ledger; None: none was deployed."""
    deployed = deployments.deployments(ledger.entries(INSTALLATION, kind=RELEASE_ENDED), service)
    if not deployed:
        return None
    told = deployed[-1]
    plans = ledger.entries(release_chain(*str(told["run"]).split("/", 1)), kind=PLAN_MADE)
    return (told["version"], plans[-1].payload["commit"]["sha"]) if plans else None


def unusable(catalogue: Catalogue, service: str) -> str:
    """Say why a service's file cannot be used; empty: it can."""
    if service in catalogue.services:
        return ""
    return f"its file cannot be used: {catalogue.broken.get(service, 'the service does not exist')}"


def highest(tags: Sequence[str], pattern: str) -> Choice:
    """Return the highest version among the tags with a pattern; NotReady if there is none.

    A tag may begin with v; pre-releases board only if the pattern says so, with a hyphen.
    """
    found = [
        (Version.parse(tag.removeprefix("v")), tag)
        for tag in tags
        if fnmatchcase(tag, pattern) and is_version(tag.removeprefix("v"))
    ]
    final = [one for one in found if not one[0].prerelease or "-" in pattern]
    if not final:
        raise NotReady(f"no tag with the pattern {pattern} is a version")
    version, tag = max(final)
    return Choice(tag, str(version), f"the highest version among the tags with the pattern {pattern}")


def _nothing_new(choice: Choice, commit: Commit, runs: tuple[str, str]) -> str:
    version, deployed = runs
    if (choice.version, commit.sha) == (version, deployed):
        return f"{version}, the version that would board, already runs"
    if is_version(version) and bump(version, choice.version) == "downgrade":
        return f"{version} already runs, but {choice.version} would board"
    return ""


def _known(repository: Repository, runs: tuple[str, str] | None) -> str | None:
    """Return the commit that runs, if the repository still has it."""
    if runs is None:
        return None
    try:
        return repository.resolve(runs[1]).sha
    except ReleaseError:
        return None
