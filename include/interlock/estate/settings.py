"""The settings of the embedded estate: one frozen object, read from the environment once.

Every process of the stack gets the same variables, and so the same folders and ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from interlock.domain.canonical import Model
from interlock.domain.errors import ReleaseError
from interlock.domain.networks import networks_in
from interlock.installation.astro_settings import FILE_NAME
from interlock.locations import PROJECT

SETTINGS_FILE = PROJECT / FILE_NAME
"""The connections, pools and variables of the stack's Airflow."""
LOOPBACK = "127.0.0.1"
"""Where everything but the hosts listens."""
SERVICE = "bike-shop"
"""The sample service that the estate's hosts run."""
DEPLOY_ROOT = f"srv/{SERVICE}"
"""Where releases are on a host, under the login's home."""
TARGET_GROUP = f"{SERVICE}-production"
"""Name of the load balancer's target group."""
SSH_LOGIN = "deployer"
REGION = "eu-central-1"
ACCESS_KEY, SECRET_KEY = "interlock", "embedded"  # moto takes any; these open nothing anywhere
BUCKET = "interlock-artifacts"
"""The bucket that is there for artifacts, when they are to go to S3."""
AIRFLOW_BUCKET = "interlock-airflow"
"""The bucket of a cluster's Airflow: logs of tasks, and their large results."""

_FIRST_BLOCK = 40  # hosts of an environment whose addresses stay in the network's first 256
_FIRST = {"production": 10, "test": 50}

Engine = Literal["local", "cluster"]
"""One machine with a local executor; or the processes of a cluster, which share no folder (``stack/cluster.py``)."""
HostEnvironment = Literal["production", "test"]
HOST_ENVIRONMENTS: tuple[HostEnvironment, ...] = get_args(HostEnvironment)
PortNumber = Annotated[int, Field(ge=1, le=65535)]


class SettingsError(ReleaseError, ValueError):
    """A variable of the environment has a value that the estate cannot use."""


class Port(NamedTuple):
    """An address that the stack listens on."""

    name: str
    address: str
    port: int
    variable: str


class EstateHost(NamedTuple):
    """A host of the estate: its name, its loopback address and its environment."""

    name: str
    address: str
    environment: HostEnvironment


