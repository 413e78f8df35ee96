"""What each environment runs, by the ledger: which version, since when, by which release, and which hosts differ.

The state is folded from entries as they come, so that what was read once is not read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import Field

from interlock.domain.canonical import Model
from interlock.domain.catalogue import PRODUCTION
from interlock.domain.dag_names import RELEASES, ROLLBACKS
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import DEPLOYMENT_FAILED, FINDING, PATH_DEPLOYED, RELEASE_ENDED, TEST_DEPLOYED
from interlock.domain.ledger.runs import run_of

OF_RELEASES = (TEST_DEPLOYED, PATH_DEPLOYED, DEPLOYMENT_FAILED, FINDING)
"""Kinds of a release's chain that say what an environment runs; production is in the installation's chain."""
MAX_DIFFERENCES = 20
"""So many hosts that differ are kept for each environment; there may be more."""


class Deployed(Model):
    """What an environment of a service runs."""

    version: str
    since: datetime
    dag_id: str = Field(description="The Dag of the release or the rollback that deployed it")
    run_id: str
    certain: bool = Field(True, description="false: a release failed there since, or some of its hosts failed")


class Difference(Model):
    """A host that does not run what was released, by a finding."""

    at: datetime
    host: str
    what: str = Field(description="The finding, in a sentence")


class Running:
    """What all environments run, as far as entries have been given to it.

    Environments are named by the service as the name of its Dag has it (``bike_shop``), for that is what chains name.
    """

    def __init__(self) -> None:
        self._deployed: dict[tuple[str, str], Deployed] = {}
        self._doubts: dict[tuple[str, str], datetime] = {}
        self._differences: dict[tuple[str, str], dict[str, Difference]] = {}

    def take(self, entries: Iterable[Entry]) -> None:
        """Take entries of the installation's chain and of releases, in any order, each also more than once."""
        for entry in entries:
            if entry.kind == RELEASE_ENDED:
                self._end(entry)
            elif entry.kind in (TEST_DEPLOYED, PATH_DEPLOYED):
                self._deploy(entry)
            elif entry.kind == DEPLOYMENT_FAILED:
                if run := run_of(entry.chain):
                    self._doubt((_service_of(run[0]), str(entry.payload.get("environment"))), entry.at)
            elif entry.kind == FINDING:
                self._differ(entry)

    def deployed(self, service: str, environment: str) -> Deployed | None:
        """Return what an environment runs; none: no release is known to have been deployed there."""
        place = (_in_dags(service), environment)
        found, doubt = self._deployed.get(place), self._doubts.get(place)
        if found is not None and doubt is not None and doubt > found.since:
            return found.model_copy(update={"certain": False})
        return found

    def differences(self, service: str, environment: str) -> tuple[Difference, ...]:
        """Return the hosts that differ, by findings since the environment runs what it runs."""
        found = self._differences.get((_in_dags(service), environment))
        if not found:
            return ()
        deployed = self.deployed(service, environment)
        since = (one for one in found.values() if deployed is None or one.at >= deployed.since)
        return tuple(sorted(since, key=lambda one: (one.host, one.at)))

    def _end(self, entry: Entry) -> None:
        told = entry.payload
        outcome, run = str(told.get("outcome")), run_of(f"release/{told.get('run')}")
        if run is None:
            return
        place = (_in_dags(str(told.get("service"))), PRODUCTION)
        if outcome == "deployed":
            self._put(place, _deployed(entry.at, str(told.get("version")), run, certain=True))
        elif outcome == "failed":
            self._doubt(place, entry.at)

    def _doubt(self, place: tuple[str, str], at: datetime) -> None:
        self._doubts[place] = max(at, self._doubts.get(place, at))

    def _deploy(self, entry: Entry) -> None:
        run, results = run_of(entry.chain), entry.payload.get("results")
        if run is None or not isinstance(results, list) or not results:
            return
        ran = [str(one["after"]) for one in results if one.get("outcome") in ("deployed", "unchanged") and one["after"]]
        if not ran:
            return
        version = ran[0].rpartition("-")[0] or ran[0]  # a release is called <version>-<digest> on a host
        place = (_service_of(run[0]), str(entry.payload.get("environment")))
        self._put(place, _deployed(entry.at, version, run, certain=len(ran) == len(results)))

    def _put(self, place: tuple[str, str], deployed: Deployed) -> None:
        known = self._deployed.get(place)
        if known is None or deployed.since >= known.since:
            self._deployed[place] = deployed

    def _differ(self, entry: Entry) -> None:
        evidence: Any = entry.payload.get("evidence")
        if not isinstance(evidence, dict) or not all(evidence.get(one) for one in ("service", "environment", "host")):
            return
        place = (_in_dags(str(evidence["service"])), str(evidence["environment"]))
        found = self._differences.setdefault(place, {})
        host = str(evidence["host"])
        if (known := found.get(host)) is not None and known.at >= entry.at:
            return
        found.pop(host, None)
        while len(found) >= MAX_DIFFERENCES:
            del found[min(found, key=lambda name: found[name].at)]
        found[host] = Difference(at=entry.at, host=host, what=str(entry.payload.get("what")))


def _deployed(at: datetime, version: str, run: tuple[str, str], *, certain: bool) -> Deployed:
    return Deployed(version=version, since=at, dag_id=run[0], run_id=run[1], certain=certain)


def _in_dags(service: str) -> str:
    return service.replace("-", "_")


def _service_of(dag_id: str) -> str:
    return dag_id.removeprefix(RELEASES).removeprefix(ROLLBACKS)
