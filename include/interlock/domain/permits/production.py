"""What belongs to production, whatever name it is reached by.

A sandbox needs no permit. So it must not get anything of production's: no host of a production environment of any
service, by its instance, its address or its host key; no target group of such an environment; no key that opens such a
host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from interlock.domain.errors import PolicyViolation

Kind = Literal["instance", "address", "host key", "login key", "target group"]
RULE = "resources of a production environment are accessed only with a permit"
WHO = "the service's team (service file); the platform engineer (connections)"


@dataclass(frozen=True)
class Production:
    """What the production environments of all services have.

    :param owners: kind and name: whose it is, as "production of bike-shop".
    """

    owners: Mapping[tuple[Kind, str], str] = field(default_factory=dict)

    def refuse(self, kind: Kind, name: str, what: str) -> None:
        """Raise a PolicyViolation if a resource belongs to production.

        :param what: says in words what it is, as in "the address 10.0.0.7".
        """
        if owner := self.owners.get((kind, name)):
            raise PolicyViolation(
                f"Access without a permit was refused: {what} belongs to {owner}.",
                rule=RULE,
                who=WHO,
                next_step="give the environment its own hosts, target group, SSH key and known_hosts file",
            )


@dataclass(frozen=True)
class Place:
    """The location of an environment, according to the catalogue.

    :param fleets: the tags of its instances; of two fleets if it has two.
    :param aws, ssh: names of Airflow connections.
    :param sandbox: it is before production, so that its hosts need no permit.
    """

    service: str
    environment: str
    fleets: tuple[Mapping[str, str], ...]
    aws: str
    ssh: str
    target_groups: tuple[str, ...] = ()
    sandbox: bool = False

    def __str__(self) -> str:
        return f"{self.environment} of {self.service}"

    def has(self, tags: Mapping[str, str]) -> bool:
        """Tell whether an instance with these tags is one of its hosts."""
        return any(fleet.items() <= tags.items() for fleet in self.fleets)


def trespasses(sandboxes: Iterable[Place], production: Iterable[Place]) -> Iterator[str]:
    """Yield a sentence for each sandbox that has, by the catalogue alone, what is production's."""
    owners = [*production]
    by_login = {one.ssh: one for one in reversed(owners)}
    by_group = {(one.aws, group): one for one in reversed(owners) for group in one.target_groups}
    for sandbox in sandboxes:
        where = f"services/{sandbox.service}.yaml, environments.{sandbox.environment}"
        if owner := by_login.get(sandbox.ssh):
            yield f"{where}.ssh: {sandbox.ssh} is the login of {owner}: {RULE}. Name one whose key opens no host of it."
        for group in sandbox.target_groups:
            if owner := by_group.get((sandbox.aws, group)):
                yield f"{where}.target_group: {group} is that of {owner}: {RULE}. Name one of its own, or none."
        if owner := next((one for one in owners if one.aws == sandbox.aws and _select_the_same(sandbox, one)), None):
            yield f"{where}.hosts selects what {owner} selects: {RULE}. Give its instances a tag of their own."


def _select_the_same(one: Place, other: Place) -> bool:
    return any(
        here.items() <= there.items() or there.items() <= here.items() for here in one.fleets for there in other.fleets
    )
