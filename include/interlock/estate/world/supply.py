"""Give the services of the catalogue what they want of the estate, and keep what AWS has over a restart.

Hosts and target groups are only ever added: a service that leaves the catalogue, or a file that is wrong for a moment,
must not take a host's disk with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count

from botocore.exceptions import BotoCoreError, ClientError

from interlock.domain.errors import ReleaseError
from interlock.estate.settings import Settings

from . import aws, memory
from .wanted import Wanted, WantedFleet, WantedGroup, signature, wanted_of

FIRST, LAST = 101, 250
"""The last numbers of the addresses that hosts of the catalogue's services have."""

log = logging.getLogger(__name__)


class Supply:
    """What the embedded AWS has, beside the fleet that the estate begins with."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to supply a running AWS."""
        self._settings = settings
        self._ec2, self._elbv2 = aws.client(settings, "ec2"), aws.client(settings, "elbv2")
        self._kept = memory.read_memory(settings)
        self._seen: object = None

    def begin(self) -> None:
        """Make the estate's own fleet, what was there before, and what the services want."""
        aws.provision(self._settings, self._kept.placed)
        try:
            memory.restore(self._kept, self._settings, self._ec2, self._elbv2)
        except (BotoCoreError, ClientError) as error:
            memory.put_aside(self._settings, str(error))
        self.follow()

    def follow(self) -> None:
        """Make what is missing if the catalogue has changed."""
        if (seen := signature(self._settings)) != self._seen:
            try:
                self._give(wanted_of(self._settings))
            except ReleaseError as error:
                log.warning("The services of the catalogue get no new hosts: %s", error)
            self._seen = seen
            self.keep()

    def instances(self) -> tuple[aws.Instance, ...]:
        """Return every instance that AWS knows, terminated ones too."""
        return aws.instances(self._ec2)

    def keep(self) -> None:
        """Keep what AWS has now."""
        self._kept = memory.keep(self._settings, self._ec2, self._elbv2, self._kept)

    def _give(self, wanted: Wanted) -> None:
        for note in wanted.elsewhere:
            log.info("The estate has no hosts for %s", note)
        new = {group.name for group in wanted.groups if self._make_group(group)}
        for fleet in wanted.fleets:
            before = {one.id for one in self._of(fleet)}
            self._make_hosts(fleet, len(before))
            if fleet.group:
                # A host that was there and is in no group may be drained by a release.
                begin = [one.id for one in self._of(fleet) if fleet.group in new or one.id not in before]
                aws.register(self._elbv2, self._arn(fleet.group), begin)

    def _make_group(self, group: WantedGroup) -> bool:
        """Make a target group with its load balancer, and say whether it was not there."""
        there = {one["TargetGroupName"] for one in self._elbv2.describe_target_groups()["TargetGroups"]}
        arn = aws.make_target_group(self._ec2, self._elbv2, group.name, group.port, group.path)
        if group.balanced and group.name not in there:
            balancer = aws.make_load_balancer(self._elbv2, group.name, aws.default_subnets(self._ec2))
            aws.make_listener(self._elbv2, balancer, arn)
        return group.name not in there

    def _arn(self, name: str) -> str:
        return str(self._elbv2.describe_target_groups(Names=[name])["TargetGroups"][0]["TargetGroupArn"])

    def _of(self, fleet: WantedFleet) -> list[aws.Instance]:
        """Return the hosts of a fleet: all instances with its tags."""
        return [one for one in aws.living(self._ec2) if fleet.tags.items() <= one.tags.items()]

    def _make_hosts(self, fleet: WantedFleet, there: int) -> None:
        known = aws.living(self._ec2)
        names, taken = {one.name for one in known}, {one.address for one in known}
        unused = (name for name in _names(fleet) if name not in names)
        for number in range(there, fleet.size):
            free = next((one for one in self._addresses() if one not in taken), None)
            if free is None:
                log.error(
                    "%s wants %d hosts and gets %d: the estate has %d addresses for the hosts of all services, %s.%d "
                    "and following, and they are taken",
                    *(fleet.name, fleet.size, number, LAST - FIRST + 1, self._settings.network, FIRST),
                )
                return
            taken.add(free)
            tags = {aws.USE: fleet.environment, **fleet.tags, "Name": next(unused)}
            aws.make_instance(self._settings, self._ec2, free, tags, zone=aws.ZONES[number % len(aws.ZONES)])

    def _addresses(self) -> Iterator[str]:
        return (f"{self._settings.network}.{number}" for number in range(FIRST, LAST + 1))


def _names(fleet: WantedFleet) -> Iterator[str]:
    return (f"{fleet.name}-{number:02d}" for number in count(1))
