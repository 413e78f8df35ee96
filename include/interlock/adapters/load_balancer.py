"""Taking hosts out of a load balancer's target group, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import monotonic
from typing import Any, Protocol

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.interlock.domain.errors import AssetMissing, DeployError, TransientError

CLIENT_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 10}, connect_timeout=10, read_timeout=30)
"""For the client that is handed in: many hosts ask at once, and AWS throttles; calls are made again, ever slower."""

_PARALLEL = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_IN_SERVICE = ("healthy", "unavailable")  # unavailable: the group has no health checks
_OUT = "out"


class Balancer(Protocol):
    """Whatever sends traffic to hosts."""

    async def drain(self, instance_id: str, timeout: timedelta) -> None:
        """Stop sending new requests to a host, and wait until those under way are done or ``timeout`` has passed."""

    async def restore(self, instance_id: str) -> None:
        """Send requests to a host again, and wait until it takes them."""


class TargetGroup:
    """A target group of an application or network load balancer.

    :param elbv2: a boto3 client, best with :data:`CLIENT_CONFIG`.
    :param port: the port that hosts are registered with; none: the group's own.
    :param patience: how long a host that was registered may take to be in service.
    """

    def __init__(
        self, elbv2: Any, arn: str, port: int | None = None, *, patience: timedelta = timedelta(minutes=5)
    ) -> None:
        self._elbv2 = elbv2
        self.arn = arn
        self._port = port
        self._patience = patience
        # boto3 is synchronous; of these threads there are as many as calls under way, and never more.
        self._threads = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="target-group")

    async def drain(self, instance_id: str, timeout: timedelta) -> None:
        """Deregister a host and wait until it is gone.

        A host that is still draining after ``timeout`` gets no new requests, and those under way had their time.
        """
        await self._call(self._deregister, instance_id)
        give_up = monotonic() + timeout.total_seconds()
        pause = _FIRST_PAUSE
        while (state := (await self._call(self._state, instance_id))[0]) != _OUT:
            if monotonic() + pause > give_up:
                if state == "draining":
                    return
                raise self._stuck(instance_id, "out of", state, timeout)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def restore(self, instance_id: str) -> None:
        """Register a host and wait until it is in service."""
        await self._call(self._register, instance_id)
        give_up = monotonic() + self._patience.total_seconds()
        pause = _FIRST_PAUSE
        while True:
            state, reason = await self._call(self._state, instance_id)
            # A group that no listener uses sends nothing to anybody; being registered is all that there is to it.
            if state in _IN_SERVICE or reason == "Target.NotInUse":
                return
            if monotonic() + pause > give_up:
                raise self._stuck(instance_id, "into", f"{state} ({reason})", self._patience)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _call(self, call: Callable[[str], Any], instance_id: str) -> Any:
        """Make a call in a thread; TransientError for what AWS refuses or does not answer."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, instance_id)
        except (ClientError, BotoCoreError) as error:
            raise TransientError(
                f"The load balancer did not do what it was asked for {instance_id}: {error}.",
                who="the platform engineer",
                next_step="try again; if it stays, see the permissions of the AWS connection",
            ) from error

    def _target(self, instance_id: str) -> dict[str, Any]:
        return {"Id": instance_id} | ({"Port": self._port} if self._port else {})

    def _register(self, instance_id: str) -> None:
        self._elbv2.register_targets(TargetGroupArn=self.arn, Targets=[self._target(instance_id)])

    def _deregister(self, instance_id: str) -> None:
        try:
            self._elbv2.deregister_targets(TargetGroupArn=self.arn, Targets=[self._target(instance_id)])
        except ClientError as error:
            if not _is_unknown_target(error):
                raise

    def _state(self, instance_id: str) -> tuple[str, str]:
        """Return the host's state in the group and AWS's reason for it."""
        try:
            answer = self._elbv2.describe_target_health(TargetGroupArn=self.arn, Targets=[self._target(instance_id)])
        except ClientError as error:
            if _is_unknown_target(error):
                return _OUT, "Target.NotRegistered"
            raise
        health = answer["TargetHealthDescriptions"][0]["TargetHealth"]
        state, reason = health["State"], health.get("Reason", "")
        return (_OUT if reason == "Target.NotRegistered" else state), reason

    def _stuck(self, instance_id: str, where: str, state: str, limit: timedelta) -> DeployError:
        return DeployError(
            f"{instance_id} did not get {where} the target group within {limit.total_seconds():g} s: it is {state}.",
            who="the platform engineer, who keeps the load balancer",
            next_step=f"see the health checks of {self.arn}",
        )


def _is_unknown_target(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] in ("InvalidTarget", "InvalidTargetException"))


def find_target_group(elbv2: Any, name: str) -> str:
    """Return the ARN of the target group of a name; AssetMissing if there is none."""
    try:
        groups = elbv2.describe_target_groups(Names=[name])["TargetGroups"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("TargetGroupNotFound", "TargetGroupNotFoundException"):
            raise
        groups = []
    if not groups:
        raise AssetMissing(
            f"There is no target group {name}.",
            rule="target_group: in the service's YAML",
            who="the platform engineer",
            next_step="create it, or correct the name",
        )
    return str(groups[0]["TargetGroupArn"])
