"""Checks of what releases use outside of Airflow: artifacts, mail, instances and the keys of their hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import filterfalse
from typing import Any

from interlock.adapters.airflow.connections import has_connection, shown_to_hooks, stored_connection
from interlock.adapters.artifacts.store import open_store
from interlock.adapters.aws.ec2 import find_hosts
from interlock.adapters.aws.load_balancer import CLIENT_CONFIG
from interlock.adapters.aws.production import ShownLogin
from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.catalogue import Environment
from interlock.locations import catalogue_folder

from .inspection import Finding, well, wrong

SAMPLE = b"written by interlock doctor\n"


def artifacts() -> Iterator[Finding]:
    """Write a small file to the artifact store and read it back; each time it is the same file."""
    from airflow.configuration import conf

    if not has_connection("interlock_artifacts"):
        yield _not_looked_at("artifacts", "interlock_artifacts")
        return
    store = open_store(stored_connection("interlock_artifacts"))
    blob = store.put_bytes(SAMPLE, "doctor.txt")
    store.get_bytes(blob)
    yield well("artifacts", f"{store.root} can be written and read.")
    executor = conf.get("core", "executor")
    if store.root.startswith("file:") and "LocalExecutor" not in executor:
        yield Finding(
            "artifacts",
            "unknown",
            f"Tasks run on other machines, too ({executor}). Whether they have the same folder cannot be seen here.",
            "share the folder, or make interlock_artifacts a connection of type aws with a bucket",
        )


def results() -> Iterator[Finding]:
    """Write a small file where Airflow keeps large results of tasks, and read it back."""
    from airflow.configuration import conf

    place = conf.get("common.io", "xcom_objectstorage_path", fallback="")
    if not place or not conf.get("core", "xcom_backend").endswith(".XComObjectStorageBackend"):
        yield well("results", "Airflow keeps the results of tasks in its database.")
        return
    from airflow.sdk import ObjectStoragePath

    file = ObjectStoragePath(place) / "interlock-doctor.txt"
    with shown_to_hooks(file.conn_id) if file.conn_id else nullcontext():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(SAMPLE)
        kept = file.read_bytes() == SAMPLE
    if kept:
        yield well("results", f"{place} can be written and read.")
    else:
        yield wrong("results", f"{place} does not return what was written.", "look at xcom_objectstorage_path")


def mail() -> Iterator[Finding]:
    """Log in to the mail server; no mail is sent."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    if not has_connection("interlock_smtp"):
        yield _not_looked_at("mail", "interlock_smtp")
        return
    with shown_to_hooks("interlock_smtp"), SmtpHook(smtp_conn_id="interlock_smtp") as hook:
        if not hook.from_email:
            yield wrong("mail", "interlock_smtp names no sender.", "add from_email to the extra of the connection")
            return
    yield well("mail", "The mail server answers.")


def hosts() -> Iterator[Finding]:
    """Find the instances of each environment, and whether the login knows the keys of their hosts."""
    for service in load_catalogue(catalogue_folder()).services.values():
        for name, environment in service.environments.items():
            yield from _environment(f"hosts of {service.name}, {name}", environment)


def _environment(check: str, environment: Environment) -> Iterator[Finding]:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    if missing := next(filterfalse(has_connection, (environment.aws, environment.ssh)), None):
        yield _not_looked_at(check, missing)
        return
    with shown_to_hooks(environment.aws):
        client = AwsBaseHook(aws_conn_id=environment.aws, client_type="ec2", config=CLIENT_CONFIG).get_conn()
    found = [host for tags in environment.fleets for host in find_hosts(client, tags)]
    wanted = environment.count * len(environment.fleets)
    if len(found) < wanted and environment.missing == "refuse":
        tags = ", ".join(f"{key}={value}" for key, value in environment.hosts.items())
        yield wrong(
            check, f"{len(found)} of {wanted} instances run ({tags}).", "start or tag instances, or correct count"
        )
        return
    unknown = _without_key(environment, [host.address for host in found])
    if unknown:
        listed = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        yield wrong(
            check,
            f"The known_hosts file of {environment.ssh} has no key of {listed}.",
            f"compare the key with the console of each host, then add it to the known_hosts file of {environment.ssh}",
        )
        return
    yield well(check, f"{len(found)} instances run, and their host keys are known.")


def _not_looked_at(check: str, conn_id: str) -> Finding:
    return Finding(check, "unknown", f"Not looked at: the connection {conn_id} does not exist.")


def _without_key(environment: Environment, addresses: list[str]) -> list[str]:
    connection: Any = stored_connection(environment.ssh)
    if connection.conn_type == "aws":  # Systems Manager: no host keys
        return []
    from interlock.adapters.hosts.ssh import ssh_login

    login = ShownLogin(ssh_login(connection))
    return [address for address in addresses if not login.keys_of(address)]
