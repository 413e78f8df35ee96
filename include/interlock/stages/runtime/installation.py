"""What does not hold of the installation, just before a permit of the running release."""

from __future__ import annotations

from time import monotonic, sleep

from interlock.adapters.permits import installation
from interlock.adapters.signing.signing import key_id
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, ServiceCatalogue
from interlock.domain.change.effective import rules_for
from interlock.domain.permits.installation import Fault, differ, faults

from . import resources
from .taskflow import this_run

SETTLING_SECONDS = 60.0
"""For so long, components may have different rules for a release: an edit of the catalogue is on its way to them."""
POLL_SECONDS = 2.0


def faults_now(
    catalogue: ServiceCatalogue, change_type: ChangeType, dag_id: str = "", *, settle: bool = True
) -> tuple[Fault, ...]:
    """Return the checks that do not hold now.

    :param settle: wait while components have different rules; of a release that is void anyway, nothing is gained.
    :param dag_id: the Dag of the release; by default that of the running task.
    :raises TransientError: an API server does not answer now.
    """
    rules, key = sha256_of(rules_for(catalogue, change_type)), key_id(resources.witness_key())
    give_up = monotonic() + (SETTLING_SECONDS if settle else 0)
    with resources.ledger() as ledger, resources.airflow_api() as api:
        while True:
            seen = installation.look(
                api,
                ledger,
                servers=installation.api_servers() or (api.url,),
                dag_id=dag_id or this_run()[0],
                service=catalogue.service.name,
                change_type=change_type,
                rules=rules,
                witness_key=key,
            )
            if not differ(seen) or monotonic() > give_up:
                return faults(seen)
            sleep(POLL_SECONDS)
