"""The catalogue, and clients made from Airflow's connections, for tasks.

Only tasks call these functions. Importing a Dag file opens no connection.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException

from interlock.adapters.airflow import connections
from interlock.adapters.airflow.execution_api import refuse_unguarded as refuse_unguarded_api
from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.artifacts.store import ArtifactStore, open_store
from interlock.adapters.aws.load_balancer import CLIENT_CONFIG, Groups, TargetGroup, asking
from interlock.adapters.build import sandboxes
from interlock.adapters.build.registries import registry_of
from interlock.adapters.catalogue.catalogue import load_service
from interlock.adapters.signing import witness
from interlock.adapters.signing.signing import Signer, open_signer
from interlock.adapters.source import git
from interlock.domain.catalogue import Environment, Policy, Prebuilt, Service, ServiceCatalogue
from interlock.domain.change.policy import build_rules_of
from interlock.domain.dag_names import Home, home_of
from interlock.domain.errors import ReleaseError
from interlock.domain.permits.connections import ConnectionDigests, digests_of, fields_of
from interlock.domain.permits.production import Production
from interlock.domain.records import Host
from interlock.locations import PROJECT, catalogue_folder

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook
    from botocore.config import Config

    from interlock.adapters.hosts.fleet import HostLogin
    from interlock.adapters.ledger.ledger import Ledger

CONNECTIONS = connections.CONNECTIONS
ARTIFACTS, AIRFLOW, BOARD_CLERK, CONDUCTOR, LEDGER, SIGNING_KEY, SMTP = CONNECTIONS
"""The connections of the installation; services and environments name theirs in the catalogue."""


def home() -> Home:
    """Return where Interlock's Dag files are: ``INTERLOCK_DAGS``, or the bundle that Airflow brings."""
    return home_of(os.environ.get("INTERLOCK_DAGS"))


def catalogue_of(service: str) -> ServiceCatalogue:
    """Read what the catalogue says now about one service."""
    return load_service(catalogue_folder(), service).of(service)


def connections_of(service: Service) -> frozenset[str]:
    """Return the connections that a release of a service uses."""
    of_environments = (name for one in service.environments.values() for name in (one.aws, one.ssh))
    of_suites = (name for suite in service.suites.values() for name in suite.registries)
    of_steps = (one.connection for step in service.runbook for _, one in step.actions if one.connection)
    build = service.build
    of_build = (build.connection,) if isinstance(build, Prebuilt) else build.registries
    of_databases = (one.connection for one in service.databases.values())
    named = (*of_environments, *of_build, *of_suites, *of_databases, *of_steps)
    return frozenset((*CONNECTIONS, service.source.connection, *named))


def connections_now(service: Service, hosts: Iterable[Host]) -> ConnectionDigests:
    """Return what the connections of a service are now, by digest.

    :param hosts: those of the release: the keys by which they are known are part of a login over SSH.
    """
    addresses = sorted(host.address for host in hosts)
    found = {name: connection_or_none(name) for name in connections_of(service)}
    ledger_password = getattr(found[LEDGER], "password", None) or ""
    key = signer().derived_key("digests of connections") or hashlib.sha256(ledger_password.encode()).digest()
    return digests_of({name: _contents(one, addresses) if one else {} for name, one in found.items()}, key)


def _contents(connection: Any, addresses: Sequence[str]) -> dict[str, str]:
    from interlock.adapters.aws.production import shown_login

    fields = fields_of(connection)
    if connection.conn_type == "ssh" and (shown := shown_login(connection)):
        fields["the key of the login"] = shown.public_key
        with suppress(ReleaseError):  # what cannot be read now, and could before, is a difference
            known = {address: shown.keys_of(address) for address in addresses}
            fields |= {f"the host key of {address}": " ".join(sorted(keys)) for address, keys in known.items() if keys}
    return fields


def confines(policy: Policy, service: Service, registries: Sequence[str]) -> sandboxes.Confines:
    """Return the limits of a build or a suite of a service, with the registries that it names."""
    found = [registry_of(BaseHook.get_connection(name)) for name in registries]
    return sandboxes.Confines(rules=build_rules_of(policy, service), registries=tuple(found))


def refuse_unguarded() -> None:
    """Refuse to go on if tasks of other Dags could interfere with a release.

    :raises PolicyViolation: the execution API that this task talks to is not guarded.
    """
    served = conf.get("api", "base_url", fallback="/")
    base = f"http://localhost:8080{served}" if served.startswith("/") else served  # as Airflow's executors have it
    refuse_unguarded_api(conf.get("core", "execution_api_server_url", fallback=f"{base.rstrip('/')}/execution/"))


def store() -> ArtifactStore:
    """Return the artifact store."""
    return open_store(BaseHook.get_connection(ARTIFACTS))


def signer() -> Signer:
    """Return the signer of attestations."""
    return open_signer(BaseHook.get_connection(SIGNING_KEY))


def witness_key() -> bytes:
    """Return the public key with which Airflow's API server signs requests and answers, as PEM."""
    return witness.witness_key()


@contextmanager
def one_ledger() -> Iterator[None]:
    """Let everything inside use the same ledger: a task needs it several times, and a login takes long."""
    with ExitStack() as until_end:
        before = _ONE_LEDGER.set((until_end, []))
        try:
            yield
        finally:
            _ONE_LEDGER.reset(before)


