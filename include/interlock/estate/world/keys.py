"""Keys of the estate: the deployer's, one for each host, and the ``known_hosts`` file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import asyncssh

from interlock.adapters.private_files import write_private, write_whole

KIND = "ssh-ed25519"


def key(path: Path) -> asyncssh.SSHKey:
    """Return the key pair in a file, which is made if it does not exist; its public key is in a file beside it."""
    if not path.exists():
        made = asyncssh.generate_private_key(KIND, comment=path.name)
        write_private(path, made.export_private_key("openssh").decode())
    found = asyncssh.read_private_key(path)
    public = path.with_name(f"{path.name}.pub")
    if not public.exists():
        write_whole(public, found.export_public_key("openssh").decode())
    return found


def write_known_hosts(path: Path, port: int, hosts: Mapping[str, asyncssh.SSHKey]) -> None:
    """Write the public key of the host at each address; nothing is written when nothing has changed."""
    text = "".join(known_hosts_lines(port, hosts))
    if not path.exists() or path.read_text("utf-8") != text:
        write_whole(path, text)


def known_hosts_lines(port: int, hosts: Mapping[str, asyncssh.SSHKey]) -> Iterable[str]:
    """Yield a line for each address, as OpenSSH's ``known_hosts`` has them."""
    for address, host_key in sorted(hosts.items()):
        name = address if port == 22 else f"[{address}]:{port}"
        kind, data = host_key.export_public_key("openssh").decode().split()[:2]
        yield f"{name} {kind} {data}\n"
