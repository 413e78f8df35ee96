"""A deployment in a process of its own, which can be killed, or stopped, at any moment."""

from __future__ import annotations

import asyncio
from multiprocessing.process import BaseProcess

from interlock.adapters.hosts.fleet import Deployment, SshLogin, deploy_hosts
from interlock.domain.records import Host
from tests.deployments import WithToken
from tests.forked import context


def start(hosts: tuple[Host, ...], deployment: Deployment, login: SshLogin, token: int) -> BaseProcess:
    """Start to deploy."""
    process = context().Process(target=_work, args=(hosts, deployment, login, token), daemon=True)
    process.start()
    return process


def _work(hosts: tuple[Host, ...], deployment: Deployment, login: SshLogin, token: int) -> None:
    asyncio.run(deploy_hosts(hosts, deployment, login=login, admission=WithToken(token), balancer=None))
