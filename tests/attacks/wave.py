"""What a wave's task does before it touches a host, done here: it asks for a permit, from the same primary records.

The connections are the running stack's: the same ledger, the same artifact store, the same API of Airflow, the same
catalogue. So one release that waits can be asked about under many circumstances.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.ledger.ledger import Ledger
from interlock.adapters.permits.issuer import PermitIssuer
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.records import RolloutPlan
from interlock.estate.airflow import witness
from interlock.estate.airflow.accounts import passwords
from interlock.estate.airflow.connections import embedded_connections
from interlock.estate.settings import SERVICE, Settings
from interlock.estate.stack.postgres import LEDGER_WRITER, ledger_password
from interlock.stages.release.rollout import count
from interlock.stages.runtime import permits, resources
from tests.end_to_end.people import Release
from tests.task_instance import task_instance


def connect(settings: Settings, patch: pytest.MonkeyPatch) -> None:
    """Give this process the connections and the catalogue of a stack."""
    known = {**passwords(settings), LEDGER_WRITER: ledger_password(settings, LEDGER_WRITER)}
    for name, entry in embedded_connections(settings, known).items():
        fields = {
            "conn_type": entry.type,
            "host": entry.host,
            "login": entry.login,
            "password": entry.password,
            "schema": entry.schema_,
            "port": entry.port,
            "extra": entry.extra,
        }
        patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({key: one for key, one in fields.items() if one}))
    for name, value in {"INTERLOCK_CATALOGUE": str(settings.catalogue), **witness.of_all(settings)}.items():
        patch.setenv(name, value)


@contextmanager
def task_of(release: Release, task_id: str = "implementation.wave_1") -> Iterator[None]:
    """Be a task of a release for a block."""
    ti = task_instance(release.dag_id, task_id)
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=release.dag_id, run_id=release.id)}
    with set_current_context(context):
        yield


def refusal(release: Release, plan: RolloutPlan | None = None) -> str:
    """Say why a release gets no permit now; empty: it would get one."""
    with task_of(release):
        asked = plan or permits.frozen_plan()
        assert asked is not None, "no plan was frozen"
        try:
            catalogue = resources.catalogue_of(SERVICE)
            permits.refuse_unproven(catalogue, asked, count(catalogue, asked))
        except ReleaseError as error:
            return str(error)
    return ""


def plan_of(release: Release) -> RolloutPlan:
    """Return the plan that was frozen."""
    with task_of(release):
        plan = permits.frozen_plan()
    assert plan is not None
    return plan


@contextmanager
def office(**clock: Any) -> Iterator[PermitIssuer]:
    """Open the installation's permit office, with its real key and its real ledger."""
    with ledger() as opened:
        yield PermitIssuer(resources.signer(), opened, actor="attacker", **clock)


def ledger() -> Ledger:
    """Open the installation's ledger, as tasks do."""
    return resources.ledger()


def entries(release: Release, kind: str) -> list[Entry]:
    """Return what a release's chain has of one kind."""
    with ledger() as opened:
        return list(opened.entries(release_chain(release.dag_id, release.id), kind=kind))


def findings(release: Release) -> list[str]:
    """Return the findings about a release, in words."""
    return [str(entry.payload.get("what")) for entry in entries(release, "finding")]


def refused_attempts(user: str) -> int:
    """Return how many attempts of somebody were refused, by the installation's chain."""
    with ledger() as opened:
        found = opened.entries(INSTALLATION, kind="attempt.refused")
    return sum(int(entry.payload["count"]) for entry in found if entry.payload["user"] == user)
