"""Systems by their kind in systems.yaml, with the accounts of Airflow's connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interlock.domain.errors import CatalogueError
from interlock.domain.outbox.systems_file import Jira, ServiceNow, ToldSystem, Webhook

from .system import System


def _service_now(described: ToldSystem, connection: Any, site: str) -> System:
    from interlock.adapters.servicenow.changes import Changes  # not at the top: brings httpx
    from interlock.adapters.servicenow.instance import open_instance

    assert isinstance(described, ServiceNow)
    return Changes(open_instance(connection, described.calls_per_second), described)


def _webhook(described: ToldSystem, connection: Any, site: str) -> System:
    from interlock.adapters.webhooks.sending import Webhooks

    assert isinstance(described, Webhook)
    cdevents = described.format == "cdevents"
    return Webhooks.of(connection, calls_per_second=described.calls_per_second, cdevents=cdevents, site=site)


def _jira(described: ToldSystem, connection: Any, site: str) -> System:
    from interlock.adapters.jira.issues import Issues
    from interlock.adapters.jira.site import open_jira

    assert isinstance(described, Jira)
    return Issues(open_jira(connection, described.calls_per_second), described)


def _jira_deployments(described: ToldSystem, connection: Any, site: str) -> System:
    from interlock.adapters.jira.deployments import Deployments

    return Deployments.of(connection, site=site, calls_per_second=described.calls_per_second)


def _pagerduty(described: ToldSystem, connection: Any, site: str) -> System:
    from interlock.adapters.paging.pagerduty import PagerDuty

    return PagerDuty.of(connection, site=site, calls_per_second=described.calls_per_second)


def _opsgenie(described: ToldSystem, connection: Any, site: str) -> System:
    from interlock.adapters.paging.opsgenie import Opsgenie

    return Opsgenie.of(connection, site=site, calls_per_second=described.calls_per_second)


_KINDS: dict[str, Callable[[ToldSystem, Any, str], System]] = {
    "servicenow": _service_now,
    "jira": _jira,
    "jira_deployments": _jira_deployments,
    "pagerduty": _pagerduty,
    "opsgenie": _opsgenie,
    "webhook": _webhook,
}


def open_system(described: ToldSystem, connection: Any, *, site: str = "") -> System:
    """Return a system of systems.yaml.

    :param connection: the Airflow connection that it names.
    :param site: Airflow's address, for links to releases.
    :raises CatalogueError: its kind is of a newer version of Interlock.
    """
    kind = str(getattr(described, "kind", ""))
    if kind not in _KINDS:
        raise CatalogueError(f"Systems of the kind {kind!r} are not known here.", next_step="upgrade this component")
    return _KINDS[kind](described, connection, site)
