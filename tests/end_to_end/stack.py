"""A whole stack of its own for the end-to-end tests: PostgreSQL, Airflow, the embedded estate."""

from __future__ import annotations

import email
import email.policy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from interlock.domain.canonical import sha256_of
from interlock.estate.airflow.accounts import passwords
from interlock.estate.settings import Settings
from interlock.estate.stack.stack import claim
from interlock.estate.world import aws
from interlock.locations import PROJECT
from tests.factories.sigstore import IDENTITY, Sigstore
from tests.ports import free_port

from .people import BIKE_SHOP, Colleague, until

WHEEL_SHOP, CORNER_SHOP, TANDEM_SHOP, CARGO_SHOP = "wheel-shop", "corner-shop", "tandem-shop", "cargo-shop"
SADDLE_SHOP, HARBOUR_SHOP = "saddle-shop", "harbour-shop"
"""Services like the bike shop, with hosts of their own that have nothing yet."""
BOOK_SHOP = "book-shop"
"""The same, with steps around the waves."""
PARCEL_SHOP, PARCEL_PIPELINE = "parcel-shop", "jenkins-parcel"
"""Another, which its own pipeline builds, and the account of this pipeline."""
BUILDER = "https://jenkins.spoke-wheel.example/"
BUILT_HERE = """\
build:
  tool: make
  build: [build]
  test: [test]
  output: build/bundle
  junit: [build/reports/unit.xml]
  coverage: build/reports/coverage.xml
  time_limit: PT10M
"""
PREBUILT = """\
build:
  tool: prebuilt
  store: https
  connection: parcel_artifacts
  artifact: shop/{version}/shop-{version}.tar.gz
  statements: ["shop/{version}/shop-{version}.tar.gz.intoto.jsonl"]
  junit: ["shop/{version}/unit.xml"]
  coverage: shop/{version}/coverage.xml
  workflow: Jenkinsfile
"""
WITHOUT_HOSTS = """\
without_hosts:
  security-review:
    after: [acceptance]
    sign_off: { title: Security team, people: [cora] }
"""
WAIVABLE = "  provenance: { roles: [security], longest: P7D }\n"
NOT_WAIVABLE = "  waivers: { provenance: { roles: [] } }\n"
"""What another pipeline says may be waived, but not for this service, until a test changes that."""
PORTS = ("AIRFLOW", "POSTGRES", "AWS", "SMTP", "SSH", "POOL", "BROKER", "API_1", "API_2")
RUNBOOK = Path(__file__).parent / "runbook"
NETWORK = os.environ.get("INTERLOCK_NETWORK", "127.41.0")
"""Of the hosts' addresses, unless a test asks for another."""


@dataclass(frozen=True)
class Mail:
    """A message that the estate's mail server took."""

    recipients: tuple[str, ...]
    subject: str
    text: str