class Settings(Model):
    """Where the embedded stack keeps its state and where it listens."""

    state: Path = PROJECT / ".interlock"
    network: str = Field("127.20.0", description="First three numbers of the hosts' loopback addresses")
    production_hosts: int = Field(3, ge=1, le=1000)
    test_hosts: int = Field(1, ge=1, le=_FIRST_BLOCK)
    catalogue: Path = PROJECT / "include" / "catalogue"
    ssh_port: PortNumber = 2222
    service_port: PortNumber = 8400  # health.port of the service in the catalogue says the same
    aws_port: PortNumber = 5560
    smtp_port: PortNumber = 2525
    postgres_port: PortNumber = 5460
    airflow_port: PortNumber = 8080
    engine: Engine = "local"
    pool_port: PortNumber = 5461
    broker_port: PortNumber = 6390
    api_1_port: PortNumber = 8081
    api_2_port: PortNumber = 8082
    parse_seconds: int = Field(30, ge=1, description="How often Airflow reads the files of Dags")
    idle_seconds: float = Field(0.2, ge=0.05, le=5, description="How long Airflow's scheduler rests when it is idle")
    calendar_networks: str = ""  # what adapters/calendars/feeds.py reads

    @model_validator(mode="before")
    @classmethod
    def _own_state(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Give a cluster a folder of its own: what one engine keeps in files, the other keeps in S3."""
        return {"state": PROJECT / ".interlock-cluster", **values} if values.get("engine") == "cluster" else values

    @field_validator("state", "catalogue")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.resolve()  # the processes of a stack are recognised by its state folder's real path

    @field_validator("calendar_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        networks_in(value)
        return value

    @field_validator("network")
    @classmethod
    def _loopback(cls, value: str) -> str:
        try:
            inside = ipaddress.IPv4Address(f"{value}.0").is_loopback
        except ValueError:
            inside = False
        if not inside:
            raise ValueError("must be the first three numbers of a loopback address, such as 127.20.0")
        return value

    @model_validator(mode="after")
    def _enough_addresses(self) -> Self:
        if int(self.network.split(".")[2]) > 250:
            raise ValueError("the network's third number must be at most 250, so that a large fleet has room above it")
        central = [port.port for port in self.ports() if port.address == LOOPBACK]
        if twice := sorted({port for port in central if central.count(port) > 1}):
            raise ValueError(f"port {', '.join(map(str, twice))} is given to two servers")
        if self.ssh_port == self.service_port:
            raise ValueError(f"port {self.ssh_port} is given to two servers")
        return self

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from ``INTERLOCK_…`` variables; a variable that is not set has its default."""
        given = {name: environ[variable] for name, variable in VARIABLES.items() if environ.get(variable)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError(
                "The settings of the environment cannot be used: " + "; ".join(_sentences(error, given)) + ".",
                rule="the variables that include/interlock/estate/settings.py reads",
                next_step="set the variable to something that is allowed, or unset it to have the default",
            ) from error

    def to_environment(self) -> dict[str, str]:
        """Return the variables that give another process the same settings."""
        return {variable: str(getattr(self, name)) for name, variable in VARIABLES.items()}

    def hosts(self) -> tuple[EstateHost, ...]:
        """Return the hosts that the estate starts with."""
        return tuple(
            self.host(environment, number)
            for environment, count in (("production", self.production_hosts), ("test", self.test_hosts))
            for number in range(1, count + 1)
        )

    def host(self, environment: str, number: int) -> EstateHost:
        """Return the host with this number, from 1, of an environment."""
        kind: HostEnvironment = "test" if environment == "test" else "production"
        return EstateHost(f"{SERVICE}-{kind}-{number:02d}", self.address(kind, number), kind)

    def address(self, environment: HostEnvironment, number: int) -> str:
        """Return the loopback address of a host; those after the fortieth are in the next networks."""
        first, second, third = self.network.split(".")
        if number <= _FIRST_BLOCK:
            return f"{self.network}.{_FIRST[environment] + number}"
        beyond = number - _FIRST_BLOCK - 1
        return f"{first}.{second}.{int(third) + 1 + beyond // 250}.{1 + beyond % 250}"

    def ports(self) -> tuple[Port, ...]:
        """List every address that the stack listens on, with the variable that changes it."""
        central = [
            Port("Airflow", LOOPBACK, self.airflow_port, "INTERLOCK_AIRFLOW_PORT"),
            Port("PostgreSQL", LOOPBACK, self.postgres_port, "INTERLOCK_POSTGRES_PORT"),
            Port("AWS", LOOPBACK, self.aws_port, "INTERLOCK_AWS_PORT"),
            Port("mail", LOOPBACK, self.smtp_port, "INTERLOCK_SMTP_PORT"),
        ]
        if self.engine == "cluster":
            central += [
                Port("PgBouncer", LOOPBACK, self.pool_port, "INTERLOCK_POOL_PORT"),
                Port("the broker", LOOPBACK, self.broker_port, "INTERLOCK_BROKER_PORT"),
                Port("the first API server", LOOPBACK, self.api_1_port, "INTERLOCK_API_1_PORT"),
                Port("the second API server", LOOPBACK, self.api_2_port, "INTERLOCK_API_2_PORT"),
            ]
        for host in self.hosts():
            central.append(Port(f"SSH of {host.name}", host.address, self.ssh_port, "INTERLOCK_SSH_PORT"))
            central.append(Port(f"{SERVICE} on {host.name}", host.address, self.service_port, "INTERLOCK_SERVICE_PORT"))
        return tuple(central)

    @property
    def make(self) -> str:
        """Return how the commands of make begin that are about this stack: ``make `` down, ``make cluster-`` down."""
        return "make cluster-" if self.engine == "cluster" else "make "

    @property
    def database_port(self) -> int:
        """Return where everything but migrations reaches PostgreSQL: on a cluster, through PgBouncer."""
        return self.pool_port if self.engine == "cluster" else self.postgres_port

    @property
    def aws_endpoint(self) -> str:
        """Return the URL of the embedded AWS."""
        return f"http://{LOOPBACK}:{self.aws_port}"

    @property
    def airflow_url(self) -> str:
        """Return the URL of Airflow's UI and API."""
        return f"http://{LOOPBACK}:{self.airflow_port}"

    @property
    def estate(self) -> Path:
        """Return the folder of the hosts, repositories, mails and AWS state."""
        return self.state / "estate"

    @property
    def keys(self) -> Path:
        """Return the folder of the deployer's key and the hosts' own keys."""
        return self.estate / "keys"

    @property
    def signing_key(self) -> Path:
        """Return the file of the key that signs what releases attest."""
        return self.state / "keys" / "signing.pem"

    def deployer_key(self, environment: HostEnvironment) -> Path:
        """Return the private key that opens the hosts of an environment, and no others."""
        return self.keys / f"deployer-{environment}"

    def known_hosts(self, environment: HostEnvironment) -> Path:
        """Return the file with the public key of every host of an environment."""
        return self.estate / f"known_hosts.{environment}"

    @property
    def git(self) -> Path:
        """Return the folder of the services' repositories."""
        return self.estate / "git"

    @property
    def repository(self) -> Path:
        """Return the sample service's bare repository."""
        return self.git / f"{SERVICE}.git"

    @property
    def source_url(self) -> str:
        """Return the URL that the sample service's repository is fetched from."""
        return self.repository.as_uri()

    @property
    def host_folders(self) -> Path:
        """Return the folder with a folder for each host: its login's home."""
        return self.estate / "hosts"

    def host_folder(self, name: str) -> Path:
        """Return the folder of one host: its login's home."""
        return self.host_folders / name

    def host_root(self, name: str) -> Path:
        """Return the folder that is one host's file system, but for its login's home."""
        return self.estate / "roots" / name

    @property
    def mail(self) -> Path:
        """Return the folder with a file for each message."""
        return self.estate / "mail"

    @property
    def objects(self) -> Path:
        """Return the folder of the objects in the embedded S3."""
        return self.estate / "s3"

    @property
    def images(self) -> Path:
        """Return the folder of built machine images."""
        return self.estate / "images"

    @property
    def artifacts(self) -> Path:
        """Return the folder of the artifact store."""
        return self.state / "artifacts"

    @property
    def logs(self) -> Path:
        """Return the folder of every process's log."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """Return the folder of pid files and sockets."""
        return self.state / "run"

    @property
    def estate_ready(self) -> Path:
        """Return the file that is there while the estate's servers are up."""
        return self.run / "estate.ready"


VARIABLES = {name: f"INTERLOCK_{name.upper()}" for name in Settings.model_fields}
"""Setting: its environment variable."""


def _sentences(error: ValidationError, given: Mapping[str, str]) -> list[str]:
    sentences = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        name = str(problem["loc"][0]) if problem["loc"] else ""
        where = f"{VARIABLES[name]} is {given.get(name)!r}: " if name else ""
        sentences.append(where + message[:1].lower() + message[1:] if where else message)
    return sentences
