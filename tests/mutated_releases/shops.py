"""Services that their own pipelines build: one signs with a key, the other by an identity of a Sigstore."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import yaml

from interlock.domain.canonical import sha256_of
from interlock.estate.settings import Settings
from interlock.locations import PROJECT
from tests.end_to_end.stack import BUILT_HERE, add_service
from tests.factories import sigstore
from tests.factories.mutations import ARTIFACT, CLAIMS, STATEMENTS, Pipelines
from tests.factories.pipelines import BOM, ENTRY_POINT, WORKFLOW, Pipeline
from tests.factories.sigstore import IDENTITY, Sigstore

ACCOUNT, CONNECTION, VERSION = "pipelines-of-shops", "shop_artifacts", "1.1.0"
PREBUILT = """\
build:
  tool: prebuilt
  store: https
  connection: {connection}
  artifact: "{service}/{{version}}/{artifact}"
  statements: ["{service}/{{version}}/{statements}"]
  junit: ["{service}/{{version}}/unit.xml"]
  coverage: "{service}/{{version}}/coverage.xml"
  bom: "{service}/{{version}}/bom.json"
  workflow: {workflow}
  entry_point: {entry_point}
"""
ONE_HOST = {
    "count: 3\n    waves: [1, 100%] # cumulative: one host first, then all hosts\n": "count: 1\n    waves: [100%]\n",
    "requests: 200 ": "requests: 40 ",
}


@dataclass(frozen=True)
class Shop:
    """A service, and who signs for it."""

    service: str
    by_identity: bool


def shops(beside: int) -> tuple[Shop, ...]:
    """Return services of both kinds.

    :param beside: how many of each kind; each has one release at a time.
    """
    return tuple(
        Shop(f"{kind}-shop-{number}", kind == "identity")
        for number in range(1, beside + 1)
        for kind in ("key", "identity")
    )


def catalogue_of(folder: Path, every: Iterable[Shop], pipeline: Pipeline, store: Sigstore) -> Path:
    """Copy the catalogue, with these services, and rules by which every claim is demanded and nobody may waive one."""
    shutil.copytree(PROJECT / "include" / "catalogue", folder)
    names = [shop.service for shop in every]
    for shop in every:
        build = PREBUILT.format(
            connection=CONNECTION,
            service=shop.service,
            artifact=ARTIFACT,
            statements=STATEMENTS,
            workflow=sigstore.WORKFLOW if shop.by_identity else WORKFLOW,
            entry_point=ENTRY_POINT,
        )
        add_service(folder, shop.service, hosts=True, **{BUILT_HERE: build, **ONE_HOST})
    (folder / "trusted_root.json").write_bytes(store.trusted_root)
    rules = {
        "stores": [CONNECTION],
        "keys": [pipeline.pinned.model_dump(mode="json")],
        "identities": [IDENTITY.model_dump(mode="json")],
        "trusted_root": {"file": "trusted_root.json", "sha256": sha256_of(store.trusted_root)},
    }
    with (folder / "policy.yaml").open("a") as policy:
        policy.write(yaml.safe_dump({"prebuilt": rules, "claims": {"2": [*CLAIMS]}, "pipelines": {ACCOUNT: names}}))
    return folder


def built(settings: Settings, folder: Path, pipeline: Pipeline, store: Sigstore) -> Pipelines:
    """Build and test the bike shop, as a pipeline does; return the pipelines that have done it."""
    url = f"file://{settings.repository}"
    subprocess.run(["git", "clone", "--quiet", "--branch", VERSION, url, str(folder)], check=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["make", "--silent", "build", "test"], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder / "build" / "bundle", ".")
    reports = folder / "build" / "reports"
    files = {
        ARTIFACT: packed.getvalue(),
        "unit.xml": (reports / "unit.xml").read_bytes(),
        "coverage.xml": (reports / "coverage.xml").read_bytes(),
        "bom.json": json.dumps(BOM).encode(),
    }
    return Pipelines(files, url, commit, pipeline, store)
