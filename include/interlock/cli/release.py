"""Request a release as a pipeline does it, or ask why one does not move: calls to an Airflow with an account of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.adapters.airflow.rest_api import AirflowApi, dag_path, run_path
from interlock.domain.dag_names import RELEASES, name_by_key
from interlock.domain.errors import RequestRefused, TransientError
from interlock.domain.outcome.explain import Explanation

URL, USER, PASSWORD = "INTERLOCK_URL", "INTERLOCK_USER", "INTERLOCK_PASSWORD"  # names of variables
_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Requested:
    """A release that was requested.

    :param before: by an earlier call with the same key.
    """

    dag_id: str
    run_id: str
    state: str
    url: str
    before: bool


def _account(environ: Mapping[str, str], what: str) -> tuple[str, str, str]:
    """Return where Airflow is, and the account; RequestRefused if the environment does not have all of it."""
    url, user, password = (environ.get(name, "") for name in (URL, USER, PASSWORD))
    if not (url and user and password):
        raise RequestRefused(
            f"Where to {what} is not known: {URL}, {USER} and {PASSWORD} are not all set.",
            rule="the account comes from the environment, never from the command line, which others can read",
            next_step="set them: the address of Airflow, and the account",
        )
    return url.rstrip("/"), user, password


def explain_and_tell(run: str, *, as_json: bool) -> None:
    """Print why a run does not move.

    :param run: Dag and run id.
    :raises RequestRefused: Airflow does not have the run, or this account may not read it.
    """
    dag_id, _, run_id = run.partition("/")
    url, user, password = _account(os.environ, "ask")
    with AirflowApi(url, user, password) as api:
        answer = api.request("GET", f"{url}/interlock/api/v1/{run_path(dag_id, run_id)}/explanation")
    if answer.status_code != 200:
        raise RequestRefused(
            f"{run} was not explained. {answer.text[:_SHOWN]}", next_step="name it as <dag id>/<run id>"
        )
    found = Explanation.model_validate(answer.json())
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    print(found.why)
    for act in found.acts:
        by = f" ({', '.join(act.by)})" if act.by else ""
        print(f"- {act.what}{by}{f', until {act.until:%Y-%m-%d %H:%M} UTC' if act.until else ''}")
    if found.earliest:
        print(f"It moves by itself at {found.earliest:%Y-%m-%d %H:%M} UTC at the earliest.")
    for incident in found.incidents:
        print(f"Open incident: {incident}")
    for one in found.refusals:
        when = f"at its start, {one.at:%Y-%m-%d %H:%M} UTC" if one.at else "now"
        print(f"A wave would be refused {when}: {one.what} Who can change it: {one.who}. Next: {one.next_step}.")


def request_release(service: str, form: Mapping[str, Any], key: str, environ: Mapping[str, str]) -> Requested:
    """Request a release of a service as the account that the environment names; the same key: the same run.

    :param form: the fields of the trigger form.
    :raises RequestRefused: Airflow or release control refuses it, or the key stands for another request.
    """
    url, user, password = _account(environ, "request the release")
    dag_id = f"{RELEASES}{service.replace('-', '_')}"
    run_id = name_by_key(str(form["version"]), key)
    with AirflowApi(url, user, password) as api:
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(form)}
        answer = api.request("POST", f"{dag_path(dag_id)}/dagRuns", json=body)
        if answer.status_code >= 500:
            raise TransientError(f"Airflow answered {answer.status_code}.", next_step="call again with the same key")
        if answer.status_code not in (200, 201, 409):
            raise RequestRefused(f"{service} {form['version']} was not requested. {answer.text[:_SHOWN]}")
        found = api.get(run_path(dag_id, run_id))
    if found.get("conf") != dict(form):
        raise RequestRefused(
            f"The key {key!r} stands for another request of {service}: {found.get('conf')}.",
            rule="the same key always means the same request",
            next_step="use a key of this run of the pipeline, such as its build number",
        )
    shown = f"{url}/dags/{dag_id}/runs/{run_id}"
    return Requested(dag_id, run_id, str(found["state"]), shown, before=answer.status_code == 409)


def request_and_tell(service: str, form: Mapping[str, Any], key: str) -> None:
    """Request a release and print its run."""
    made = request_release(service, form, key, os.environ)
    print(f"{'Was requested before' if made.before else 'Requested'}: {made.dag_id}/{made.run_id}, {made.state}")
    print(made.url)
