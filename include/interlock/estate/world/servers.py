"""The estate's servers, as one process: AWS, a host for every instance, mail, and the sample's repository.

``python -m interlock.estate.world.servers`` runs until SIGTERM. It can be killed at any moment: at its next start it
ends what is left of its hosts and boots them again. The file ``run/estate.ready`` in the state folder, and a line with
the word ``ready``, say that everything is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator

from interlock.adapters.private_files import write_whole
from interlock.domain.errors import ReleaseError
from interlock.estate.settings import LOOPBACK, Settings, SettingsError

from . import aws, mail, processes
from .aws import Instance
from .hosts import Fleet
from .image import initial_image
from .supply import Supply

POLL_SECONDS = 0.5
SUPPLY_EVERY, KEEP_EVERY = 4, 20
"""Polls between two looks at the catalogue, and at what is to be kept of AWS."""

log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serve until cancelled."""
    with _alone(settings):
        settings.estate_ready.unlink(missing_ok=True)
        await asyncio.to_thread(processes.end_all, settings.state)  # left by servers that were killed
        async with _central(settings) as server, _fleet(settings, server) as (fleet, supply):
            write_whole(settings.estate_ready, f"{os.getpid()}\n")
            print("ready", flush=True)
            try:
                await _follow(fleet, supply, server.changed)
            finally:
                settings.estate_ready.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Refuse to start beside other servers of this state folder."""
    settings.run.mkdir(parents=True, exist_ok=True)
    with (settings.run / "estate.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"The estate of {settings.state} is running already.",
                next_step="stop it with make down, or set INTERLOCK_STATE to another folder",
            ) from error
        yield


@contextlib.asynccontextmanager
async def _central(settings: Settings) -> AsyncIterator[aws.EmbeddedAws]:
    """Run AWS and mail; give AWS, which is not ready yet."""
    server = aws.EmbeddedAws(settings)
    aws.refuse_taken("Mail", LOOPBACK, settings.smtp_port, "INTERLOCK_SMTP_PORT")
    post = await mail.serve(LOOPBACK, settings.smtp_port, settings.mail)
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        post.close()
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def _fleet(settings: Settings, server: aws.EmbeddedAws) -> AsyncIterator[tuple[Fleet, Supply]]:
    """Make the fleet and boot its hosts; turn them off at the end. From then on AWS is ready for others."""
    supply = await asyncio.to_thread(Supply, settings)
    disk, _ = await asyncio.gather(
        asyncio.to_thread(initial_image, settings, os.environ), asyncio.to_thread(supply.begin)
    )
    server.ready.set()
    fleet = Fleet(settings, disk)
    try:
        await asyncio.gather(*fleet.follow(await asyncio.to_thread(supply.instances)))
        yield fleet, supply
    finally:
        await fleet.off()
        await asyncio.to_thread(supply.keep)


async def _follow(fleet: Fleet, supply: Supply, changed: threading.Event) -> None:
    """Bring every host to the state of its instance, and make what the services want, every half second.

    To describe and keep what AWS has takes dozens of calls: this is done only after something may have changed.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    instances: tuple[Instance, ...] = ()
    kept = False
    changed.set()
    for number in itertools.count(1):
        await asyncio.sleep(POLL_SECONDS)
        try:
            if number % SUPPLY_EVERY == 0:
                await asyncio.to_thread(supply.follow)
            if changed.is_set():
                changed.clear()
                kept = False
                instances = await asyncio.to_thread(supply.instances)
            if not kept and number % KEEP_EVERY == 0:
                await asyncio.to_thread(supply.keep)
                kept = True
        except (BotoCoreError, ClientError) as error:
            changed.set()
            log.warning("A request to AWS failed: %s", error)
        else:
            fleet.follow(instances)


async def _until_told(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    serving = asyncio.ensure_future(serve(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def main() -> int:
    """Serve with the settings of the environment."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("asyncssh", "botocore", "mail.log"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(_until_told(Settings.from_environment(os.environ)))
    except ReleaseError as error:
        print(f"The embedded estate does not start. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
