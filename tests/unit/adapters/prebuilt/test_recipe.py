"""The script that service teams copy into their pipelines: what it signs is what is verified."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from interlock.adapters.prebuilt.statements import read_statements
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PinnedKey, PrebuiltRules
from interlock.domain.prebuilt.claims import Expected, judge
from tests.factories.pipelines import BUILDER, COMMIT, JUNIT, REPOSITORY

SCRIPT = Path(__file__).parents[4] / "include" / "samples" / "pipelines" / "sign-provenance.sh"
SAID = ["--builder", BUILDER, "--repository", REPOSITORY, "--commit", COMMIT]
KEYS = {
    "ed25519": ["-algorithm", "ed25519"],
    "ecdsa": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
}


def ran(folder: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=folder, capture_output=True, check=False)


@pytest.mark.parametrize("kind", KEYS)
def test_what_the_script_signs_proves_what_the_policy_demands(tmp_path: Path, kind: str) -> None:
    (tmp_path / "shop-1.1.0.tar.gz").write_bytes(b"the shop")
    (tmp_path / "unit.xml").write_bytes(JUNIT)
    assert ran(tmp_path, "openssl", "genpkey", *KEYS[kind], "-out", "key.pem").returncode == 0
    public = ran(tmp_path, "openssl", "pkey", "-in", "key.pem", "-pubout").stdout.decode()
    more = ["--workflow", "Jenkinsfile", "--entry-point", "release", "--byproduct", "unit.xml"]
    done = ran(tmp_path, str(SCRIPT), "--key", "key.pem", *SAID, *more, "shop-1.1.0.tar.gz")
    assert done.returncode == 0, done.stderr
    rules = PrebuiltRules(keys=(PinnedKey(name="jenkins", key=public, builders=(BUILDER,)),))
    read = read_statements(done.stdout, "p.json", rules, None)
    assert read.faults == ()
    demanded = ("provenance", "builder", "source", "commit", "workflow", "entry_point")
    digest = sha256_of(b"the shop")
    expected = Expected((digest,), REPOSITORY, COMMIT, rules.signers, demanded, "Jenkinsfile", "release")  # type: ignore[arg-type]
    judged = judge(read.signed, expected)
    assert [(claim.claim, claim.holds) for claim in judged.claims] == [(claim, True) for claim in demanded]
    assert judged.bound == {sha256_of(JUNIT)}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "are needed"),
        ([*SAID, "--key", "key.pem", "nothing.tar.gz"], "there is no file nothing.tar.gz"),
        ([*SAID, "--key", "key.pem", "--workflow", 'a"b', "script"], "has a character that cannot be written here"),
        (["--sign-all"], "--sign-all is not known"),
    ],
)
def test_what_the_script_cannot_say_it_refuses(tmp_path: Path, given: list[str], why: str) -> None:
    done = ran(tmp_path, str(SCRIPT), *given)
    assert done.returncode == 2
    assert why in done.stderr.decode()
    assert done.stdout == b""
