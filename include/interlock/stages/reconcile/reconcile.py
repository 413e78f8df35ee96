"""The Dag ``reconcile``: compares the ledger with Airflow's record, with itself, and with the hosts.

A contradiction becomes a finding: in the chain of the release, which then gets no permit, or in the installation's.
Airflow and the hosts are read before the ledger, because each change is recorded before it shows elsewhere.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.domain.catalogue import Findings
from interlock.domain.errors import CatalogueError

from .findings import tell_people
from .missed_mails import mail_questions
from .reconcile_hosts import check_hosts
from .reconcile_ledger import check_ledger
from .reconcile_releases import check_releases


def schedule(folder: Path) -> timedelta:
    """Return the interval of the checks in the policy; while the policy is broken, the default."""
    try:
        return load_rules(folder)[0].findings.every
    except CatalogueError:
        return Findings().every


def reconcile_tasks() -> None:
    """Check releases, ledger and hosts, then notify people. The run fails if a check could not be completed.

    The checks run one after another, to leave workers to releases, and each runs even if the previous one failed.
    """
    releases, ledger, hosts = check_releases(), check_ledger(), check_hosts()
    all_looked_at = EmptyOperator(
        task_id="all_looked_at",
        task_display_name="All checks completed",
        doc_md="Succeeds if the checks of releases, ledger and hosts completed, even if a notification was sent.",
    )
    releases >> ledger >> hosts >> tell_people() >> mail_questions()
    [releases, ledger, hosts] >> all_looked_at
