"""The estate's hosts: one for every EC2 instance that runs, on the instance's own loopback address.

A stopped instance loses its SSH server and its programs, as if the power were cut. A started instance boots: the hook
ApplicationStart of the current release starts each service on it. A terminated instance loses its disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import sys
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import asyncssh

from interlock.adapters.private_files import write_whole
from interlock.adapters.signing.signing import generate_key, ssh_key
from interlock.domain.catalogue import PRODUCTION
from interlock.domain.errors import ReleaseError
from interlock.domain.hosts.appspec import APPSPEC, Event, Hook, parse_appspec
from interlock.domain.permits.on_hosts import allowed_signer
from interlock.estate.settings import HOST_ENVIRONMENTS, SERVICE, SSH_LOGIN, EstateHost, Settings

from . import image, processes
from .aws import USE, Instance, refuse_taken
from .image import Image
from .keys import key, write_known_hosts
from .roots import Root, open_root, why_not
from .ssh import EmbeddedServer, Endpoint

BOOT_SECONDS = 60.0
RETRY_SECONDS = 5.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = logging.getLogger(__name__)


class Machine:
    """A host that can be turned on and off."""

    def __init__(self, settings: Settings, host: EstateHost, disk: Image | None) -> None:
        """Describe a host.

        :param disk: what it has on its disk when it is new; none: nothing.
        """
        self.host, self.on = host, False
        self._settings, self._image = settings, disk
        self._server: EmbeddedServer | None = None
        self._root: Root | None = None
        self._turning: asyncio.Task[None] | None = None
        self._not_before = 0.0

    @property
    def folder(self) -> Path:
        """Return its disk, which is also its login's home."""
        return self._settings.host_folder(self.host.name)

    @property
    def root_folder(self) -> Path:
        """Return the folder that is its root, if it has its own."""
        return self._settings.host_root(self.host.name)

    @property
    def _enter(self) -> tuple[str, ...]:
        return self._root.enter if self._root else ()

    @cached_property
    def key(self) -> asyncssh.SSHKey:
        """Return its own key."""
        return key(self._settings.keys / "hosts" / self.host.name)

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of its programs: nothing of this machine's but the Python."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "HOME": str(self.folder),
            "SHELL": "/bin/sh",
            "USER": SSH_LOGIN,
            "LOGNAME": SSH_LOGIN,
            "LANG": "C.UTF-8",
            "INTERLOCK_STATE": str(self._settings.state),
            "INTERLOCK_HOST": self.host.name,
            "INTERLOCK_ADDRESS": self.host.address,
            "INTERLOCK_ENROLMENT": str(self.enrolment),
        }

    @property
    def enrolment(self) -> Path:
        """Return the folder that says, on a host of production, which keys sign permits and what the host is called."""
        return self.folder / ".interlock-enrolment"

    def turn(self, on: bool) -> asyncio.Task[None] | None:
        """Begin to turn the host on or off, unless it is so already or is being turned; a failure is retried."""
        busy = self._turning is not None and not self._turning.done()
        if busy or on == self.on or time.monotonic() < self._not_before:
            return None
        self._turning = asyncio.create_task(self._turn(on), name=f"{self.host.name} {'on' if on else 'off'}")
        self._turning.add_done_callback(self._tell)
        return self._turning

    async def off(self, *, gently: bool = False) -> None:
        """Turn the host off, also while it boots.

        :param gently: its programs are asked to end first.
        """
        if self._turning and not self._turning.done():
            self._turning.cancel()
            await asyncio.wait([self._turning])
        await self._cut(gently=gently)

    async def _turn(self, on: bool) -> None:
        if on:
            await self._boot()
        else:
            await self._cut(gently=False)
        log.info("%s (%s) is %s", self.host.name, self.host.address, "up" if on else "down")

    async def _boot(self) -> None:
        await asyncio.to_thread(self._prepare)
        await asyncio.to_thread(processes.end_all, self._settings.state, self.host.name)
        if not why_not():
            self._root = await asyncio.to_thread(open_root, self.root_folder, self.folder, self.environ)
        for current in sorted(self.folder.glob("srv/*/current")):
            await self._start_service(current)
        # SSH comes last, so that there is no deployment to a host that still starts its services.
        server = self._make_server()
        await server.start()
        self._server, self.on = server, True

    def _prepare(self) -> None:
        refuse_taken(f"SSH of {self.host.name}", self.host.address, self._settings.ssh_port, "INTERLOCK_SSH_PORT")
        if self._image:
            image.install(self._settings, self._image, self.folder)
            image.configure(self._settings, self.host)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.host.environment == "production":
            self._enrol()

    def _enrol(self) -> None:
        generate_key(self._settings.signing_key)
        signer = ssh_key(self._settings.signing_key.with_name(f"{self._settings.signing_key.name}.pub").read_bytes())
        self.enrolment.mkdir(exist_ok=True)
        write_whole(self.enrolment / "names", f"{self.host.address}\n")
        write_whole(self.enrolment / "permit-keys", allowed_signer(signer))

    def _make_server(self) -> EmbeddedServer:
        settings = self._settings
        login_key = key(settings.deployer_key(self.host.environment)).convert_to_public()
        address, port = self.host.address, settings.ssh_port
        return EmbeddedServer(Endpoint(address, port, SSH_LOGIN, login_key, self.key, self.environ, self._enter))

    async def _start_service(self, current: Path) -> None:
        """Start a service's current release, as a host's init system would; a failure is logged."""
        release = current.resolve()
        try:
            spec = parse_appspec((release / APPSPEC).read_text("utf-8"), installed=True)
            hooks = spec.hooks.get(Event.APPLICATION_START, ())
            for hook in hooks:
                await self._run_hook(current.parent, release, hook)
        except (ReleaseError, OSError) as error:
            log.warning("%s: %s does not start: %s", self.host.name, release.name, error)

    async def _run_hook(self, root: Path, release: Path, hook: Hook) -> None:
        environ = self.environ | {
            "APPLICATION_NAME": root.name,
            "DEPLOYMENT_ID": "boot",
            "DEPLOYMENT_GROUP_NAME": self.host.environment,
            "DEPLOYMENT_GROUP_ID": self.host.environment,
            "LIFECYCLE_EVENT": Event.APPLICATION_START.value,
            "INTERLOCK_SHARED": str(root / "shared"),
            "INTERLOCK_RELEASE": str(release),
        }
        with (self.folder / "boot.log").open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *self._enter,
                *("/bin/sh", "-c", 'cd -- "$INTERLOCK_RELEASE" && exec "$0"', str(release / hook.location)),
                cwd=release,
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            code = await asyncio.wait_for(child.wait(), min(hook.timeout, BOOT_SECONDS))
        except TimeoutError:
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        if code:
            log.warning("%s: %s of %s ended with %s", self.host.name, hook.location, release.name, code)

    async def _cut(self, *, gently: bool) -> None:
        self.on = False
        if self._server:
            await self._server.stop()
            self._server = None
        await asyncio.to_thread(processes.end_all, self._settings.state, self.host.name, gently=gently)
        if self._root:
            self._root.close()
            self._root = None

    def _tell(self, turning: asyncio.Task[None]) -> None:
        if not turning.cancelled() and (error := turning.exception()):
            self._not_before = time.monotonic() + RETRY_SECONDS
            log.error("%s: %s", self.host.name, error)