class Stack:
    """The running stack, as the tests of one of its services look at it from outside."""

    def __init__(self, settings: Settings, service: str = BIKE_SHOP) -> None:
        self.settings, self.service = settings, service
        self.target_group = f"{service}-production"
        self._people: dict[str, Colleague] = {}

    def person(self, user: str) -> Colleague:
        """Return somebody, logged in."""
        if user not in self._people:
            password = passwords(self.settings)[user]
            self._people[user] = Colleague(self.settings.airflow_url, user, password, self.service)
        return self._people[user]

    def close(self) -> None:
        """Log everybody out."""
        for person in self._people.values():
            person.close()

    def parse(self, *dags: str) -> None:
        """Have Airflow parse the files of Dags at once, because the catalogue has changed."""
        admin = self.person("admin")
        for dag in dags:
            token = until(dag, partial(self._file_of, dag))
            assert admin.send("PUT", f"parseDagFile/{token}").status_code in (201, 409), "409: it is going to be anyway"

    def _file_of(self, dag: str) -> str | None:
        """Return Airflow's name of a Dag's file; None: a stack that has just started has not read it yet."""
        answer = self.person("admin").send("GET", f"dags/{dag}/details")
        return str(answer.json()["file_token"]) if answer.is_success else None

    def production(self) -> set[str]:
        """Return the versions that the production hosts answer with."""
        return self.versions("production")

    def test_environment(self) -> set[str]:
        """Return the versions that the test hosts answer with."""
        return self.versions("test")

    def versions(self, environment: str) -> set[str]:
        """Return the versions that the hosts of an environment answer with."""
        hosts = self.hosts(environment)
        assert hosts
        return {self.version_of(host.address) for host in hosts}

    def hosts(self, environment: str = "") -> list[aws.Instance]:
        """Return the service's hosts of an environment, or of all, by their tags."""
        with closing(aws.client(self.settings, "ec2")) as ec2:
            tags = {"Service": self.service, **({"Environment": environment} if environment else {})}
            return [one for one in aws.living(ec2) if tags.items() <= one.tags.items()]

    def version_of(self, address: str) -> str:
        """Return the version that a host answers with."""
        url = f"http://{address}:{self.settings.service_port}/health"
        return str(httpx.get(url, timeout=5, trust_env=False).json()["version"])

    def configure(self) -> None:
        """Write the configuration of the shop on each host of the service, as configuration management would."""
        sample = {host.environment: host.name for host in self.settings.hosts()}
        for host in self.hosts():
            like = sample["production" if host.tags["Environment"].startswith("production") else "test"]
            given = json.loads(self._configuration(like, BIKE_SHOP).read_text())
            file = self._configuration(host.name, self.service)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({**given, "host": host.name, "address": host.address}))

    def _configuration(self, host: str, service: str) -> Path:
        return self.settings.host_folder(host) / "srv" / service / "shared" / "shop.json"

    def target_groups(self) -> set[str]:
        """Return the names of all target groups."""
        with closing(aws.client(self.settings, "elbv2")) as elbv2:
            return {group["TargetGroupName"] for group in elbv2.describe_target_groups()["TargetGroups"]}

    def in_service(self) -> int:
        """Return how many hosts the production target group has in service."""
        with closing(aws.client(self.settings, "elbv2")) as elbv2:
            arn = elbv2.describe_target_groups(Names=[self.target_group])["TargetGroups"][0]["TargetGroupArn"]
            health = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        return sum(target["TargetHealth"]["State"] == "healthy" for target in health)

    def events(self, asset: str) -> list[dict[str, Any]]:
        """Return the events of an asset, the newest first."""
        admin = self.person("admin")
        (found,) = [one for one in admin.get("assets", limit=100)["assets"] if one["name"] == asset]
        return list(admin.get("assets/events", asset_id=found["id"], order_by="-timestamp")["asset_events"])

    def mails(self) -> list[Mail]:
        """Return every message about the service, the oldest first."""
        files = sorted(self.settings.mail.rglob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        messages = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in files]
        mails = [
            Mail(
                recipients=tuple(address.addr_spec for address in message["To"].addresses),
                subject=str(message["Subject"]),
                text="".join(
                    str(part.get_content()) for part in message.walk() if part.get_content_maintype() == "text"
                ),
            )
            for message in messages
        ]
        names = (self.service, title(self.service))
        return [mail for mail in mails if any(name in mail.subject for name in names)]


def impatient_catalogue(folder: Path) -> Path:
    """Copy the catalogue: an emergency board that has a minute, and for each file of tests a service of its own."""
    shutil.copytree(PROJECT / "include" / "catalogue", folder)
    board = folder / "board.yaml"
    text = board.read_text()
    assert text.count("deadline: PT1H") == 1, "the emergency board's deadline is elsewhere now"
    board.write_text(text.replace("deadline: PT1H", "deadline: PT1M"))
    add_service(folder, WHEEL_SHOP)
    add_service(folder, TANDEM_SHOP)
    add_prebuilt_service(folder)
    add_service(folder, SADDLE_SHOP)
    with (folder / "services" / f"{SADDLE_SHOP}.yaml").open("a") as file:
        file.write((PROJECT / "include" / "samples" / "bike_shop" / "database.yaml").read_text())
    add_service(folder, CORNER_SHOP, **{"waves: [1, 100%]": "waves: [100%]\n    window: 1"})
    add_service(folder, HARBOUR_SHOP, **{"requests: 200 ": "requests: 40 "})
    add_service_on_path(folder)
    add_service_with_steps(folder)
    return folder


