"""Access to hosts through AWS Systems Manager, without an inbound port: Run Command, and S3 for bytes.

A command of SSM runs once and has no input, and a deployment is a conversation. So the first command starts the program
on the host with a pipe as its input and a file as its output, and goes; each one after it puts what was said into the
pipe, waits for more of the output, and brings that back. What is too long for a command travels by way of S3: the host
fetches it from a pre-signed address. The admission is asked when a session with a host is opened, as over SSH, and no
command is sent outside one: a stop halts between two hosts, and not in the middle of one.

The host needs the SSM agent, curl, and a role that may nothing but be managed; nobody else may read the bucket.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import AssetMissing, HostUnreachable, PolicyViolation

from .transport import AdmittedTransport

_DOCUMENT = "AWS-RunShellScript"
_INLINE = 4096  # maximum bytes in a command; larger input goes through S3
_LARGE = 256 * 1024  # minimum bytes for which a digest is computed in a thread
_READ = 15_000  # bytes of output that one command brings back: SSM cuts at 24,000 characters
_WAITS = 20  # seconds that a command waits on the host for more output
_VALID = 3600  # seconds that an address of S3 can be used
_STARTS_WITHIN = 120.0
_TRANSFER = 900  # seconds that the host may take to fetch a bundle
_ENDED = ("Success", "Failed", "Cancelled", "TimedOut", "Undeliverable", "Terminated", "DeliveryTimedOut")
_PARALLEL = 16
_PREFIX = "interlock-transfer"
_PAUSES = (0.2, 0.3, 0.5, 1.0)
_PLACE = re.compile(r"/[A-Za-z0-9/._-]+")

_START = """set -eu
cd
place=$(mktemp -d /var/tmp/interlock-XXXXXXXX)
mkfifo "$place/in"
curl -fsS --retry 3 -o "$place/command" {url}
setsid sh -c 'echo $$ >"$1/pid" && exec sh "$1/command" <>"$1/in" >"$1/out" 2>"$1/err"' sh "$place" \\
    </dev/null >/dev/null 2>&1 &
until [ -s "$place/pid" ] && [ -e "$place/out" ]; do sleep 0.02; done
echo "$place"
"""
_TALK = """set -u
cd {place} || exit 9
{say}
for wait in $(seq {ticks}); do
    [ "$(wc -c <out)" -le {offset} ] || break
    kill -0 "$(cat pid)" 2>/dev/null || {{ echo ended; break; }}
    sleep 0.2
