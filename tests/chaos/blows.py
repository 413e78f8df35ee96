"""What happens to a component of the cluster: it is killed, stopped for longer than its heartbeats, or cut off.

A component is a node with all its processes, as a machine has them, unless a blow is only for its main process.
Connections are cut with ``ss --kill``, which needs root: each of a component's sockets is aborted as soon as it is
there, for as long as the blow lasts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

import psutil
import redis
from botocore.exceptions import BotoCoreError, ClientError

from interlock.estate.settings import Settings
from interlock.estate.stack import process_supervisor
from interlock.estate.stack.cluster_servers import broker_url_file
from interlock.estate.world import aws
from interlock.estate.world.processes import of_hosts

STOPPED = (70.0, 95.0)
"""Seconds of a stop: tasks, schedulers and triggerers are given up after 30 to 60 without a heartbeat."""
CUT = (10.0, 35.0)
OFF = (15.0, 60.0)
BETWEEN_CUTS = 0.2
KINDS = {
    "scheduler": 2,
    "worker": 4,
    "triggerer": 2,
    "api-server": 2,
    "pgbouncer": 0,
    "postgres": 0,
    "broker": 0,
    "storage": 0,
    "host": 0,
}
"""Kind of component: how many the cluster has that are numbered; 0: one, with this name, or none that Airflow runs."""


def processes_of(settings: Settings, name: str) -> list[psutil.Process]:
    """Return the processes of a component, the main one first; none while it is down."""
    pid = process_supervisor.states(settings).get(name, {}).get("pid") or 0
    with suppress(psutil.Error):
        if pid:
            main = psutil.Process(pid)
            return [main, *main.children(recursive=True)]
    return []


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes; those that have ended get none."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def abort(ports: Iterable[int], *, address: str = "") -> None:
    """Abort the connections from and to local ports, or those of an address."""
    wanted = [f"( sport = :{port} or dport = :{port} )" for port in ports]
    wanted += [f"( src {address} or dst {address} )"] if address else []
    if wanted:
        subprocess.run(["ss", "--kill", "--tcp", "state", "connected", " or ".join(wanted)], capture_output=True)


def deliver_again(settings: Settings, but: Collection[str] = ()) -> set[str]:
    """Have the broker deliver each task once more that a worker has and has not acknowledged.

    Celery's broker does so after its visibility time-out, and when it takes a worker for lost: a task that runs is then
    started a second time.

    :param but: tasks of Celery that are not delivered again.
    :return: the tasks of Celery that were.
    """
    delivered = set()
    with suppress(redis.RedisError), closing(redis.Redis.from_url(broker_url_file(settings).read_text())) as broker:
        for kept in broker.hvals("unacked"):  # kombu's format: message, exchange, routing key
            message, _, queue = json.loads(kept)
            if (task := message["headers"]["id"]) not in but:
                broker.lpush(queue, json.dumps(message))
                delivered.add(task)
    return delivered


@dataclass
class Blows:
    """Strikes at random, and undoes at the end what does not pass by itself.

    :param told: is called with each blow, in a sentence.
    :param kinds: of the components that are struck.
    """

    settings: Settings
    hosts: Sequence[aws.Instance]
    rng: random.Random
    told: Callable[[str], None]
    kinds: Sequence[str] = tuple(KINDS)
    struck: list[tuple[str, str]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _lasting: list[threading.Thread] = field(default_factory=list)

    def strike(self) -> None:
        """Do something to a random component."""
        kind = self.rng.choice(self.kinds)
        if kind == "host":
            return self._strike_host()
        if kind == "storage":
            blow = self.rng.choice(["kill", "cut"])  # hosts, mail and AWS are one process
            name = "estate"
        else:
            name = f"{kind}-{self.rng.randint(1, KINDS[kind])}" if KINDS[kind] else kind
            choice = ["kill", "restart", "cut"] if kind == "postgres" else ["kill", "kill", "stop", "cut"]
            blow = self.rng.choice([*choice, *_FURTHER.get(kind, ())])
        seconds = self.rng.uniform(*(STOPPED if blow == "stop" else CUT))
        self._note(kind, blow, f"{name} is {_PAST[blow]}{f' for {seconds:.0f} s' if blow in ('stop', 'cut') else ''}")
        processes = processes_of(self.settings, name)
        if blow == "kill":
            send(processes, signal.SIGKILL)
        elif blow == "kill alone":
            send(_celery(processes), signal.SIGKILL)
        elif blow == "deliver again":
            deliver_again(self.settings)
        elif blow == "restart":
            send(processes[:1], signal.SIGINT)  # PostgreSQL's fast shutdown
        elif blow == "stop":
            send(processes, signal.SIGSTOP)
            self._later(seconds, lambda: send(processes, signal.SIGCONT))
        elif kind == "storage":
            self._cut(seconds, lambda: [self.settings.aws_port])
        else:
            self._cut(seconds, lambda: _ports(processes_of(self.settings, name)))

    def _strike_host(self) -> None:
        host = self.rng.choice(self.hosts)
        blow = self.rng.choice(["kill", "stop", "cut"])
        seconds = self.rng.uniform(*(OFF if blow == "kill" else CUT))
        self._note("host", blow, f"{host.name} is {_OF_HOST[blow]} for {seconds:.0f} s")
        if blow == "kill":
            self._start(lambda: self._switch_off(host.address, seconds))
        elif blow == "stop":
            processes = list(of_hosts(self.settings.state, host.name))
            send(processes, signal.SIGSTOP)
            self._later(seconds, lambda: send(processes, signal.SIGCONT))
        else:
            self._cut(seconds, lambda: [], host.address)

    def _switch_off(self, address: str, seconds: float) -> None:
        self._power(address, on=False)
        self._over.wait(seconds)
        self._power(address, on=True)

    def _power(self, address: str, *, on: bool) -> None:
        """Switch a host on or off; if AWS is down itself, it is tried again."""
        for _ in range(20):
            with suppress(BotoCoreError, ClientError), closing(aws.client(self.settings, "ec2")) as ec2:
                (id,) = [host.id for host in aws.living(ec2) if host.address == address]
                (ec2.start_instances if on else ec2.stop_instances)(InstanceIds=[id])
                return
            time.sleep(3)

    def _note(self, kind: str, blow: str, sentence: str) -> None:
        self.struck.append((kind, blow))
        self.told(sentence)

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        def wait() -> None:
            self._over.wait(seconds)
            undo()

        self._start(wait)

    def _cut(self, seconds: float, ports: Callable[[], Iterable[int]], address: str = "") -> None:
        def cut() -> None:
            for _ in range(int(seconds / BETWEEN_CUTS)):
                abort(ports(), address=address)
                if self._over.wait(BETWEEN_CUTS):
                    return

        self._start(cut)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        self._lasting.append(thread)

    def end(self) -> None:
        """Undo what lasts: everything goes on, every host is switched on."""
        self._over.set()
        for thread in self._lasting:
            thread.join()
        for host in self.hosts:
            self._power(host.address, on=True)


_FURTHER = {"worker": ["kill alone"], "broker": ["deliver again", "deliver again"]}
"""Blows that only one kind of component gets."""
_PAST = {
    "kill": "killed",
    "deliver again": "told to deliver again what workers have",
    "kill alone": "killed, and its tasks are not",
    "restart": "restarted",
    "stop": "stopped",
    "cut": "cut off",
}
_OF_HOST = {"kill": "switched off", "stop": "stopped", "cut": "cut off"}


def _celery(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes of Celery among those of a worker: the main one, and none that runs a task."""
    return list(processes)[:1]


def _ports(processes: Iterable[psutil.Process]) -> set[int]:
    """Return the local ports of the connections of processes."""
    found = set()
    for process in processes:
        with suppress(psutil.Error):
            found |= {one.laddr.port for one in process.net_connections("tcp") if one.raddr}
    return found


def may_cut() -> bool:
    """Tell whether connections of other processes can be cut here."""
    return os.geteuid() == 0
