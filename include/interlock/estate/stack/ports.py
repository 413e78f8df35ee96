"""Check that the ports of the stack are free before anything is started, and name the programs that use them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from interlock.domain.errors import ReleaseError
from interlock.estate.settings import LOOPBACK, Port, Settings

from .leftovers import MARK, describe

ANYWHERE = ("0.0.0.0", "::")


class PortsTaken(ReleaseError):
    """Another program listens where the stack wants to."""


def check_ports(settings: Settings) -> None:
    """Raise :class:`PortsTaken` with one sentence for each variable whose port is taken."""
    taken = {}
    for port in settings.ports():
        if remedy(port) not in taken and (trouble := trouble_with(port.address, port.port)):
            taken[remedy(port)] = (port, trouble)
    if not taken:
        return
    listeners = list(listening())
    sentences = [sentence(port, holder(port, listeners, trouble)) for port, trouble in taken.values()]
    choices = [f"{variable}={alternative(settings, port)}" for variable, (port, _) in taken.items()]
    raise PortsTaken(" ".join(sentences), next_step=f"stop it, or choose another: make up {' '.join(choices)}")


def remedy(port: Port) -> str:
    """Return the variable that gives the stack another place to listen: for hosts, their network."""
    return port.variable if port.address == LOOPBACK else "INTERLOCK_NETWORK"


def alternative(settings: Settings, taken: Port) -> str:
    """Return a value of that variable that is free now."""
    if taken.address == LOOPBACK:
        used = {port.port for port in settings.ports()}
        candidates = (number for number in range(taken.port + 1, 65536) if number not in used)
        return str(next(number for number in candidates if not trouble_with(LOOPBACK, number)))
    first, second, third = settings.network.split(".")
    networks = (f"{first}.{number}.{third}" for number in range(int(second) + 1, 255))
    return next(network for network in networks if is_free(settings.model_copy(update={"network": network})))


def is_free(settings: Settings) -> bool:
    """Say whether the addresses of these settings' hosts are free."""
    return not any(trouble_with(port.address, port.port) for port in settings.ports() if port.address != LOOPBACK)


def trouble_with(address: str, port: int) -> OSError | None:
    """Try to listen on an address, as a server would; return the error, or None."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are just closing do no harm
        try:
            server.bind((address, port))
            server.listen(1)
        except OSError as error:
            return error
    return None


def listening() -> Iterable[tuple[str, int, int | None]]:
    """Yield address, port and process id of every listener that this user may see."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN:
            yield connection.laddr.ip, connection.laddr.port, connection.pid


def holder(port: Port, listeners: Iterable[tuple[str, int, int | None]], trouble: OSError) -> str:
    """Return which program listens on a port, as far as this user may see it, or why no program can."""
    if trouble.errno != errno.EADDRINUSE:
        return f"not to be had: {trouble.strerror}"
    for address, number, pid in listeners:
        if number == port.port and address in (port.address, *ANYWHERE) and pid:
            return f"taken by {owner(psutil.Process(pid))}"
    return "taken by a program that belongs to another user"


def owner(process: psutil.Process) -> str:
    """Describe a process; for a process of another stack, name that stack's folder and how to stop it."""
    try:
        state = process.environ().get(MARK)
    except psutil.Error:
        state = None
    if state:
        return f"another stack, whose state is in {state} (make down INTERLOCK_STATE={Path(state)} stops it)"
    return describe(process)


def sentence(port: Port, who: str) -> str:
    """Return the sentence about a port that is not free."""
    return f"Port {port.port} of {port.address}, which {port.name} needs, is {who}."
