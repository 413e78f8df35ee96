"""Make a task of a function of records.

A stage's function takes the records before it and returns its own; :func:`stage_task` reads them from plain JSON,
refuses those that the release's chain does not have, records the result there, and returns it as plain JSON. A final
error fails the task at once, and Airflow retries after any other. The reason of a failure is in the XCom ``reason`` of
the task, for the closure and for people.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import DAG, Context, get_current_context, get_parsing_context, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from pydantic import ValidationError, validate_call

from interlock.adapters.catalogue.catalogue import load_catalogue, load_service
from interlock.domain.canonical import Model
from interlock.domain.catalogue import BoardBook, Policy, Service
from interlock.domain.errors import CalledOff, HostUnreachable, ReleaseError, TransientError
from interlock.domain.outcome.outcome import STAGE_TITLES, STAGES
from interlock.domain.records import Record
from interlock.locations import catalogue_folder

from . import resources
from .evidence import AfterEnd, record, record_worded, refuse_void

REASON = "reason"
"""The XCom key under which a failed or skipped task leaves its reason."""
CALLED_OFF = "called_off"
"""The XCom key under which a failed task notes that it did nothing, because the release was called off."""

DEFAULT_ARGS: dict[str, Any] = {
    "retries": 4,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=30),
}
"""For every task of a release. Each task is safe to run again.

Four retries take 75 s: a database, a broker or a store that is started again fails no release.
"""

WHILE_SERVERS_ARE_AWAY = 6
"""Retries of a task that closes a release: 275 s in all, in which a database, a store or a mail server comes back.
Nothing does later what these tasks do."""
WHILE_HOSTS_ARE_SILENT = 4
"""Retries of a task that changes production: 75 s in all, in which a network, or a host's SSH server, comes back."""


BUILD_QUEUE = "INTERLOCK_BUILD_QUEUE"
"""Environment variable: the queue of the tasks that build or test; without it, the default queue."""


def on_build_workers() -> dict[str, Any]:
    """Return the options of a task that builds, tests, or checks the build tools."""
    queue = os.environ.get(BUILD_QUEUE)
    return {"queue": queue} if queue else {}


def control_dag(owner: str = "the release management office", **options: Any) -> dict[str, Any]:
    """Return the arguments of a Dag that looks after releases; ``options`` add to them or replace them."""
    return {
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 16,
        "dagrun_timeout": timedelta(hours=1),
        "is_paused_upon_creation": False,
        "tags": ["control"],
        "default_args": {**DEFAULT_ARGS, "owner": owner},
        **options,
    }


ONE_SERVICE: ContextVar[str] = ContextVar("one_service", default="")
"""The only service whose Dags are composed, for a bundle with a file for each service (:mod:`interlock.dag_bundle`)."""


def service_dags(prefix: str, compose: Callable[[Service, Policy, BoardBook], DAG]) -> dict[str, DAG]:
    """Compose the Dags of all services, or only the Dag of the task that is about to run.

    :param prefix: of the ids of these Dags.
    """
    wanted, only = get_parsing_context().dag_id, ONE_SERVICE.get()
    if wanted and wanted.startswith(prefix):
        only = wanted.removeprefix(prefix).replace("_", "-")
    elif wanted and only:
        return {}  # the task is of this service's other Dag
    catalogue = load_service(catalogue_folder(), only) if only else load_catalogue(catalogue_folder())
    dags = (compose(service, catalogue.policy, catalogue.board) for service in catalogue.services.values())
    return {dag.dag_id: dag for dag in dags}


class WaitUntil(DateTimeSensorAsync):
    """Wait for a time without a worker; if the time has come, continue at once, without the triggerer."""

    def execute(self, context: Context) -> None:
        """Hand over to the triggerer, unless the time has come."""
        if not self.poke(context):
            super().execute(context)


def stage_task(
    *, evidence: str = "", seal: bool = False, after_end: AfterEnd = "refuse", words: str = "", **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Make a task of a function of records; ``options`` are the task's own.

    :param evidence: the kind of entry under which the ledger records the result; none: it is not recorded.
    :param seal: sign the chain's head afterwards.
    :param after_end: what the task does after the release has ended or was called off.
    :param words: the task that will ask the returned questions; their signed digests are recorded.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def proven(*args: Any, **kwargs: Any) -> Any:
            given = [*_records((*args, *kwargs.values()))]
            if given or evidence or after_end == "way_back":
                refuse_void(given, after_end=after_end)
            return function(*args, **kwargs)

        checked = validate_call(config={"arbitrary_types_allowed": True})(proven)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with reasons_kept(), resources.one_ledger():
                result = checked(*args, **kwargs)
                if evidence:
                    record(evidence, result, seal=seal)
                if words:
                    record_worded(words, result)
                return as_xcom(result)

        documented = {"doc_md": inspect.getdoc(function), "multiple_outputs": False}
        return task(**{**documented, **options})(run)

    return decorate


def stage_group(stage: str, does: str) -> Callable[[Callable[..., Any]], Any]:
    """Make the task group of a stage, named by the stage's number and title.

    :param does: what the stage does, for the tooltip.
    """
    title = STAGE_TITLES[stage]
    number = "" if stage == STAGES[-1] else f"{STAGES.index(stage) + 1} "
    group: Callable[[Callable[..., Any]], Any] = task_group(
        group_id=stage, group_display_name=f"{number}{title}", tooltip=f"{title}: {does}"
    )
    return group


def _records(values: Iterable[Any]) -> Iterator[Record]:
    for value in values:
        if isinstance(value, Record):
            yield value
        elif isinstance(value, list | tuple):
            yield from _records(value)


@contextmanager
def reasons_kept() -> Iterator[None]:
    """Keep the reason of a failure in an XCom, and tell Airflow whether a retry can help."""
    try:
        yield
    except (TransientError, HostUnreachable) as error:
        _keep(str(error))
        raise
    except ReleaseError as error:
        _keep(str(error))
        if isinstance(error, CalledOff):
            get_current_context()["ti"].xcom_push(key=CALLED_OFF, value=True)
        raise AirflowFailException(str(error)) from error
    except ValidationError as error:
        reason = f"A record that this task received is not valid: {error}"
        _keep(reason)
        raise AirflowFailException(reason) from error
    except (AirflowFailException, AirflowSkipException) as error:
        _keep(str(error))
        raise
    except AirflowRescheduleException:  # nothing failed: the task is run again later
        raise
    except Exception as error:
        _keep(f"{type(error).__name__}: {error}")
        raise


def _keep(reason: str) -> None:
    get_current_context()["ti"].xcom_push(key=REASON, value=reason[:4000])


def as_xcom(value: Any) -> Any:
    """Return records, and lists of them, as plain JSON."""
    if isinstance(value, Model):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [as_xcom(item) for item in value]
    return value


def push_result(result: Record, kind: str, *, seal: bool = False) -> None:
    """Record a result in the ledger and keep it as the task's result, before the task fails."""
    record(kind, result, seal=seal)
    keep_result(result)


def keep_result(result: Record) -> None:
    """Keep a record as the task's result before the task fails. The ledger has it already."""
    get_current_context()["ti"].xcom_push(key="return_value", value=result.to_xcom())


def this_run() -> tuple[str, str]:
    """Return the running task's Dag id and run id."""
    dag_run: Any = get_current_context()["dag_run"]
    return dag_run.dag_id, dag_run.run_id
