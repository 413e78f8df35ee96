"""Listen inside another process's network namespace, and hand the sockets out.

Run as a program of its own (``python -I -S _namespace_listeners.py``), for only a process with one thread can enter a
namespace. A socket belongs to the namespace in which it was created, so its connections come from inside.
Only the standard library is used.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

NS_GET_USERNS = 0xB701
"""ioctl: the user namespace that a namespace belongs to (ioctl_ns(2))."""

SIOCSIFADDR = 0x8916
"""ioctl: give an interface an address (netdevice(7))."""


def main(arguments: list[str]) -> None:
    """Enter the network of a process, listen on each address, and send the sockets through a socket of our own."""
    channel, process, *addresses = arguments
    _enter_network(int(process))
    listening = []
    for number, address in enumerate(addresses):
        host, _, port = address.rpartition(":")
        _own(host, number)
        listening.append(socket.create_server((host, int(port)), backlog=128))
    with socket.socket(fileno=int(channel)) as out:
        socket.send_fds(out, [b"listening"], [one.fileno() for one in listening])


def _enter_network(process: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
    owner = fcntl.ioctl(network, NS_GET_USERNS)
    if os.fstat(owner).st_ino != os.stat("/proc/self/ns/user").st_ino:
        _enter(libc, owner)
    _enter(libc, network)


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _own(address: str, number: int) -> None:
    """Make an address one of the namespace's; those of loopback are already."""
    if address.startswith("127."):
        return
    request = struct.pack("16sH2x4s8x", f"lo:{number}".encode(), socket.AF_INET, socket.inet_aton(address))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFADDR, request)


if __name__ == "__main__":
    main(sys.argv[1:])