done
tail -c +{start} out | head -c {limit} | base64 -w 0
"""


@dataclass(frozen=True, slots=True)
class SsmLogin:
    """How to reach the hosts of an environment through SSM.

    :param ssm: a boto3 client for Systems Manager.
    :param s3: a boto3 client for S3.
    :param bucket: for transfers; S3 should expire the objects after a day.
    """

    ssm: Any = field(repr=False)
    s3: Any = field(repr=False)
    bucket: str
    prefix: str = _PREFIX


class SsmConnectionSettings(Protocol):
    """What is read of an Airflow connection of type aws."""

    conn_id: str

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """The extra fields."""


def ssm_login(connection: SsmConnectionSettings, client: Callable[[str], Any]) -> SsmLogin:
    """Read from an Airflow connection how to reach hosts through SSM: ``transfer_bucket``, and ``transfer_prefix``.

    :param client: makes a boto3 client for a service of AWS.
    """
    extra = connection.extra_dejson
    if not extra.get("transfer_bucket"):
        raise AssetMissing(
            f"The connection {connection.conn_id} lacks transfer_bucket in its extra fields.",
            rule="hosts that are reached through SSM fetch bundles from S3",
            who="the platform engineer (connection of the hosts)",
            next_step="name a private bucket there whose objects expire after a day",
        )
    prefix = str(extra.get("transfer_prefix") or _PREFIX)
    return SsmLogin(client("ssm"), client("s3"), str(extra["transfer_bucket"]), prefix)


class SsmTransport(AdmittedTransport):
    """Talks to hosts through SSM.

    :param instances: address: the instance that has it.
    """

    def __init__(self, login: SsmLogin, admission: Admission, instances: Mapping[str, str]) -> None:
        super().__init__(admission)
        for address, instance in instances.items():
            admission.refuse_production("instance", instance, f"the instance {instance}, {address},")
        self._login, self._instances = login, dict(instances)
        self._threads = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="ssm")
        self._in_session: Counter[str] = Counter()
        self._uploads: dict[str, asyncio.Task[None]] = {}
        self._digests: dict[int, tuple[bytes, asyncio.Task[str]]] = {}

    @asynccontextmanager
    async def opened(self, address: str) -> AsyncIterator[SsmConnection]:
        """Give a host that commands can be sent to."""
        await self.admit(address)
        self._in_session[address] += 1
        try:
            yield SsmConnection(self, address)
        finally:
            self._in_session[address] -= 1

    async def run(self, address: str, script: str, seconds: float) -> str:
        """Run a script on a host that there is a session with, and return what it printed.

        :raises PolicyViolation: there is none.
        :raises HostUnreachable: it could not be run, or failed, or did not end in time.
        """
        if not self._in_session[address]:
            raise PolicyViolation(f"There is no session with {address}.", rule="a connection needs a permit")
        try:
            sent = await self._call(self._send, self._instances[address], script, int(seconds) + 30)
            return await self._await_end(address, sent, monotonic() + seconds)
        except (ClientError, BotoCoreError) as error:
            raise _unreachable(address, f"could not be reached through SSM: {error}") from error

    async def address_of(self, data: bytes) -> str:
        """Put bytes into the bucket, once for all hosts, and return an address from which they can be fetched."""
        key = f"{self._login.prefix}/{await self._digest(data)}"
        if key not in self._uploads:
            self._uploads[key] = asyncio.ensure_future(self._call(self._put, key, data))
        try:
            await asyncio.shield(self._uploads[key])
            about = {"Bucket": self._login.bucket, "Key": key}
            sign = self._login.s3.generate_presigned_url
            return str(await self._call(lambda: sign("get_object", Params=about, ExpiresIn=_VALID)))
        except (ClientError, BotoCoreError) as error:
            self._uploads.pop(key, None)
            raise OSError(f"the bundle cannot be put into {self._login.bucket}: {error}") from error

    async def _digest(self, data: bytes) -> str:
        """Return the digest of bytes; for a release, which is the same object for all hosts, it is computed once."""
        if len(data) < _LARGE:
            return hashlib.sha256(data).hexdigest()
        if id(data) not in self._digests:
            making = asyncio.ensure_future(self._call(lambda: hashlib.sha256(data).hexdigest()))
            self._digests[id(data)] = data, making  # kept, so that the id stays its own
        return await asyncio.shield(self._digests[id(data)][1])

    async def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _put(self, key: str, data: bytes) -> None:
        self._login.s3.put_object(Bucket=self._login.bucket, Key=key, Body=data)

    def _send(self, instance: str, script: str, seconds: int) -> tuple[str, str]:
        sent = self._login.ssm.send_command(
            InstanceIds=[instance],
            DocumentName=_DOCUMENT,
            Comment="Interlock",
            TimeoutSeconds=max(30, seconds),
            Parameters={"commands": [script], "executionTimeout": [str(max(30, seconds))]},
        )
        return sent["Command"]["CommandId"], instance

    async def _await_end(self, address: str, sent: tuple[str, str], give_up: float) -> str:
        pauses = iter(_PAUSES)
        while monotonic() < give_up + 30:
            found = await self._call(self._invocation, *sent)
            if found is not None and found["Status"] in _ENDED:
                if found["Status"] != "Success":
                    said = found.get("StandardErrorContent") or found.get("StatusDetails") or found["Status"]
                    raise _unreachable(address, f"did not run the SSM command: {' '.join(said.split())[-500:]}")
                return str(found["StandardOutputContent"])
            await asyncio.sleep(next(pauses, _PAUSES[-1]))
        raise _unreachable(address, "did not answer through SSM in time")

    def _invocation(self, command: str, instance: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._login.ssm.get_command_invocation(CommandId=command, InstanceId=instance)
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvocationDoesNotExist":  # not yet
                return None
            raise
        return answer


class SsmConnection:
    """A host that commands can be sent to."""

    def __init__(self, transport: SsmTransport, address: str) -> None:
        self._transport, self._address = transport, address

    async def start(self, command: str) -> SsmProgram:
        """Start a shell command, which continues after this call."""
        url = await self._transport.address_of(command.encode(errors="surrogateescape"))
        said = (await self._transport.run(self._address, _START.format(url=shlex.quote(url)), _STARTS_WITHIN)).strip()
        if not _PLACE.fullmatch(said):
            raise _unreachable(self._address, f"did not start the program: {said[-200:]}")
        return SsmProgram(self._transport, self._address, said)


class SsmProgram:
    """A program that runs on a host, with its input and output in a folder there."""

    def __init__(self, transport: SsmTransport, address: str, place: str) -> None:
        self._transport, self._address, self._place = transport, address, place
        self._unsent: list[memoryview] = []
        self._offset = 0
        self._ended = False

    async def write(self, data: memoryview) -> None:
        """Buffer bytes for its input; they are sent when its answer is read."""
        self._unsent.append(data)

    async def read(self) -> bytes:
        """Return more of its output, as soon as it is available; empty at its end."""
        more = b""
        while not more and not self._ended:
            more = await self._talk(_WAITS)
        return more

    async def said(self, limit: int) -> bytes:
        """Return the end of what it said beside its output until now."""
        return (await self._transport.run(self._address, f"tail -c {int(limit)} {self._place}/err", 30)).encode()

    async def close(self) -> None:
        """End it, and remove its files."""
        self._unsent = [memoryview(b"leave\n")]  # and never repeat input that may have arrived
        await self._talk(2, then=f"rm -rf {self._place}")

    async def _talk(self, seconds: int, then: str = "") -> bytes:
        script = _TALK.format(
            place=self._place,
            say=await self._words(),
            ticks=5 * seconds,
            offset=self._offset,
            start=self._offset + 1,
            limit=_READ,
        )
        said = await self._transport.run(self._address, f"{script}{then}", seconds + _TRANSFER)
        self._unsent = []
        first, _, rest = said.partition("\n")
        ended = first == "ended"
        more = base64.b64decode(rest if ended else said)
        self._offset += len(more)
        self._ended = ended and len(more) < _READ
        return more

    async def _words(self) -> str:
        """Return the shell that puts what was not sent yet into the program's input."""
        words: list[str] = []
        short = b""
        for part in self._unsent:
            if len(short) + len(part) > _INLINE:
                words += _printed(short)
                short = b""
            if len(part) > _INLINE:
                words.append(f"curl -fsS --retry 3 {shlex.quote(await self._transport.address_of(_whole(part)))}")
            else:
                short += part
        words += _printed(short)
        if not words:
            return ":"
        # Only to be written, a pipe that nobody reads any more cannot be opened; but who opens it to be read, too, does
        # not see that the program ends under a long transfer.
        into = ">in" if any(word.startswith("curl") for word in words) else "1<>in"
        all_of_it = shlex.quote(f"{{ {' && '.join(words)}; }} {into}")
        return f'if kill -0 "$(cat pid)" 2>/dev/null; then timeout {_TRANSFER} sh -c {all_of_it} || exit 8; fi'


def _printed(short: bytes) -> list[str]:
    return [f"printf %s {base64.b64encode(short).decode()} | base64 -d"] if short else []


def _whole(part: memoryview) -> bytes:
    """Return the bytes of a view: the object itself, if the view is of all of it."""
    return part.obj if isinstance(part.obj, bytes) and len(part.obj) == part.nbytes else bytes(part)


def _unreachable(address: str, what: str) -> HostUnreachable:
    return HostUnreachable(
        f"{address} {what}.",
        who="the platform engineer (connection of the hosts)",
        next_step="check in AWS Systems Manager that the instance is managed and its agent is online, then try again",
    )
