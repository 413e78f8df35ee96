"""A whole stack of its own for the end-to-end tests: PostgreSQL, Airflow, the embedded estate."""

from __future__ import annotations

import email
import email.policy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from interlock.estate.airflow.accounts import passwords
from interlock.estate.settings import TARGET_GROUP, Settings
from interlock.estate.world import aws
from interlock.locations import PROJECT
from tests.ports import free_port

from .people import Colleague

PORTS = ("AIRFLOW", "POSTGRES", "AWS", "SMTP", "SSH")


@dataclass(frozen=True)
class Mail:
    """A message that the estate's mail server took."""

    recipients: tuple[str, ...]
    subject: str
    text: str


class Stack:
    """The running stack, as its tests look at it from outside."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._people: dict[str, Colleague] = {}

    def person(self, user: str) -> Colleague:
        """Return somebody, logged in."""
        if user not in self._people:
            self._people[user] = Colleague(self.settings.airflow_url, user, passwords(self.settings)[user])
        return self._people[user]

    def close(self) -> None:
        """Log everybody out."""
        for person in self._people.values():
            person.close()

    def parse(self, *dags: str) -> None:
        """Have Airflow parse the files of Dags at once, because the catalogue has changed."""
        admin = self.person("admin")
        for dag in dags:
            token = admin.get(f"dags/{dag}/details")["file_token"]
            assert admin.send("PUT", f"parseDagFile/{token}").status_code in (201, 409), "409: it is going to be anyway"

    def production(self) -> set[str]:
        """Return the versions that the production hosts answer with."""
        return self._versions("production")

    def test_environment(self) -> set[str]:
        """Return the versions that the test hosts answer with."""
        return self._versions("test")

    def _versions(self, environment: str) -> set[str]:
        hosts = [host for host in self.settings.hosts() if host.environment == environment]
        assert hosts
        return {self.version_of(host.address) for host in hosts}

    def version_of(self, address: str) -> str:
        """Return the version that a host answers with."""
        url = f"http://{address}:{self.settings.service_port}/health"
        return str(httpx.get(url, timeout=5, trust_env=False).json()["version"])

    def in_service(self) -> int:
        """Return how many hosts the production target group has in service."""
        with closing(aws.client(self.settings, "elbv2")) as elbv2:
            arn = elbv2.describe_target_groups(Names=[TARGET_GROUP])["TargetGroups"][0]["TargetGroupArn"]
            health = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        return sum(target["TargetHealth"]["State"] == "healthy" for target in health)

    def events(self, asset: str) -> list[dict[str, Any]]:
        """Return the events of an asset, the newest first."""
        admin = self.person("admin")
        (found,) = [one for one in admin.get("assets", limit=100)["assets"] if one["name"] == asset]
        return list(admin.get("assets/events", asset_id=found["id"], order_by="-timestamp")["asset_events"])

    def mails(self) -> list[Mail]:
        """Return every message that was sent, the oldest first."""
        files = sorted(self.settings.mail.rglob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        messages = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in files]
        return [
            Mail(
                recipients=tuple(address.addr_spec for address in message["To"].addresses),
                subject=str(message["Subject"]),
                text="".join(
                    str(part.get_content()) for part in message.walk() if part.get_content_maintype() == "text"
                ),
            )
            for message in messages
        ]


def impatient_catalogue(folder: Path) -> Path:
    """Copy the catalogue, with an emergency board that has 20 seconds."""
    shutil.copytree(PROJECT / "include" / "catalogue", folder)
    board = folder / "board.yaml"
    text = board.read_text()
    assert text.count("deadline: PT1H") == 1, "the emergency board's deadline is elsewhere now"
    board.write_text(text.replace("deadline: PT1H", "deadline: PT20S"))
    return folder


@contextmanager
def running_stack(
    folder: Path, catalogue: Callable[[Path], Path] = impatient_catalogue, *, network: str = "127.41.0"
) -> Iterator[Stack]:
    """Start a stack on ports and addresses of its own; stop everything of it afterwards.

    :param catalogue: copies the catalogue into a folder, and may change it there.
    :param network: of the hosts' addresses; stacks at the same time need one each.
    """
    ports = {f"INTERLOCK_{name}_PORT": str(free_port()) for name in PORTS}
    settings = Settings.from_environment(
        {
            **os.environ,
            **ports,
            "INTERLOCK_STATE": str(folder / "state"),
            "INTERLOCK_NETWORK": network,
            "INTERLOCK_CATALOGUE": str(catalogue(folder / "catalogue")),
        }
    )
    command = [sys.executable, "-m", "interlock.estate"]
    environment = {**os.environ, **settings.to_environment(), "PYTHONPATH": str(PROJECT / "include")}
    try:
        subprocess.run([*command, "up"], env=environment, cwd=PROJECT, check=True)
        with closing(Stack(settings)) as running:
            yield running
    finally:
        subprocess.run([*command, "down"], env=environment, cwd=PROJECT, check=True)
