"""Login to hosts over SSH, with one key, and one file of known host keys that are checked strictly."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import asyncssh

from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import AssetMissing, HostUnreachable, PolicyViolation

from .transport import AdmittedTransport

# The first is the fastest where processors have AES instructions; bundles are compressed already.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr")
_CHUNK = 256 * 1024
_SAID_SECONDS = 1
_KEEPALIVE_SECONDS = 15
_KEEPALIVES_MISSED = 4
_KEEPER = "the platform engineer (connection of the hosts)"


class SshConnection(Protocol):
    """What is read of an Airflow connection of type ssh."""

    conn_id: str
    login: str | None
    port: int | None

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """The extra fields."""


@dataclass(frozen=True, slots=True)
class SshLogin:
    """How to log in to the hosts of an environment."""

    username: str
    known_hosts: Path
    client_key: Path | None = None
    port: int = 22
    connect_timeout: float = 10.0
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)


def ssh_login(connection: SshConnection) -> SshLogin:
    """Read a login from an Airflow connection, field by field; a login that would not check host keys is refused.

    The fields are the SSH provider's: login, port, and of the extra ones ``key_file`` or ``private_key``,
    ``private_key_passphrase``, ``known_hosts`` and ``conn_timeout``.
    """
    extra = connection.extra_dejson
    _refuse_unchecked_hosts(connection.conn_id, extra)
    if not connection.login:
        raise _lacking(connection.conn_id, "a login")
    if not (extra.get("key_file") or extra.get("private_key")):
        raise _lacking(
            connection.conn_id, "key_file or private_key in its extra fields; hosts take keys, not passwords"
        )
    if not extra.get("known_hosts"):
        raise _lacking(connection.conn_id, "known_hosts in its extra fields: the file with the hosts' keys")
    key_file = extra.get("key_file")
    return SshLogin(
        username=connection.login,
        known_hosts=Path(str(extra["known_hosts"])).expanduser(),
        client_key=Path(str(key_file)).expanduser() if key_file else None,
        port=connection.port or 22,
        connect_timeout=float(extra.get("conn_timeout") or 10),
        private_key=extra.get("private_key"),
        passphrase=extra.get("private_key_passphrase") or extra.get("passphrase"),
    )


def _refuse_unchecked_hosts(connection: str, extra: Mapping[str, Any]) -> None:
    for key in ("no_host_key_check", "ignore_hostkey_verification", "allow_host_key_change"):
        if str(extra.get(key, "")).lower() in ("true", "1"):
            raise PolicyViolation(
                f"The connection {connection} sets {key}, which disables the check of host keys.",
                rule="Interlock connects only to hosts with a known host key",
                who=_KEEPER,
                next_step=f"remove {key} and name the file with the hosts' keys in known_hosts",
            )


def _lacking(connection: str, what: str) -> AssetMissing:
    return AssetMissing(f"The connection {connection} lacks {what}.", who=_KEEPER, next_step="add it to the connection")


class SshTransport(AdmittedTransport):
    """Opens connections for one login; keys and known hosts are read once, however many hosts there are.

    The only place from which a host is connected to: each connection is first asked of the admission.
    """

    def __init__(self, login: SshLogin, admission: Admission) -> None:
        super().__init__(admission)
        # asyncssh logs each command whole, once per host: the log of a release is for people.
        asyncssh.set_log_level("WARNING")
        self._login = login
        self._known = read_known_hosts(login)
        key = _read_key(login)
        admission.refuse_production("login key", _public(key), "the key of the login")
        self._options = asyncssh.SSHClientConnectionOptions(
            username=login.username,
            port=login.port,
            client_keys=[key],
            known_hosts=self._known,
            config=None,
            agent_path=None,
            preferred_auth="publickey",
            encryption_algs=_CIPHERS,
            compression_algs=None,
            connect_timeout=login.connect_timeout,
            login_timeout=login.connect_timeout,
            keepalive_interval=_KEEPALIVE_SECONDS,
            keepalive_count_max=_KEEPALIVES_MISSED,
        )

    @asynccontextmanager
    async def opened(self, address: str) -> AsyncIterator[SshConnected]:
        """Connect to a host for as long as the context lasts.

        :raises PolicyViolation: the admission refuses the connection.
        :raises HostUnreachable: the connection failed, with the reason.
        """
        await self.admit(address)
        connection = await self._connect(address)
        try:
            yield SshConnected(connection)
            connection.close()
            await connection.wait_closed()
        finally:
            connection.abort()

    async def _connect(self, address: str) -> asyncssh.SSHClientConnection:
        seen = _ShownKey()
        try:
            # The timeouts of asyncssh apply one after the other; this timeout covers all of them.
            async with asyncio.timeout(2 * self._login.connect_timeout):
                connection = await asyncssh.connect(address, options=self._options, client_factory=lambda: seen)
        except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
            raise self._distrusted(address, seen, error) from error
        except asyncssh.PermissionDenied as error:
            raise HostUnreachable(
                f"{address} rejected the login of {self._login.username} with the key of the connection.",
                who=_KEEPER,
                next_step=f"add the connection's public key to {self._login.username}'s authorized_keys on the host",
            ) from error
        except TimeoutError as error:
            raise self._silent(address, f"did not answer within {self._login.connect_timeout:g} s") from error
        except (OSError, asyncssh.Error) as error:
            raise self._silent(address, f"could not be connected to: {_reason(error)}") from error
        try:
            self._refuse_production(address, connection)
        except PolicyViolation:
            connection.abort()
            raise
        return connection

    def _refuse_production(self, address: str, connection: asyncssh.SSHClientConnection) -> None:
        """Refuse a host that shows a production host's key, whatever name or address it was reached by."""
        if (key := connection.get_server_host_key()) is not None:
            shown = f"the host key {key.get_fingerprint()} of {address}"
            self._admission.refuse_production("host key", _public(key), shown)

    def _distrusted(self, address: str, seen: _ShownKey, error: asyncssh.Error) -> HostUnreachable:
        keys = asyncssh.match_known_hosts(self._known, address, "", self._login.port)[0]
        shown = f" It shows {seen.fingerprint}." if seen.fingerprint else ""
        if not keys:
            what = f"{address} is not known: {self._login.known_hosts} has no key for it.{shown}"
            then = "compare the key with the key on the console of the host, then add it to the file"
        elif isinstance(error, asyncssh.KeyExchangeFailed) and "host key" not in str(error).lower():
            return self._silent(address, f"supports no common encryption with Interlock: {_reason(error)}")
        else:
            what = f"{address} has another host key than the one in {self._login.known_hosts}.{shown}"
            then = "find out why: the host was reinstalled, or another machine answers at its address"
        return HostUnreachable(
            what, rule="Interlock connects only to hosts with a known host key", who=_KEEPER, next_step=then
        )

    def _silent(self, address: str, what: str) -> HostUnreachable:
        return HostUnreachable(
            f"{address}, port {self._login.port}, {what}.",
            who="the operators of the host",
            next_step="check that the host runs and that its SSH port is reachable, then try again",
        )


