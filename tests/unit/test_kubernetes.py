"""What is in ``kubernetes/``: by Kubernetes' own schemas, and as an installation needs it."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from interlock import airflow_settings
from interlock.adapters.ledger.database import ROLES
from interlock.adapters.ledger.ledger import WITNESS_URL_FILE
from interlock.adapters.permits.installation import API_SERVERS
from interlock.adapters.signing.signing import load_signer
from interlock.adapters.signing.witness import KEY, PUBLIC_KEY
from interlock.console.auth.roles import SERVICE_ACCOUNTS
from interlock.installation.doctor.rules import LONGEST_TASK, VISIBLE_AGAIN
from interlock.installation.project import BUNDLE
from interlock.installation.setup import SIGNING_KEY, WITNESS_KEY, WITNESS_URL
from interlock.locations import PROJECT

FOLDER = PROJECT / "kubernetes"
MANIFESTS = ("api-servers.yaml", "pod-template.yaml", "setup-job.yaml")
OF_API_SERVERS, OF_SETUP = "interlock-api-server", {"interlock-passwords", "interlock-setup"}


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text()))


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, bytes]]:
    """Make the Secrets as a platform engineer does; of each its content."""
    made = subprocess.run([FOLDER / "make-secrets", "db.example.com:6432"], capture_output=True, text=True, check=True)
    found = list(yaml.safe_load_all(made.stdout))
    for one in found:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    return {
        one["metadata"]["name"]: {name: base64.b64decode(value) for name, value in one["data"].items()} for one in found
    }


def used_secrets(manifest: Any) -> set[str]:
    """Return the Secrets that a manifest names, wherever they stand in it."""
    if isinstance(manifest, list):
        return set().union(*map(used_secrets, manifest))
    if not isinstance(manifest, dict):
        return set()
    named = {manifest["secretName"]} if "secretName" in manifest else set()
    if "secretKeyRef" in manifest:
        named.add(manifest["secretKeyRef"]["name"])
    return named.union(*map(used_secrets, manifest.values()))


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("version", ["1.31", "1.34", kubernetes_validate.latest_version()])
def test_a_manifest_is_what_kubernetes_takes(name: str, version: str) -> None:
    kubernetes_validate.validate(read(name), version, strict=True)


def test_a_mistake_in_a_manifest_would_be_found() -> None:
    broken = read("setup-job.yaml")
    broken["spec"]["template"]["spec"]["restartPolcy"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_the_secrets_hold_what_setup_would_otherwise_make(secrets: dict[str, dict[str, bytes]]) -> None:
    """What setup made in a job would be lost with its pod."""
    project = {
        **{f"keys/{name}": value for name, value in secrets["interlock-keys"].items()},
        **{f"api-server/{name}": value for name, value in secrets[OF_API_SERVERS].items()},
    }
    assert {SIGNING_KEY, WITNESS_KEY, WITNESS_URL, "keys/witness.pem.pub", "keys/signing.pem.pub"} <= set(project)
    assert set(secrets["interlock-passwords"]) == {*ROLES, *SERVICE_ACCOUNTS}
    assert len(set(secrets["interlock-passwords"].values())) == len(ROLES) + len(SERVICE_ACCOUNTS)
    password = secrets["interlock-passwords"]["interlock_ledger_witness"].decode()
    assert project[WITNESS_URL].decode() == (
        f"postgresql://interlock_ledger_witness:{password}@db.example.com:6432/interlock_ledger"
    )


def test_the_keys_are_keys_of_interlock(secrets: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    for name, place in (("signing", "interlock-keys"), ("witness", OF_API_SERVERS)):
        file = tmp_path / f"{name}.pem"
        file.touch(mode=0o600)
        file.write_bytes(secrets[place][f"{name}.pem"])
        assert load_signer(file.as_uri()).public_key.strip() == secrets["interlock-keys"][f"{name}.pem.pub"].strip()


def test_tasks_have_no_key_of_the_api_server(secrets: dict[str, dict[str, bytes]]) -> None:
    values, template = read("values.yaml"), read("pod-template.yaml")
    assert OF_API_SERVERS in used_secrets(values.pop("apiServer"))
    for manifest in (values, template):
        assert not used_secrets(manifest) & {OF_API_SERVERS, *OF_SETUP}
        assert KEY not in json.dumps(manifest)
        assert WITNESS_URL_FILE not in json.dumps(manifest)
    assert "witness.pem" not in secrets["interlock-keys"], "every component has these"


def test_everything_that_is_named_is_made(secrets: dict[str, dict[str, bytes]]) -> None:
    """But the URLs of databases, which only the organisation knows."""
    named = set().union(*(used_secrets(read(name)) for name in (*MANIFESTS, "values.yaml")))
    assert named - set(secrets) == {"interlock-setup"}
    values = read("values.yaml")
    for name, key in (("fernetKey", "fernet-key"), ("apiSecretKey", "api-secret-key"), ("jwt", "jwt-secret")):
        given = values["jwtSecretName" if name == "jwt" else f"{name}SecretName"]
        assert key in secrets[given], "the chart looks for this name in it"


def test_the_values_are_those_of_an_installation() -> None:
    values = read("values.yaml")
    config = values["config"]
    assert json.loads(config["dag_processor"]["dag_bundle_config_list"]) == [BUNDLE]
    variables = {one["name"]: one["value"] for one in values["env"]}
    assert set(variables) == {"INTERLOCK_CATALOGUE", "INTERLOCK_DAGS", PUBLIC_KEY, API_SERVERS}
    assert variables["INTERLOCK_DAGS"] == BUNDLE["name"]
    assert {one["name"] for one in values["apiServer"]["env"]} == {KEY, WITNESS_URL_FILE}
    module, _, name = config["database"]["sql_alchemy_connect_args_async"].rpartition(".")
    assert module == airflow_settings.__name__
    assert isinstance(getattr(airflow_settings, name), dict)
    in_pods = {one["name"]: one.get("value") for one in read("pod-template.yaml")["spec"]["containers"][0]["env"]}
    assert variables.items() <= in_pods.items(), "a task reads the same catalogue as its scheduler"


def test_tasks_look_at_each_api_server_and_not_at_one_of_them() -> None:
    """The chart's own Service leads to any of them; a headless one has the address of each."""
    service = read("api-servers.yaml")
    url = urlsplit(next(one["value"] for one in read("values.yaml")["env"] if one["name"] == API_SERVERS))
    assert (url.scheme, url.hostname, url.port) == ("http", service["metadata"]["name"], 8080)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"][0]["port"] == url.port


def test_the_broker_keeps_a_task_with_its_worker() -> None:
    kept = read("values.yaml")["config"][VISIBLE_AGAIN]["visibility_timeout"]
    assert timedelta(seconds=int(kept)) >= LONGEST_TASK


def test_the_image_has_the_version_of_airflow_that_is_required() -> None:
    required = next(
        line.partition("==")[2].split()[0]
        for line in (PROJECT / "requirements.txt").read_text().splitlines()
        if line.startswith("apache-airflow==")
    )
    assert f"FROM apache/airflow:{required}-python3.11\n" in (FOLDER / "Dockerfile").read_text()
    assert read("values.yaml")["airflowVersion"] == required