def add_service_on_path(folder: Path) -> None:
    """Add a service with environments between test and production, test teams, and test cases that people run."""
    examples = PROJECT / "tests" / "end_to_end" / "environments"
    between = (examples / "between.yaml").read_text()
    cases = (examples / "rules.yaml").read_text()
    add_service(
        folder,
        CARGO_SHOP,
        **{"  production:\n": f"{between}  production:\n", "environments:\n": f"{cases}{WITHOUT_HOSTS}environments:\n"},
    )
    (folder / "cases").mkdir()
    shutil.copyfile(examples / "cases.yaml", folder / "cases" / f"{CARGO_SHOP}.yaml")
    policy = folder / "policy.yaml"
    text = policy.read_text()
    for old, new in {
        "    board: cab\n": "    board: cab\n    without_soak: [patch]\n",
        "\nwaivers:\n": "\nwaivers:\n  defects: { roles: [operations] }\n",
        "  emergency:\n": "  emergency:\n    environments: [staging] # services without it go through all of theirs\n",
    }.items():
        assert text.count(old) == 1, f"{old} is elsewhere in policy.yaml now"
        text = text.replace(old, new)
    policy.write_text(text)


def add_service_with_steps(folder: Path) -> None:
    """Add a service with a runbook, and a rule by which one more person votes on what cannot be taken back."""
    add_service(folder, BOOK_SHOP, **{"requests: 200 ": "requests: 40 "})
    with (folder / "services" / f"{BOOK_SHOP}.yaml").open("a") as service:
        service.write((RUNBOOK / "steps.yaml").read_text())
    board = folder / "board.yaml"
    text = board.read_text()
    assert text.count("\nrules:\n") == 1, "the rules are elsewhere in board.yaml now"
    who = "    members: [maya]\n    quorum: { approvals: 1, deadline: PT24H }\n"
    rule = f"  - name: irreversible\n    when: {{ irreversible: true }}\n{who}"
    board.write_text(text.replace("\nrules:\n", f"\nrules:\n{rule}"))


def add_service(folder: Path, name: str, *, like: str = BIKE_SHOP, hosts: bool = True, **changes: str) -> None:
    """Add a service to a catalogue: a copy of another, with a name of its own.

    :param hosts: it has hosts of its own, too.
    :param changes: what is replaced by what; each stands there once.
    """
    text = (folder / "services" / f"{like}.yaml").read_text()
    titles = {f"title: {title(like)}\n": f"title: {title(name)}\n"}
    for old, new in {**titles, f"name: {like}\n": f"name: {name}\n", **changes}.items():
        assert text.count(old) == 1, f"{old} is elsewhere in {like}.yaml now"
        text = text.replace(old, new)
    (folder / "services" / f"{name}.yaml").write_text(text.replace(like, name) if hosts else text)