class Fleet:
    """All hosts of the estate."""

    def __init__(self, settings: Settings, disk: Image) -> None:
        """Begin without hosts; make what they share first, because they boot at the same time."""
        self._settings, self._image = settings, disk
        for owner in HOST_ENVIRONMENTS:
            key(settings.deployer_key(owner))
        for environment in image.PRICE_LISTS:
            image.signing_secret(settings, environment)
        if why := why_not():
            log.warning("Hosts share this machine's root, where an absolute destination is really written: %s", why)
        self._machines: dict[str, Machine] = {}
        self._refused: set[str] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    def follow(self, instances: Iterable[Instance]) -> list[asyncio.Task[None]]:
        """Begin to bring every host to the state of its instance; return what is under way."""
        living = [instance for instance in instances if instance.state not in ("terminated", "shutting-down")]
        self._dismiss({instance.id for instance in living})
        self._admit(living)
        running = {instance.id for instance in living if instance.state in ("running", "pending")}
        turning = [machine.turn(id in running) for id, machine in self._machines.items()]
        return [task for task in turning if task]

    async def off(self) -> None:
        """Turn every host off, gently."""
        await asyncio.gather(*(machine.off(gently=True) for machine in self._machines.values()), *self._leaving)

    async def settled(self) -> None:
        """Wait until the hosts of terminated instances are gone."""
        await asyncio.gather(*self._leaving)

    def _admit(self, living: Sequence[Instance]) -> None:
        """Give every new instance a host, and let the deployer know the hosts' keys."""
        for instance in living:
            if instance.id not in self._machines and self._has_room_for(instance):
                host = self._describe(instance)
                disk = self._image if instance.tags.get("Service") == SERVICE else None
                self._machines[instance.id] = Machine(self._settings, host, disk)
        for environment in HOST_ENVIRONMENTS:
            machines = [machine for machine in self._machines.values() if machine.host.environment == environment]
            known = {machine.host.address: machine.key for machine in machines}
            write_known_hosts(self._settings.known_hosts(environment), self._settings.ssh_port, known)

    def _has_room_for(self, instance: Instance) -> bool:
        """Say whether an address is a free loopback address: this machine has no others."""
        try:
            loopback = ipaddress.ip_address(instance.address).is_loopback
        except ValueError:
            loopback = False
        taken = {machine.host.address for machine in self._machines.values()}
        if loopback and instance.address not in taken:
            return True
        if instance.id not in self._refused:
            self._refused.add(instance.id)
            why = "is another host's" if loopback else "is not a loopback address"
            log.error("%s gets no host: its address %r %s", instance.name, instance.address, why)
        return False

    def _describe(self, instance: Instance) -> EstateHost:
        taken = {machine.host.name for machine in self._machines.values()}
        usable = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", instance.name) and instance.name not in taken
        name = instance.name if usable else instance.id
        # A second fleet of production has a tag of its own; in doubt, the key of test must not open it.
        said = instance.tags.get("Environment")
        is_test = said != PRODUCTION and "test" in (said, instance.tags.get(USE))
        return EstateHost(name, instance.address, "test" if is_test else "production")

    def _dismiss(self, living: set[str]) -> None:
        """Turn off the hosts of terminated instances, and delete their disks and keys."""
        for id in self._machines.keys() - living:
            machine = self._machines.pop(id)
            self._leaving.add(task := asyncio.create_task(self._bury(machine)))
            task.add_done_callback(self._leaving.discard)

    async def _bury(self, machine: Machine) -> None:
        await machine.off()
        for folder in (machine.folder, machine.root_folder):
            await asyncio.to_thread(image.remove, folder)
        for name in (machine.host.name, f"{machine.host.name}.pub"):
            (self._settings.keys / "hosts" / name).unlink(missing_ok=True)
        log.info("%s (%s) is gone", machine.host.name, machine.host.address)
