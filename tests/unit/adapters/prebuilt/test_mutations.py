"""Hundreds of ways to change the bytes, what is said of them, or who says it: none is accepted.

A release as good pipelines leave it is accepted: one signed with a pinned key, one by an identity of a pinned Sigstore.
Each mutation changes one thing. What is accepted is what comes back whole, with every claim holding.
"""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from airflow.sdk import Connection

from interlock.adapters.prebuilt.pipeline import take
from interlock.adapters.prebuilt.places import Wanted, open_place
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Prebuilt, PrebuiltRules
from interlock.domain.catalogue.prebuilt_file import TrustedRoot
from interlock.domain.errors import DigestMismatch, QualityRejected
from interlock.domain.prebuilt.claims import Expected
from tests.factories import pipelines, sigstore
from tests.factories.mutations import ARTIFACT, CLAIMS, STATEMENTS, Left, Pipelines, mutations
from tests.factories.pipelines import BOM, COMMIT, COVERAGE, ENTRY_POINT, JUNIT, WORKFLOW
from tests.factories.sigstore import IDENTITY, REPOSITORY
from tests.file_server import FileServer, file_server

log = logging.getLogger(__name__)
SEED = 20261129
FILES = {
    ARTIFACT: pipelines.release_archive(),
    "unit.xml": JUNIT,
    "coverage.xml": COVERAGE,
    "bom.json": json.dumps(BOM).encode(),
}


class World:
    """Two pipelines, both pinned, and a server on which they leave releases."""

    def __init__(self, server: FileServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.pipelines = Pipelines(FILES, REPOSITORY, COMMIT)
        trusted = self.pipelines.store.trusted_root
        (folder / "trusted_root.json").write_bytes(trusted)
        self.rules = PrebuiltRules(
            stores=("shop_artifacts",),
            keys=(self.pipelines.pipeline.pinned,),
            identities=(IDENTITY,),
            trusted_root=TrustedRoot(file="trusted_root.json", sha256=sha256_of(trusted)),
        )

    def stopped_by(self, left: Left) -> str:
        """Take a release, and say what stopped it; empty: it was accepted."""
        for name, data in left.published.items():
            self.server.put(f"1.1.0/{name}", data)
        spec = Prebuilt(
            tool="prebuilt",
            store="https",
            connection="shop_artifacts",
            artifact=f"{{version}}/{ARTIFACT}",
            statements=(f"{{version}}/{STATEMENTS}",),
            junit=("{version}/unit.xml",),
            coverage="{version}/coverage.xml",
            bom="{version}/bom.json",
            workflow=sigstore.WORKFLOW if left.by_identity else WORKFLOW,
            entry_point=ENTRY_POINT,
        )
        place = open_place(spec, Connection(conn_id="shop_artifacts", conn_type="http", host=self.server.url))
        expected = Expected(
            digests=(left.requested,),
            repository=REPOSITORY,
            commit=COMMIT,
            signers=self.rules.signers,
            demanded=CLAIMS,  # type: ignore[arg-type]
            workflow=spec.workflow,
            entry_point=ENTRY_POINT,
        )
        wanted = Wanted("1.1.0", COMMIT, left.requested, 1 << 20)
        with TemporaryDirectory(dir=self.folder) as folder:
            try:
                found = take(spec, place, wanted, expected, self.rules, catalogue=self.folder, folder=Path(folder))
            except DigestMismatch:
                return "the artifact's digest"
            except QualityRejected:
                return "a report that cannot be read"
        wrong = [claim.claim for claim in found.claims if not claim.holds]
        return f"the claim {wrong[0]}" if wrong else ""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with file_server() as server:
        yield World(server, tmp_path_factory.mktemp("world"))


def test_what_good_pipelines_leave_is_accepted(world: World) -> None:
    assert world.stopped_by(world.pipelines.left(by_identity=False)) == ""
    assert world.stopped_by(world.pipelines.left(by_identity=True)) == ""


def test_no_mutation_of_bytes_statements_or_identity_is_accepted(world: World) -> None:
    tried = [*mutations(world.pipelines, random.Random(SEED))]
    stopped: Counter[tuple[str, str]] = Counter()
    accepted: list[str] = []
    for number, one in enumerate(tried):
        left = world.pipelines.left(by_identity=one.by_identity)
        one.change(left)
        by = world.stopped_by(left)
        if not by:
            accepted.append(f"{number}, {one}: {left.statement} {left.certificate}")
        stopped[one.kind, by] += 1
    assert not accepted
    assert len(tried) >= 200
    assert {kind for kind, by in stopped if by == "the artifact's digest"} == {"bytes", "request"}
    assert {by for kind, by in stopped if kind in ("signed bytes", "proof")} == {"the claim provenance"}
    assert {by for kind, by in stopped if kind == "reports"} <= {
        "the claim tests",
        "the claim coverage",
        "the claim bom",
        "a report that cannot be read",
    }
    for (kind, by), count in sorted(stopped.items()):
        log.info("%d mutations of %s: stopped by %s", count, kind, by)
