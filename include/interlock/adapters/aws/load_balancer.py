"""Taking hosts out of a load balancer's target group, and back; and which group has how much of the traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any, Protocol

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from interlock.domain.errors import AssetMissing, DeployError, TransientError

CLIENT_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 10}, connect_timeout=10, read_timeout=30)
"""For the client: many hosts call at once and AWS throttles, so calls are repeated with increasing delays."""

_PARALLEL = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_IN_SERVICE = ("healthy", "unavailable")  # unavailable: the group has no health checks
_OUT = "out"
_LEAVING = timedelta(seconds=10)
"""How long a host that serves elsewhere already is waited for to leave a group."""


_CHANGES = {
    "RegisterTargets": "give a host back to the load balancer",
    "DeregisterTargets": "take a host out of the load balancer",
    "ModifyListener": "move the traffic of a listener",
    "ModifyRule": "move the traffic of a rule",
}


def asking(elbv2: Any, ask: Callable[[str], None]) -> Any:
    """Have a client ask just before it sends a call that changes something, a call that it makes again included.

    A load balancer keeps no token, so whether the caller may still change it is asked here, as late as can be: between
    the answer and the request on the network there is nothing but the connection's opening. A request that lies there
    for longer, in a process that was stopped, is refused by AWS, whose signatures hold for minutes.

    :param ask: raises if what it is told about may not be done any more. :returns: the client.
    """
    for operation, what in _CHANGES.items():
        event, name = f"before-send.elastic-load-balancing-v2.{operation}", f"interlock-{operation}"
        elbv2.meta.events.unregister(event, unique_id=name)  # who was asked for another change before
        elbv2.meta.events.register(event, lambda what=what, **_: ask(what), unique_id=name)
    return elbv2


class Balancer(Protocol):
    """Whatever sends traffic to hosts."""

    async def drain(self, instance_id: str, timeout: timedelta) -> None:
        """Stop sending new requests to a host, and wait until open requests are done or ``timeout`` has passed."""

    async def restore(self, instance_id: str) -> None:
        """Send requests to a host again, and wait until it is healthy."""


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
            # A group that no listener uses gets no traffic, so registration is sufficient.
            if state in _IN_SERVICE or reason == "Target.NotInUse":
                return
            if monotonic() + pause > give_up:
                raise self._stuck(instance_id, "into", f"{state} ({reason})", self._patience)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _call(self, call: Callable[[str], Any], instance_id: str) -> Any:
        """Make a call in a thread; TransientError if AWS refuses it or does not answer."""
        with _transient(f"complete the request for {instance_id}"):
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, instance_id)

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
            who="the platform engineer",
            next_step=f"check the health checks of {self.arn}",
        )


class Groups:
    """Several target groups as one balancer: a host is drained from all of them, and goes back to the first.

    :param home: where hosts are given back to.
    :param others: groups that they may be in as well.
    """

    def __init__(self, home: TargetGroup, others: Sequence[TargetGroup]) -> None:
        self._home, self._others = home, tuple(others)

    async def drain(self, instance_id: str, timeout: timedelta) -> None:
        """Take a host out of every group at once."""
        await asyncio.gather(*(group.drain(instance_id, timeout) for group in (self._home, *self._others)))

    async def restore(self, instance_id: str) -> None:
        """Put a host into the home group, and out of the others when it serves there."""
        await self._home.restore(instance_id)
        await asyncio.gather(*(group.drain(instance_id, _LEAVING) for group in self._others))


class Traffic:
    """The shares of the traffic that a load balancer gives to some target groups.

    The groups are forwarded to by the same listeners and rules, which forward to no other: one call for each of these
    changes all shares at once, and setting what is set already calls nothing.

    :param groups: ARNs. Those that no listener uses yet are added with the first share.
    """

    def __init__(self, elbv2: Any, groups: Sequence[str]) -> None:
        self._elbv2, self.groups = elbv2, tuple(groups)

    def shares(self) -> dict[str, int]:
        """Return the weight of each group; what the first listener or rule says holds for all.

        :raises DeployError: they do not agree, or one of them forwards elsewhere, too.
        """
        with _transient("return its traffic weights"):
            found = [weights for _, _, weights in self._forwards()]
        if any(_live(weights) != _live(found[0]) for weights in found):
            raise self._unclear("its listeners and rules have different weights for them")
        return {group: found[0].get(group, 0) for group in self.groups}

    def live(self) -> str:
        """Return the group that has all the traffic.

        :raises DeployError: none has, or several do.
        """
        live = [group for group, weight in self.shares().items() if weight]
        if len(live) != 1:
            raise self._unclear(f"{len(live)} of them have traffic; expected: one")
        return live[0]

    def share(self, weights: Mapping[str, int]) -> bool:
        """Give each group its weight, those that are not named none; return whether that changed anything.

        A group with weight 0 gets no requests, and its health is checked.
        """
        changed = False
        with _transient("change its traffic weights"):
            for call, about, found in self._forwards():
                wanted = dict.fromkeys(found, 0) | {group: weights.get(group, 0) for group in self.groups}
                if found != wanted:
                    call(_shared(about, wanted))
                    changed = True
        return changed

    def _forwards(self) -> list[tuple[Callable[[list[dict[str, Any]]], Any], list[dict[str, Any]], dict[str, int]]]:
        """Return what forwards to the groups: how to change it, its actions, and its weights."""
        found = []
        for change, actions in self._actions():
            weights = [_weights(action) for action in actions if action["Type"] == "forward"]
            if not weights or not set(weights[0]) & set(self.groups):
                continue
            if strangers := {group for group, weight in weights[0].items() if weight} - set(self.groups):
                raise self._unclear(f"a listener or rule also forwards to {', '.join(sorted(strangers))}")
            found.append((change, actions, weights[0]))
        if not found:
            raise self._unclear("no listener or rule forwards to them")
        return found

    def _actions(self) -> Iterator[tuple[Callable[[list[dict[str, Any]]], Any], list[dict[str, Any]]]]:
        groups = self._elbv2.describe_target_groups(TargetGroupArns=list(self.groups))["TargetGroups"]
        for balancer in dict.fromkeys(arn for group in groups for arn in group["LoadBalancerArns"]):
            for listener in _pages(self._elbv2, "describe_listeners", "Listeners", LoadBalancerArn=balancer):
                arn = listener["ListenerArn"]
                yield partial(self._modify_listener, arn), listener["DefaultActions"]
                for rule in _pages(self._elbv2, "describe_rules", "Rules", ListenerArn=arn):
                    if not rule["IsDefault"]:
                        yield partial(self._modify_rule, rule["RuleArn"]), rule["Actions"]

    def _modify_listener(self, arn: str, actions: list[dict[str, Any]]) -> None:
        self._elbv2.modify_listener(ListenerArn=arn, DefaultActions=actions)

    def _modify_rule(self, arn: str, actions: list[dict[str, Any]]) -> None:
        self._elbv2.modify_rule(RuleArn=arn, Actions=actions)

    def _unclear(self, problem: str) -> DeployError:
        names = ", ".join(arn.rsplit("/", 2)[-2] if "/" in arn else arn for arn in self.groups)
        return DeployError(
            f"The traffic of the target groups {names} cannot be shared: {problem}.",
            rule="the target groups of a strategy share their listeners and rules, and no other group uses these",
            who="the platform engineer",
            next_step="check its listeners and rules",
        )


def _pages(elbv2: Any, call: str, key: str, **about: Any) -> Iterator[dict[str, Any]]:
    for page in elbv2.get_paginator(call).paginate(**about):
        yield from page[key]


def _weights(action: Mapping[str, Any]) -> dict[str, int]:
    groups = action.get("ForwardConfig", {}).get("TargetGroups") or [{"TargetGroupArn": action.get("TargetGroupArn")}]
    return {group["TargetGroupArn"]: group.get("Weight", 1) for group in groups if group["TargetGroupArn"]}


def _live(weights: Mapping[str, int]) -> dict[str, int]:
    """Omit groups without weight; a single group with weight gets all traffic, whatever the number."""
    some = {group: weight for group, weight in weights.items() if weight}
    return dict.fromkeys(some, 1) if len(some) == 1 else some


def _shared(actions: Sequence[Mapping[str, Any]], weights: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return a listener's or a rule's actions with other weights; all else of them stays."""
    groups = [{"TargetGroupArn": group, "Weight": weight} for group, weight in weights.items()]
    return [
        {key: value for key, value in action.items() if key != "TargetGroupArn"}
        | {"ForwardConfig": {**action.get("ForwardConfig", {}), "TargetGroups": groups}}
        if action["Type"] == "forward"
        else _kept(action)
        for action in actions
    ]


def _kept(action: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action as it was described; AWS tells no client secret, and keeps the one it has if it is told to."""
    if "AuthenticateOidcConfig" not in action:
        return dict(action)
    return {**action, "AuthenticateOidcConfig": {**action["AuthenticateOidcConfig"], "UseExistingClientSecret": True}}


@contextmanager
def _transient(what: str) -> Iterator[None]:
    """Turn what AWS refuses or does not answer into a TransientError."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise TransientError(
            f"The load balancer did not {what}: {error}.",
            who="the platform engineer",
            next_step="try again; if the error persists, check the permissions of the AWS connection",
        ) from error


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
            f"The target group {name} does not exist.",
            rule="target_group: in the service's YAML",
            who="the platform engineer",
            next_step="create it, or correct the name",
        )
    return str(groups[0]["TargetGroupArn"])
