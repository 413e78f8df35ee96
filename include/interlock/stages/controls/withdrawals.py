"""The Dag ``withdraw_release``: the requester or a release manager ends a release, with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.catalogue.catalogue import environments_of
from interlock.adapters.ledger.withdrawals import releases_under_way
from interlock.adapters.signing.witness import only_witnessed
from interlock.domain.dag_names import dags_of_service
from interlock.domain.errors import LedgerBroken
from interlock.domain.ledger.chain import Entry, release_chain
from interlock.domain.ledger.kinds import RELEASE_WITHDRAWN, RUN_ASKED
from interlock.domain.permits.withdrawal import (
    ReleaseUnderWay,
    Withdrawal,
    WithdrawalRequest,
    describe_release,
    find_release,
    parse_withdrawal,
    refuse_too_late,
    role_of,
)
from interlock.domain.trigger_form import fields_of
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import this_try
from interlock.stages.runtime.history import append_once, sign_if_possible
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_task, this_run
from interlock.stages.runtime.triggers import UNDER_WAY

from .ends import see_to_its_end, wait_again

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger


def withdraw_params(folder: Path) -> dict[str, Param]:
    """Return the form of a withdrawal."""
    return form_params(fields_of(WithdrawalRequest, service={"enum": sorted(environments_of(folder))}))


@stage_task(task_display_name="Record the withdrawal")
def record_withdrawal() -> dict[str, Any]:
    """Record in the ledger that a release is withdrawn.

    Afterwards the release gets no permit and asks nobody, and a wave in progress halts before its next host. Only the
    requester of the release and release managers may withdraw it, until its verification has succeeded.
    """
    by = requester()
    request = parse_withdrawal(entered(), environments_of(catalogue_folder()))
    with resources.ledger() as ledger:
        if this_try() > 1 and (known := _recorded(ledger, request.service)):
            return known
        release = _find(ledger, request)
        of_release = release_chain(release.dag_id, release.run_id)
        withdrawal = Withdrawal(
            release=f"{release.dag_id}/{release.run_id}",
            by=by,
            # The API server checked the role when it recorded the request of this run.
            role=role_of(release, by, manages=True),
            reason=request.reason,
            run="/".join(this_run()),
            at=ledger.now(),
        )
        plain = withdrawal.model_dump(mode="json")
        entry = append_once(ledger, RELEASE_WITHDRAWN, plain, actor=by, key=RELEASE_WITHDRAWN, chain=of_release)
        _refuse_void(ledger, release, entry)
        sign_if_possible(ledger, entry)
    return entry.payload


def _find(ledger: Ledger, request: WithdrawalRequest) -> ReleaseUnderWay:
    """Return the release that the form names, with its requester as the API server signed it."""
    with resources.airflow_api() as api:
        found = find_release(request, releases_under_way(ledger, request.service, _is_running(api)))
    asked = ledger.entries(release_chain(found.dag_id, found.run_id), kind=RUN_ASKED)
    signed = only_witnessed(asked, resources.witness_key())
    release = found.model_copy(update={"requested_by": str(signed[0].payload["user"]) if signed else ""})
    refuse_too_late(release)
    return release


def _is_running(api: AirflowApi) -> Callable[[str, str], bool]:
    def is_running(dag_id: str, run_id: str) -> bool:
        return api.run_state(dag_id, run_id) in UNDER_WAY

    return is_running


def _recorded(ledger: Ledger, service: str) -> dict[str, Any] | None:
    """Return what an earlier try of this task recorded; its release may have ended since."""
    run = "/".join(this_run())
    return next((one.payload for one in _withdrawals(ledger, service) if one.payload["run"] == run), None)


def _withdrawals(ledger: Ledger, service: str) -> Iterator[Entry]:
    for dag_id in dags_of_service(service):
        for one in ledger.chains(release_chain(dag_id, "")):
            with suppress(LedgerBroken):  # the chain of another release is broken
                yield from ledger.entries(one, kind=RELEASE_WITHDRAWN)


def _refuse_void(ledger: Ledger, release: ReleaseUnderWay, entry: Entry) -> None:
    """Refuse if another person withdrew the release meanwhile, or if it was verified before the withdrawal."""
    if entry.payload["run"] != "/".join(this_run()):
        refuse_too_late(release.model_copy(update={"withdrawn": Withdrawal.model_validate(entry.payload)}))
    now = describe_release(release.dag_id, release.run_id, ledger.entries(entry.chain))
    if now.withdrawn is None:
        refuse_too_late(now)


@stage_task(task_display_name="Close its questions and wait for its end", execution_timeout=timedelta(minutes=10))
def await_end(recorded: dict[str, Any]) -> dict[str, Any]:
    """Close the open questions of the release, and wait until the release has ended.

    A queued release is not waited for: it ends as soon as Airflow starts it. Returns how the release ended.
    """
    withdrawal = Withdrawal.model_validate(recorded)
    end = see_to_its_end(withdrawal.release, withdrawal.sentence)
    if end is None:
        wait_again(f"the release {withdrawal.release} is about to end")
    return end


def withdraw_tasks() -> None:
    """Record the withdrawal, then wait for the end of the release."""
    await_end(record_withdrawal())
