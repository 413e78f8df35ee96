"""A run of a Dag of the organisation's own, by Airflow's public API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from interlock.adapters.airflow.rest_api import AirflowApi, dag_path
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue.runbook_file import DagRunStep
from interlock.domain.errors import AssetMissing, ReleaseError, TransientError

from . import Seen

_UNDER_WAY = ("queued", "running")
_REDACTED = "REDACTED"
"""How Airflow's answer begins if its reader may not read every Dag of a file."""
Api = Callable[[], AbstractContextManager[AirflowApi]]


def run_of(id: str) -> str:
    """Return the id of the run of a step: Airflow has one run of it at most."""
    return f"interlock__{id}"


class DagRun:
    """A run of another Dag. Airflow's id of the run makes that there is only one.

    It counts if the account started it with the frozen configuration, every task of it ran the frozen file, nobody
    changed it by hand, and it succeeded.

    :param reads: gives a client that reads; ``starts``: that may start runs; ``account``: under which that starts them.
    """

    once, shown_after = True, timedelta()

    def __init__(self, step: DagRunStep, reads: Api, starts: Api, account: str) -> None:
        self._step, self._reads, self._starts, self._account = step, reads, starts, account

    def pin(self, pinned: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return from which file Airflow has the Dag, and what is in it."""
        dag = self._step.dag
        with self._reads() as api:
            try:
                found = api.get(dag_path(dag))
                source = _source(api, dag)
            except TransientError:
                raise
            except ReleaseError as error:
                raise self._not_usable(f"Airflow does not show it to interlock_reader ({error.what})") from error
        if found.get("is_stale") or found.get("is_paused"):
            raise self._not_usable("its file is gone" if found.get("is_stale") else "it is paused")
        place = {"bundle": str(found["bundle_name"]), "file": str(found["relative_fileloc"]), "source": source}
        return place | ({"bundle version": found["bundle_version"]} if found.get("bundle_version") else {})

    def _not_usable(self, why: str) -> AssetMissing:
        return AssetMissing(
            f"The Dag {self._step.dag} cannot be run: {why}.",
            rule="a step that runs a Dag needs it active, readable by interlock_reader, and startable by "
            f"{self._account} (dag_run, in the runbook of the service)",
            who="the owner of the Dag",
            next_step="let it run, and give both roles their rights in its access_control; then trigger the release "
            "again",
        )

    def begin(self, id: str, pinned: Mapping[str, str]) -> Seen | None:
        """Start the run, unless there is one of its id."""
        try:
            with self._starts() as api:
                api.trigger(self._step.dag, run_of(id), self._step.conf, note="A step of a release's runbook")
        except TransientError:
            raise
        except ReleaseError as error:
            return Seen(ended=True, reason=error.what)
        return Seen(ended=False)

    def look(self, id: str, pinned: Mapping[str, str], since: datetime) -> Seen | None:
        """Return the state of the run, and whether it is the one that was frozen."""
        dag, run_id = self._step.dag, run_of(id)
        with self._reads() as api:
            run = api.run_if_any(dag, run_id)
            if run is None:
                return None
            wrong = next(self._differences(run), "")
            if not wrong and run["state"] in _UNDER_WAY:
                return Seen(ended=False)
            wrong = wrong or next(self._of_ended(api, run, pinned), "")
        return Seen(ended=True, said=f"{dag}, run {run_id}: {run['state']}", reason=wrong)

    def stop(self, id: str, since: datetime) -> str:
        """Leave it alone: the account may start runs, and nothing else."""
        return f"The run {run_of(id)} of {self._step.dag} goes on; people who may end runs of this Dag can end it"

    def _differences(self, run: Mapping[str, Any]) -> Iterator[str]:
        if run.get("triggering_user_name") != self._account:
            yield f"{run.get('triggering_user_name') or 'nobody'} started its run, and not {self._account}"
        if sha256_of(run.get("conf") or {}) != sha256_of(self._step.conf):
            yield "its run has another configuration than the plan"

    def _of_ended(self, api: AirflowApi, run: Mapping[str, Any], pinned: Mapping[str, str]) -> Iterator[str]:
        """Yield why a run that has ended does not count."""
        dag, run_id = self._step.dag, str(run["dag_run_id"])
        if run["state"] != "success":
            failed = [task.task_id for task in api.task_states(dag, run_id) if task.state == "failed"]
            yield f"the run of {dag} ended as {run['state']}" + (f": {', '.join(failed)} failed" if failed else "")
        if by_hand := api.changed_by_hand(dag, run_id):
            yield f"its run was changed by hand: {by_hand[0]}"
        if "bundle version" in pinned and run.get("bundle_version") != pinned["bundle version"]:
            yield f"its run used the version {run.get('bundle_version')} of the bundle, and not that of the plan"
        versions = [int(one["version_number"]) for one in run.get("dag_versions") or ()]
        if not versions:
            yield "Airflow does not say which version of the Dag ran"
        if any(_source(api, dag, number) != pinned["source"] for number in versions):
            yield "its run used another version of the Dag's file than the plan"


def _source(api: AirflowApi, dag: str, number: int | None = None) -> str:
    """Return the digest of a Dag's file, as Airflow has it of a version; none: of the newest."""
    wanted = {} if number is None else {"version_number": number}
    text = str(api.get(f"dagSources/{dag}", **wanted)["content"])
    if text.startswith(_REDACTED):
        raise ReleaseError(f"it may not read every Dag of the file of {dag}")
    return sha256_of(text.encode())
