"""SSH hosts to measure with: real OpenSSH daemons, each host an address of its own on the loopback network."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

_LISTENERS = 16  # as many addresses as one sshd can listen on
_STARTS_WITHIN = 30.0


@dataclass(frozen=True)
class Fleet:
    """Hosts that run, and the environment in which the contenders find them."""

    addresses: list[str]
    environ: dict[str, str]
    daemons: list[subprocess.Popen[bytes]]

    def processor_seconds(self) -> float:
        """Return what all that has ended on the hosts took of the processors."""
        ticks = 0
        for daemon in self.daemons:
            times = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[11:15]
            ticks += sum(map(int, times))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(folder: Path, count: int) -> Iterator[Fleet]:
    """Start hosts, and stop them at the end.

    All hosts share one disk and the processors of this machine; each has a folder ``srv/<address>/app``.
    """
    network = f"127.{os.getpid() % 200 + 40}"
    addresses = [f"{network}.{1 + number // 250}.{1 + number % 250}" for number in range(count)]
    port = free_port(addresses[0])
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    public = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text("".join(f"[{one}]:{port} {public}\n" for one in addresses))
    (folder / "hosts").write_text("".join(f"{one}\n" for one in addresses))
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    daemons = [
        _start(folder, port, start, addresses[start : start + _LISTENERS]) for start in range(0, count, _LISTENERS)
    ]
    try:
        _await(addresses, port)
        environ = {
            "FANOUT_HOSTS": str(folder / "hosts"),
            "FANOUT_PORT": str(port),
            "FANOUT_USER": getpass.getuser(),
            "FANOUT_KEY": str(folder / "id"),
            "FANOUT_KNOWN_HOSTS": str(folder / "known_hosts"),
            "FANOUT_APP": f"{folder}/srv/{{host}}/app",
        }
        yield Fleet(addresses, environ, daemons)
    finally:
        for daemon in daemons:
            with suppress(ProcessLookupError):
                daemon.send_signal(signal.SIGTERM)
            daemon.wait()


def _start(folder: Path, port: int, number: int, addresses: list[str]) -> subprocess.Popen[bytes]:
    config = folder / f"sshd{number}.conf"
    config.write_text(
        f"Port {port}\n{''.join(f'ListenAddress {one}' + chr(10) for one in addresses)}HostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/id.pub\nPidFile none\nUsePAM no\nStrictModes no\nUseDNS no\n"
        "PermitRootLogin yes\nMaxStartups 2000\nMaxSessions 1000\nLogLevel ERROR\n"
        # bash then does not read the user's .bashrc, which may take longer than all the rest.
        "SetEnv SHLVL=2\n"
    )
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not sshd:
        raise RuntimeError("sshd is missing: apt-get install openssh-server")
    return subprocess.Popen([sshd, "-D", "-f", str(config), "-E", str(folder / "sshd.log")], stdin=subprocess.DEVNULL)


def _await(addresses: list[str], port: int) -> None:
    give_up = time.monotonic() + _STARTS_WITHIN
    for address in addresses:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((address, port)) == 0:
                    break
            if time.monotonic() > give_up:
                raise RuntimeError(f"the SSH daemon of {address} did not start")
            time.sleep(0.05)