class SshConnected:
    """A host that is connected to."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    async def start(self, command: str) -> SshProgram:
        """Start a command of the login's shell."""
        with _as_oserror():
            return SshProgram(await self._connection.create_process(command, encoding=None))


class SshProgram:
    """A program that runs on a host."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        self._said = b""
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        """Read its errors: asyncssh also stops the output if the errors are never read."""
        with suppress(OSError), _as_oserror():
            while more := await self._process.stderr.read(_CHUNK):
                self._said = (self._said + more)[-_CHUNK:]

    async def write(self, data: memoryview) -> None:
        """Send bytes to its input, a little at a time, so that they are in memory once for all hosts together."""
        with _as_oserror():
            for start in range(0, len(data), _CHUNK):
                self._process.stdin.write(bytes(data[start : start + _CHUNK]))
                await self._process.stdin.drain()

    async def read(self) -> bytes:
        """Return more of its output, as soon as it is available; empty at its end."""
        with _as_oserror():
            return await self._process.stdout.read(_CHUNK)

    async def said(self, limit: int) -> bytes:
        """Return the end of what it said beside its output until now."""
        # After the end of its output comes the rest of the other, unless something that it left has it still.
        await asyncio.wait([self._listening], timeout=_SAID_SECONDS)
        return self._said[-limit:]

    async def close(self) -> None:
        """Close its input, and wait until it has ended."""
        with _as_oserror():
            self._process.stdin.write_eof()
            await self._process.wait_closed()


@contextmanager
def _as_oserror() -> Iterator[None]:
    try:
        yield
    except asyncssh.Error as error:
        raise ConnectionError(_reason(error)) from error


class _ShownKey(asyncssh.SSHClient):
    """Records the fingerprint of an unknown host key, for the error; trusts no key."""

    fingerprint = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.fingerprint = f"{key.get_algorithm()} {key.get_fingerprint()}"
        return False


def login_key(login: SshLogin) -> str:
    """Return the public key of a login."""
    return _public(_read_key(login))


def host_keys(login: SshLogin, address: str, known: asyncssh.SSHKnownHosts | None = None) -> tuple[str, ...]:
    """Return the known host keys of a host.

    :param known: what its file of known hosts says; none: it is read.
    """
    keys, *_ = asyncssh.match_known_hosts(known or read_known_hosts(login), address, "", login.port)
    return tuple(_public(key) for key in keys)


def _public(key: asyncssh.SSHKey) -> str:
    return base64.b64encode(key.public_data).decode()


def _read_key(login: SshLogin) -> asyncssh.SSHKey:
    try:
        if login.client_key is not None:
            return asyncssh.read_private_key(login.client_key, login.passphrase)
        return asyncssh.import_private_key(login.private_key or "", login.passphrase)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        where = login.client_key or "the connection's private_key"
        raise AssetMissing(
            f"The key to log in to the hosts cannot be read from {where}: {_reason(error)}.",
            who=_KEEPER,
            next_step="store the private key there",
        ) from error


def read_known_hosts(login: SshLogin) -> asyncssh.SSHKnownHosts:
    """Read a login's file of known hosts."""
    try:
        return asyncssh.read_known_hosts(str(login.known_hosts))
    except (OSError, ValueError) as error:
        raise AssetMissing(
            f"The hosts' keys cannot be read from {login.known_hosts}: {_reason(error)}.",
            who=_KEEPER,
            next_step="write the hosts' public keys there, in OpenSSH's known_hosts format",
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, asyncssh.Error):
        return error.reason.rstrip(".") or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
