"""The Dag ``reconcile``: finds releases that should have overtaken others, and did not.

Airflow's API server starts the Dag that records what is overtaken. If it cannot, the urgent release waits in the queue
behind the others, and nothing else would tell anybody.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.domain.change.policy import flows_of, source_of_overtakes
from interlock.domain.dag_names import OVERTAKE_RELEASES, dag_of_release
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.findings import Finding
from interlock.domain.permits.overtaking import find_overtaken
from interlock.stages.controls.overtakings import queue_of
from interlock.stages.runtime import resources
from interlock.stages.runtime.history import ends_of_releases

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)
GRACE = timedelta(minutes=3)
"""So long after its request, a release may still be about to overtake others."""


def find_missed_overtakings(
    ledger: Ledger, api: AirflowApi, services: Iterable[str], runs: Iterable[tuple[str, str]], now: datetime
) -> Iterator[Finding]:
    """Yield the releases that go first by the policy, and the releases before them that nothing on record ends.

    The finding names no chain as its evidence: neither of the two did anything wrong, and both keep their permits.

    :param runs: the releases that are in progress or ended recently.
    """
    ended = ends_of_releases(ledger)
    under_way = Counter(dag_id for dag_id, run_id in runs if f"{dag_id}/{run_id}" not in ended)
    for service in services:
        if under_way[dag_of_release(service)] < 2:
            continue
        try:
            yield from _of_service(ledger, api, service, now)
        except ReleaseError as error:  # the other services are looked at nevertheless
            log.warning("Whether releases of %s should have overtaken others is not known: %s", service, error)


def _of_service(ledger: Ledger, api: AirflowApi, service: str, now: datetime) -> Iterator[Finding]:
    policy, _, described = resources.catalogue_of(service)
    for ahead, by in find_overtaken(queue_of(ledger, api, service), flows_of(policy, described)):
        if now - by.asked_at < GRACE:
            continue
        rule = f"change_types.{by.change_type}.overtakes, in {source_of_overtakes(policy, described, by.change_type)}"
        yield Finding(
            kind="overtaking_missed",
            what=f"The {by.change_type} release {by.run} waits behind the {ahead.change_type} release {ahead.run}, "
            f"which it should have overtaken (rule: {rule}). No entry says that it did. The Dag {OVERTAKE_RELEASES} "
            f"was not started, or did not end: a release manager can trigger it for {service}.",
            evidence={"ahead": ahead.run, "by": by.run},
            chain=INSTALLATION,
        )
