"""What was entered at the form of the current run, and by whom according to the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any

from airflow.sdk import Param, get_current_context

from interlock.adapters.signing.witness import only_witnessed
from interlock.domain.canonical import sha256_of
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.witness import AskedRun, refuse_unasked

from . import resources

WITNESS_TIMEOUT_SECONDS = 10.0
"""Seconds that the API server may take to record the requester of a new run."""


def form_params(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Param]:
    """Return the params of a Dag for the fields of its form, as :mod:`interlock.domain.trigger_form` describes them."""
    return {name: Param(**field) for name, field in fields.items()}


def entered() -> dict[str, Any]:
    """Return what was entered at the form of the current run."""
    return dict(get_current_context()["params"])


def requester() -> str:
    """Return the user name of the person who triggered the current run.

    :raises PolicyViolation: the ledger has no such request, or another requester or form.
    """
    dag_run: Any = get_current_context()["dag_run"]
    user, form = dag_run.triggering_user_name or "", sha256_of(dag_run.conf or {})
    run = AskedRun(dag_id=dag_run.dag_id, run_id=dag_run.run_id, user=user, conf=form)
    refuse_unasked(run, next(iter(only_witnessed(_asked(run), resources.witness_key())), None))
    return user


def _asked(run: AskedRun) -> tuple[Entry, ...]:
    """Return the recorded request of a run. It may be recorded a moment after the first task starts."""
    latest = monotonic() + WITNESS_TIMEOUT_SECONDS
    with resources.ledger() as ledger:
        while (found := ledger.find(run.chain, run.key)) is None and monotonic() < latest:
            sleep(0.2)
    return (found,) if found else ()
