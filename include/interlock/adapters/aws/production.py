"""Finding what belongs to production: by the catalogue, by AWS, and by the logins of its hosts."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict

from interlock.adapters.catalogue.yaml_files import read_yaml
from interlock.domain.catalogue import PRODUCTION, Environment
from interlock.domain.errors import CatalogueError, ReleaseError, TransientError
from interlock.domain.permits.permit import SANDBOXES
from interlock.domain.permits.production import Kind, Place, Production

log = logging.getLogger(__name__)
_FIELDS = Environment.model_fields


class _Fleet(BaseModel):
    """What is read of an environment, whatever else is wrong with it: its hosts are there all the same."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    hosts: dict[str, str] = {}
    aws: str = _FIELDS["aws"].default
    ssh: str = _FIELDS["ssh"].default
    target_group: str | None = None
    baseline_target_group: str | None = None
    after: object = None
    canary: _Fleet | None = None
    blue_green: _Fleet | None = None


def places_of(folder: Path) -> tuple[Place, ...]:
    """Return the location of each environment of each service, by the readable files of the catalogue."""
    return tuple(place for path in sorted((folder / "services").glob("*.yaml")) for place in _places_in(path))


def production_places(folder: Path) -> tuple[Place, ...]:
    """Return the location of each environment that needs a permit."""
    return tuple(place for place in places_of(folder) if not place.sandbox)


def _places_in(path: Path) -> Iterator[Place]:
    try:
        value = read_yaml(path, shown=f"services/{path.name}").value
    except CatalogueError as error:
        log.warning("Production hosts were not read: %s", error)
        return
    environments = value.get("environments") if isinstance(value, dict) else None
    for name, raw in environments.items() if isinstance(environments, dict) else ():
        try:
            fleet = _Fleet.model_validate(raw)
        except ValueError as error:
            log.warning("Hosts were not read: %s of services/%s: %s", name, path.name, error)
            continue
        yield place_of(path.stem, name, fleet)


def place_of(service: str, environment: str, fleet: Any) -> Place:
    """Return the location of an environment, according to the catalogue."""
    more = [one for one in (fleet.canary, fleet.blue_green) if one]
    groups = (getattr(one, key, None) for one in (fleet, *more) for key in ("target_group", "baseline_target_group"))
    fleets = (fleet.hosts, *(one.hosts for one in more if getattr(one, "hosts", None)))
    return Place(
        service,
        environment,
        fleets,
        fleet.aws,
        fleet.ssh,
        tuple(group for group in groups if group),
        # What a file does not place before production is production, also while the file has other errors.
        sandbox=environment in SANDBOXES or (environment != PRODUCTION and bool(fleet.after)),
    )


def production_of(
    places: Iterable[Place],
    *,
    groups: Collection[str],
    aws: Callable[[str, str], Any],
    login: Callable[[str], Any],
) -> Production:
    """Find the resources of the production environments.

    :param groups: names of the target groups that are asked about.
    :param aws: returns a boto3 client for a connection and a service; none: there is no such connection.
    :param login: returns what a connection shows of hosts: its ``public_key``, and ``keys_of(address)``; none: it is
        no login over SSH, or there is no such connection.
    :raises TransientError: AWS does not say what belongs to a production environment.
    """
    owners: dict[tuple[Kind, str], str] = {}
    addresses: dict[str, dict[str, str]] = defaultdict(dict)
    by_account: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_account[place.aws].append(place)
    for account, there in by_account.items():
        for place, about in _instances(account, there, aws):
            owners["instance", about["InstanceId"]] = str(place)
            for address in _addresses(about):
                owners["address", address] = addresses[place.ssh][address] = str(place)
        for place, arn in _groups(account, there, groups, aws):
            owners["target group", arn] = str(place)
    for name in {place.ssh: None for there in by_account.values() for place in there}:
        if found := login(name):
            whose = next(str(place) for there in by_account.values() for place in there if place.ssh == name)
            owners["login key", found.public_key] = whose
            for address, owner in addresses[name].items():
                owners |= {("host key", key): owner for key in found.keys_of(address)}
    return Production(owners)


