"""The releases of a service that can be withdrawn, by the ledger: those that have not ended."""

from __future__ import annotations

from collections.abc import Callable

from interlock.domain.dag_names import dags_of_service
from interlock.domain.errors import LedgerBroken
from interlock.domain.ledger.chain import INSTALLATION, Chains, release_chain
from interlock.domain.ledger.kinds import RELEASE_ENDED
from interlock.domain.ledger.runs import run_of
from interlock.domain.permits.withdrawal import ReleaseUnderWay, describe_release


def releases_under_way(
    ledger: Chains, service: str, is_running: Callable[[str, str], bool]
) -> tuple[ReleaseUnderWay, ...]:
    """Return the releases and rollbacks of a service that are queued or running.

    A chain that does not hold is left out: its release gets no permit, and must not keep others from being withdrawn.

    :param is_running: tells whether Airflow has a run, by Dag and run id, queued or running.
    """
    ended = {entry.payload["run"] for entry in ledger.entries(INSTALLATION, kind=RELEASE_ENDED)}
    found = []
    for dag_id in dags_of_service(service):
        for chain in ledger.chains(release_chain(dag_id, "")):
            run = run_of(chain)
            if run is None or "/".join(run) in ended or not is_running(*run):
                continue
            try:
                found.append(describe_release(*run, ledger.entries(chain)))
            except LedgerBroken:
                continue
    return tuple(found)