def add_prebuilt_service(folder: Path) -> None:
    """Add a service whose own pipeline builds it; the pipeline's private key is beside the catalogue."""
    own = "    max_p95_ms: 800\n"
    add_service(folder, PARCEL_SHOP, **{BUILT_HERE: PREBUILT, own: f"{own}{NOT_WAIVABLE}"})
    key = Ed25519PrivateKey.generate()
    pipeline_key(folder).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    policy_file = folder / "policy.yaml"
    text = policy_file.read_text()
    assert text.count("\nwaivers:\n") == 1, "the waivers are elsewhere now"
    policy_file.write_text(text.replace("\nwaivers:\n", f"\nwaivers:\n{WAIVABLE}"))
    rules: dict[str, Any] = {
        "stores": ["parcel_artifacts"],
        "keys": [{"name": "jenkins", "key": pem, "builders": [BUILDER]}],
    }
    signs = generate_private_key(SECP256R1())
    sigstore_key(folder).write_bytes(signs.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    root = pipeline_sigstore(folder).trusted_root
    (folder / "trusted_root.json").write_bytes(root)
    rules |= {"identities": [IDENTITY.model_dump(mode="json")]}
    rules |= {"trusted_root": {"file": "trusted_root.json", "sha256": sha256_of(root)}}
    with policy_file.open("a") as policy:
        policy.write(yaml.safe_dump({"prebuilt": rules, "pipelines": {PARCEL_PIPELINE: [PARCEL_SHOP]}}))


def pipeline_key(catalogue: Path) -> Path:
    """Return the file of the private key with which the pipeline signs."""
    return catalogue.parent / "pipeline.pem"


def sigstore_key(catalogue: Path) -> Path:
    """Return the file of the key of the Sigstore that signs for workflows of GitHub."""
    return catalogue.parent / "sigstore.pem"


def pipeline_sigstore(catalogue: Path) -> Sigstore:
    """Return the Sigstore that signs for workflows of GitHub, which the policy pins."""
    key = load_pem_private_key(sigstore_key(catalogue).read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return Sigstore(key, key, key)


def title(service: str) -> str:
    """Return the title of a service by its name."""
    return service.replace("-", " ").capitalize()


def settings_of_stack(
    folder: Path,
    catalogue: Callable[[Path], Path] = impatient_catalogue,
    *,
    engine: str = "",
    network: str = NETWORK,
) -> Settings:
    """Return the settings of a stack on ports and addresses of its own.

    :param catalogue: copies the catalogue into a folder, and may change it there.
    :param engine: ``local`` or ``cluster``; empty: the environment says which.
    :param network: of the hosts' addresses; stacks at the same time need one each.
    """
    folder.mkdir(exist_ok=True)
    _add_bundle(folder)
    ports = {f"INTERLOCK_{name}_PORT": str(free_port()) for name in PORTS}
    return Settings.from_environment(
        {
            **os.environ,
            **ports,
            "INTERLOCK_STATE": str(folder / "state"),
            "INTERLOCK_NETWORK": network,
            "INTERLOCK_PARSE_SECONDS": "600",  # the tests say when the catalogue has changed
            "INTERLOCK_IDLE_SECONDS": "1",  # Airflow's default: each look of the scheduler reads all tasks of all runs
            "INTERLOCK_CATALOGUE": str(catalogue(folder / "catalogue")),
            **({"INTERLOCK_ENGINE": engine} if engine else {}),
        }
    )


def _add_bundle(folder: Path) -> None:
    """Let the stack's Airflow have the Dags of another team, too, in a bundle of their own."""
    settings = Settings(state=folder / "state")
    claim(settings)
    paths = {"dags-folder": {}, "books": {"path": str(RUNBOOK / "dags")}}
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [{"name": name, "classpath": local, "kwargs": given} for name, given in paths.items()]
    file = settings.state / "airflow" / "airflow.cfg"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"[dag_processor]\ndag_bundle_config_list = {json.dumps(bundles)}\n")


def start(settings: Settings) -> None:
    """Start a stack; stop what was started of it if that fails."""
    try:
        _stack(settings, "up")
    except subprocess.CalledProcessError:
        stop(settings)
        raise


def stop(settings: Settings) -> None:
    """Stop everything of a stack."""
    _stack(settings, "down")


def _stack(settings: Settings, command: str) -> None:
    environment = {**os.environ, **settings.to_environment(), "PYTHONPATH": str(PROJECT / "include")}
    subprocess.run([sys.executable, "-m", "interlock", "stack", command], env=environment, cwd=PROJECT, check=True)


@contextmanager
def running_stack(
    folder: Path, catalogue: Callable[[Path], Path] = impatient_catalogue, *, network: str = NETWORK
) -> Iterator[Stack]:
    """Start a stack on ports and addresses of its own; stop everything of it afterwards.

    :param catalogue: copies the catalogue into a folder, and may change it there.
    :param network: of the hosts' addresses; stacks at the same time need one each.
    """
    settings = settings_of_stack(folder, catalogue, network=network)
    start(settings)
    try:
        with closing(Stack(settings)) as running:
            yield running
    finally:
        stop(settings)