def _instances(
    account: str, places: Collection[Place], aws: Callable[[str, str], Any]
) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    ec2 = aws(account, "ec2")
    keys = sorted({key for place in places for fleet in place.fleets for key in fleet})
    if ec2 is None or not keys:
        return
    with_tags = [{"Name": "tag-key", "Values": keys[:200]}] if len(keys) <= 200 else []  # as many as AWS takes
    for page in _asked(account, lambda: [*ec2.get_paginator("describe_instances").paginate(Filters=with_tags)]):
        for about in (about for reservation in page["Reservations"] for about in reservation["Instances"]):
            tags = {tag["Key"]: tag["Value"] for tag in about.get("Tags", ())}
            if owner := next((place for place in places if place.has(tags)), None):
                yield owner, about


def _addresses(about: Mapping[str, Any]) -> set[str]:
    """Return every address and name by which an instance is reached."""
    cards = about.get("NetworkInterfaces", ())
    private = [each for card in cards for each in card.get("PrivateIpAddresses", ())]
    found = [about, *cards, *private, *(one.get("Association", {}) for one in (*cards, *private))]
    keys = ("PrivateIpAddress", "PublicIpAddress", "PrivateDnsName", "PublicDnsName", "PublicIp", "Ipv6Address")
    six = [each["Ipv6Address"] for card in cards for each in card.get("Ipv6Addresses", ()) if "Ipv6Address" in each]
    return {value for one in found for key in keys if isinstance(value := one.get(key), str) and value} | {*six}


def _groups(
    account: str, places: Collection[Place], names: Collection[str], aws: Callable[[str, str], Any]
) -> Iterator[tuple[Place, str]]:
    for place in places:
        for name in {*place.target_groups} & {*names}:
            elbv2 = aws(account, "elbv2")
            if elbv2 is not None and (arn := group_arn(elbv2, account, name)):
                yield place, arn


def group_arn(elbv2: Any, account: str, name: str) -> str | None:
    """Return the ARN of a target group; none: there is none of that name."""

    def ask() -> list[dict[str, Any]]:
        try:
            return list(elbv2.describe_target_groups(Names=[name])["TargetGroups"])
        except ClientError as error:
            if error.response["Error"]["Code"] in ("TargetGroupNotFound", "TargetGroupNotFoundException"):
                return []
            raise

    return next((str(group["TargetGroupArn"]) for group in _asked(account, ask)), None)


def _asked(account: str, ask: Callable[[], list[Any]]) -> list[Any]:
    try:
        return ask()
    except (ClientError, BotoCoreError) as error:
        raise TransientError(
            f"The production resources could not be read from AWS through {account}: {error}",
            rule="a host is accessed without a permit only if it certainly does not belong to production",
            who="the platform engineer",
            next_step="fix the connection, or remove the environments that name it from the catalogue",
        ) from error


class ShownLogin:
    """What the login of hosts shows: no secret of it.

    :param settings: an ``SshLogin``.
    """

    def __init__(self, settings: Any) -> None:
        from interlock.adapters.hosts.ssh import login_key

        self.public_key, self._settings = login_key(settings), settings

    @cached_property
    def _known(self) -> Any:
        """The content of the known_hosts file, read once for all hosts."""
        from interlock.adapters.hosts.ssh import read_known_hosts

        return read_known_hosts(self._settings)

    def keys_of(self, address: str) -> tuple[str, ...]:
        """Return the keys by which a host is known."""
        from interlock.adapters.hosts.ssh import host_keys

        return host_keys(self._settings, address, self._known)


def shown_login(connection: Any) -> ShownLogin | None:
    """Read a connection; none: it is no login over SSH that could be used."""
    from interlock.adapters.hosts.ssh import ssh_login

    if connection.conn_type == "aws":
        return None
    try:
        return ShownLogin(ssh_login(connection))
    except ReleaseError as error:
        log.warning("Host keys were not read: %s", error)
        return None
