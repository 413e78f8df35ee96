"""The supervisor that keeps the processes of the stack running: its configuration, and how to talk to it."""

from __future__ import annotations

import configparser
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interlock.adapters.private_files import write_private
from interlock.domain.errors import ReleaseError, TransientError
from interlock.estate.settings import Settings
from interlock.locations import PROJECT

from .components import Component, components, log_of

MAX_SOCKET_PATH_BYTES = 90  # the system takes 107 bytes, and the supervisor appends a number while it starts
MAX_LOG_BYTES = 20 * 1024 * 1024


def socket_of(settings: Settings) -> Path:
    """Return the supervisor's socket: in the state folder, unless its name would be too long for one."""
    inside = settings.run / "supervisor.sock"
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
        return inside
    name = hashlib.sha256(os.fsencode(settings.state)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"interlock-{os.getuid()}-{name}.sock")


def supervisor_config(settings: Settings) -> str:
    """Return the supervisor's configuration; it holds no secret and no environment: both come from its own process."""
    config = configparser.RawConfigParser()
    config["supervisord"] = {
        "nodaemon": "true",
        "logfile": "/dev/null",  # its standard output says the same
        "logfile_maxbytes": "0",
        "pidfile": str(settings.run / "supervisor.pid"),
        "directory": str(PROJECT),
        **({"user": "root"} if os.geteuid() == 0 else {}),  # says that running as root is meant
    }
    config["unix_http_server"] = {"file": str(socket_of(settings)), "chmod": "0700"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for priority, component in enumerate(components(settings), start=1):
        config[f"program:{component.name}"] = program_config(settings, component, priority)
    watch = Component("watch", "Watch", (sys.executable, "-m", "interlock.estate.stack.watch"), True)
    listener = program_config(settings, watch, 100)
    del listener["redirect_stderr"]  # what it says on its standard output is for the supervisor
    listener["stderr_logfile"] = listener.pop("stdout_logfile")
    config["eventlistener:watch"] = {**listener, "events": "TICK_5"}
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def program_config(settings: Settings, component: Component, priority: int) -> dict[str, str]:
    """Return one component's part of the configuration."""
    alone = component.name == "postgres"  # the server tells its own workers to end
    variables = ",".join(f'{name}="{escape(value)}"' for name, value in component.variables.items())
    return {
        "command": escape(shlex.join(component.command)),
        **({"environment": variables} if variables else {}),
        "priority": str(priority),
        "autostart": "true" if component.at_once else "false",
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "3",
        "stopsignal": component.stop_signal,
        "stopwaitsecs": str(component.seconds_to_stop),
        "stopasgroup": "false" if alone else "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": escape(str(log_of(settings, component.name))),
        "stdout_logfile_maxbytes": str(MAX_LOG_BYTES),
        "stdout_logfile_backups": "1",
    }


def escape(value: str) -> str:
    """Protect per cent signs, which mean something in the supervisor's configuration."""
    return value.replace("%", "%%")


def start_supervisor(settings: Settings, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the supervisor in a session of its own, so that it outlives the terminal."""
    config = settings.run / "supervisor.conf"
    write_private(config, supervisor_config(settings))
    socket_of(settings).unlink(missing_ok=True)
    patient = [sys.executable, "-m", "interlock.estate.stack.patient"]
    command = [*patient, "supervisor.supervisord", "-c", str(config)]
    with log_of(settings, "supervisor").open("ab") as output:
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def supervisor(settings: Settings) -> Iterator[Any]:
    """Talk to the supervisor of a stack."""
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{socket_of(settings)}")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport) as proxy:
        try:
            yield proxy.supervisor
        except OSError as error:
            raise TransientError(f"The supervisor of the stack in {settings.state} does not answer: {error}") from error
        except xmlrpc.client.Fault as fault:
            raise ReleaseError(f"The supervisor refused: {fault.faultString}") from fault


def states(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return what the supervisor knows of each component, by name; nothing when there is no supervisor."""
    try:
        with supervisor(settings) as rpc:
            return {info["name"]: info for info in rpc.getAllProcessInfo()}
    except TransientError:
        return {}


def start(settings: Settings, name: str) -> None:
    """Start a component that waits to be started."""
    with supervisor(settings) as rpc:
        rpc.startProcess(name, False)