_ONE_LEDGER: ContextVar[tuple[ExitStack, list[Ledger]] | None] = ContextVar("ledger", default=None)
"""What closes the ledger of the running task, and that ledger, when it was needed."""


def ledger() -> AbstractContextManager[Ledger]:
    """Return the ledger, to append to and to read, as a context manager."""
    from interlock.adapters.ledger.ledger import open_ledger  # not at the top: brings SQLAlchemy

    if (shared := _ONE_LEDGER.get()) is None:
        return open_ledger(BaseHook.get_connection(LEDGER))
    until_end, opened = shared
    if not opened:
        opened.append(until_end.enter_context(open_ledger(BaseHook.get_connection(LEDGER))))
    return nullcontext(opened[0])


def login(environment: Environment) -> HostLogin:
    """Return the login of an environment's hosts: over SSH, or through SSM if the connection's type is aws."""
    from interlock.adapters.hosts.ssh import ssh_login  # not at the top: see rolling.py

    connection = BaseHook.get_connection(environment.ssh)
    if connection.conn_type != "aws":
        return ssh_login(connection)
    from interlock.adapters.aws.clients import aws_client
    from interlock.adapters.hosts.ssm import ssm_login

    return ssm_login(connection, lambda service: aws_client(connection, service))


def aws(environment: Environment, client_type: str) -> Any:
    """Return a boto3 client for an environment's AWS account."""
    return aws_of(environment.aws, client_type)


def aws_of(connection: str, client_type: str, config: Config = CLIENT_CONFIG) -> Any:
    """Return a boto3 client of an Airflow connection.

    :param config: by default for calls that may be repeated.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    return AwsBaseHook(aws_conn_id=connection, client_type=client_type, config=config).get_conn()


def production(sandbox: Environment, service: str, name: str) -> Production:
    """Return what belongs to the production environments of all services.

    :param sandbox: the environment that is to be reached without a permit; ``name``: of ``service``.
    :raises PolicyViolation: it shares a target group with production. :raises TransientError: AWS does not answer.
    """
    from interlock.adapters.aws import production as adapter

    place = adapter.place_of(service, name, sandbox)

    def client(connection: str, kind: str) -> Any:
        return aws_of(connection, kind) if connection_or_none(connection) else None

    found = adapter.production_of(
        adapter.production_places(catalogue_folder()),
        groups=place.target_groups,
        aws=client,
        login=lambda one: adapter.shown_login(known) if (known := connection_or_none(one)) else None,
    )
    for group in place.target_groups:
        if arn := adapter.group_arn(client(place.aws, "elbv2"), place.aws, group):
            found.refuse("target group", arn, f"the target group {group} of {place}")
    return found


def connection_or_none(name: str) -> Any:
    """Return an Airflow connection; None if there is none."""
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException:
        return None


def load_balancer(environment: Environment, may: Callable[[str], None]) -> Any:
    """Return a client for an environment's load balancer, to change it with.

    :param may: is called just before each change with its description; raises if the change is no longer allowed.
    """
    return asking(aws(environment, "elbv2"), may)


def balancer(
    environment: Environment, target_group: str | None, others: Sequence[str] = (), *, may: Callable[[str], None]
) -> TargetGroup | Groups | None:
    """Return the target group that hosts are drained from and restored to, if the environment has one.

    :param others: target groups that they may be in as well, and are not in afterwards.
    :param may: as in :func:`load_balancer`.
    """
    if target_group is None:
        return None
    client = load_balancer(environment, may)
    home = TargetGroup(client, target_group)
    return Groups(home, [TargetGroup(client, other) for other in others]) if others else home


def airflow_api(connection: str = AIRFLOW) -> AirflowApi:
    """Return a client of Airflow's public API, under a service account of its own; use it as a context manager."""
    return AirflowApi.of(BaseHook.get_connection(connection))


def mail_server() -> SmtpHook:
    """Return the connection to the mail server; use it as a context manager."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    return SmtpHook(smtp_conn_id=SMTP)


def repository_url(service: Service) -> str:
    """Return the URL of a service's repository: the host of its connection, as it is written there."""
    return str(BaseHook.get_connection(service.source.connection).host)


@contextmanager
def workspace() -> Iterator[Path]:
    """Give a task a temporary folder, which is removed when the task ends."""
    with TemporaryDirectory(prefix="interlock-") as folder:
        yield Path(folder)


@contextmanager
def build_workspace() -> Iterator[Path]:
    """Give a build a temporary folder outside of the project: tools read settings in the folders above theirs."""
    places = (gettempdir(), "/var/tmp", "/tmp")
    outside = [place for place in places if not Path(place).resolve().is_relative_to(PROJECT.resolve())]
    place = next((place for place in outside if os.access(place, os.W_OK)), None)
    with TemporaryDirectory(prefix="interlock-build-", dir=place) as folder:
        yield Path(folder)


@contextmanager
def repository(service: Service) -> Iterator[git.Repository]:
    """Open a service's repository for as long as a task reads it; login and password are for https."""
    connection = BaseHook.get_connection(service.source.connection)
    with workspace() as folder:
        yield git.open_repository(
            str(connection.host),
            folder / "repository.git",
            login=connection.login or None,
            password=connection.password or None,
        )
