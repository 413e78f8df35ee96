"""OpenSSH's own ``sshd`` as a host's SSH server, so that nothing depends on the embedded one's kindness.

One daemon for each host, with the host's own key and address. What is run starts in the host's folder, which is its
home, with nothing in its environment but what a host gives: OpenSSH alone would take both from this machine's user.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from interlock.domain.errors import AssetMissing, TransientError
from interlock.estate.private_files import write_private

from . import processes
from .keys import write_whole
from .ssh import Endpoint

START_TIMEOUT_SECONDS = 10.0
PRIVILEGE_SEPARATION = Path("/run/sshd")


class OpensshServer:
    """A ``sshd`` on one address."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        """Prepare to listen on an endpoint.

        :param folder: where the daemon's configuration and keys are kept.
        """
        self._endpoint, self._folder = endpoint, folder
        self._daemon: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the daemon and wait until it listens."""
        config = write_config(self._endpoint, self._folder)
        await asyncio.to_thread(processes.end_sshd, config)  # a daemon that outlived the servers before
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)  # sshd wants it, and Debian makes it at boot
        self._daemon = await asyncio.create_subprocess_exec(
            *_bound_to_us(), find_sshd(), "-D", "-e", "-f", str(config), stdin=asyncio.subprocess.DEVNULL
        )
        await self._listens()

    async def stop(self) -> None:
        """End the daemon and every connection of it."""
        if self._daemon and self._daemon.returncode is None:
            await asyncio.to_thread(processes.end_sshd, self._folder / "sshd_config")
            with contextlib.suppress(ProcessLookupError):
                self._daemon.kill()
            await self._daemon.wait()
        self._daemon = None

    async def _listens(self) -> None:
        endpoint, end = self._endpoint, time.monotonic() + START_TIMEOUT_SECONDS
        while self._daemon and self._daemon.returncode is None and time.monotonic() < end:
            try:
                await _greet(endpoint)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                return
        await self.stop()
        raise TransientError(
            f"sshd does not listen on {endpoint.address}:{endpoint.port}.", next_step="read what it said in the log"
        )


async def _greet(endpoint: Endpoint) -> None:
    """Exchange versions with the daemon and go, which it does not take for an error; OSError if it is not there."""
    reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
    with contextlib.closing(writer):
        writer.write(b"SSH-2.0-interlock\r\n")
        await writer.drain()
        if not await reader.readline():
            raise ConnectionResetError


def find_sshd() -> str:
    """Return the path of ``sshd``, which is seldom on a user's PATH."""
    path = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if not path:
        raise AssetMissing(
            "OpenSSH's server, sshd, is not installed.",
            next_step="apt-get install openssh-server, or leave INTERLOCK_SSH_SERVER unset for the embedded server",
        )
    return os.path.realpath(path)


def write_config(endpoint: Endpoint, folder: Path) -> Path:
    """Write the daemon's configuration, keys and login script; return the configuration's path."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / "host_key", endpoint.host_key.export_private_key("openssh").decode())
    write_private(folder / "authorized_keys", endpoint.client_key.export_public_key("openssh").decode())
    write_whole(folder / "login.sh", login_script(endpoint))
    write_whole(folder / "sshd_config", config_text(endpoint, folder))
    return folder / "sshd_config"


def config_text(endpoint: Endpoint, folder: Path) -> str:
    """Return the daemon's configuration."""
    settings = {
        "ListenAddress": f"{endpoint.address}:{endpoint.port}",
        "HostKey": _quoted(folder / "host_key"),
        "AuthorizedKeysFile": _quoted(folder / "authorized_keys"),
        "AllowUsers": endpoint.login,
        "AuthenticationMethods": "publickey",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        "StrictModes": "no",  # the state folder may lie in one that others may write to, such as /tmp
        "ForceCommand": f"/bin/sh {shlex.quote(str(folder / 'login.sh'))}",
        "DisableForwarding": "yes",
        "PermitTTY": "no",
        "PermitUserRC": "no",
        "PrintMotd": "no",
        "SetEnv": "SHLVL=2",  # bash as the user's shell then reads nothing of the user's own
        "PidFile": "none",
        "UseDNS": "no",
        "MaxStartups": "200",
        "MaxSessions": "100",
        "ClientAliveInterval": "30",
        "LogLevel": "ERROR",
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def login_script(endpoint: Endpoint) -> str:
    """Return what every connection runs: the client's command, in the host's home, with the host's environment."""
    environ = shlex.join([*(f"{name}={value}" for name, value in endpoint.environ.items()), *endpoint.enter])
    home = shlex.quote(endpoint.environ["HOME"])
    return (
        f"cd -- {home} || exit 255\n"
        'if [ -n "${SSH_ORIGINAL_COMMAND-}" ]; then\n'
        f'    exec env -i {environ} /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
        "fi\n"
        f"exec env -i {environ} /bin/sh\n"
    )


def _bound_to_us() -> list[str]:
    """Return what makes the daemon end with this process, however this process ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv and sys.platform == "linux" else []


def _quoted(path: Path) -> str:
    return f'"{path}"'
