"""The embedded estate in a process of its own, as the stack runs it, on ports and addresses that nothing else has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from interlock.adapters.hosts.ssh import SshLogin
from interlock.estate.settings import SSH_LOGIN, HostEnvironment, Settings
from interlock.estate.world import aws, processes
from interlock.locations import PROJECT

from .ports import free_network, free_port

PATIENCE = 240.0
"""Seconds: a machine may have other work, and nothing is said here about how fast an estate is."""


def free_settings(state: Path, **more: Any) -> Settings:
    """Return settings that collide with no other estate."""
    return Settings(state=state, network=free_network(), aws_port=free_port(), smtp_port=free_port(), **more)


def wait_until(true: Callable[[], object], what: str) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true in {PATIENCE:g} s")
        time.sleep(0.03)


def lives(pid: int) -> bool:
    """Say whether a process runs; one that nobody has reaped yet does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def is_open(address: str, port: int) -> bool:
    """Say whether somebody listens on an address."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def status_of(url: str) -> int | None:
    """Return the status that a URL answers with; None if nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


@dataclass
class EstateProcess:
    """The servers of one state folder, started and ended as often as a test likes."""

    settings: Settings
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> Path:
        return self.settings.state / "estate.log"

    @property
    def ec2(self) -> Any:
        return aws.client(self.settings, "ec2")

    def login(self, environment: HostEnvironment) -> SshLogin:
        return SshLogin(
            username=SSH_LOGIN,
            known_hosts=self.settings.known_hosts(environment),
            client_key=self.settings.deployer_key(environment),
            port=self.settings.ssh_port,
        )

    def url(self, address: str, path: str = "/health") -> str:
        return f"http://{address}:{self.settings.service_port}{path}"

    def launch(self) -> subprocess.Popen[str]:
        """Start the servers and do not wait for them."""
        self.settings.state.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "interlock.estate.world.servers"],
                cwd=PROJECT,
                env={**os.environ, **self.settings.to_environment(), **self.environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return self.process

    def start(self) -> None:
        """Start the servers and wait until they are ready."""
        process = self.launch()
        ready = self.settings.estate_ready
        wait_until(
            lambda: process.poll() is not None or (ready.exists() and ready.read_text() == f"{process.pid}\n"),
            "the estate's readiness",
        )
        assert process.poll() is None, self.log.read_text()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the servers and return their exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code


@contextmanager
def estate_process(state: Path, **more: Any) -> Iterator[EstateProcess]:
    """Run an estate; nothing of it is left at the end, whatever became of it."""
    estate = EstateProcess(free_settings(state, **more))
    try:
        estate.start()
        yield estate
    finally:
        if estate.process is not None:
            estate.end()
        processes.end_all(estate.settings.state)
