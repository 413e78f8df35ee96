"""What service teams copy into their pipelines: what the script signs is what is verified, and the recipes' calls work.

The recipes for Jenkins and for GitHub Actions run in ``tests/end_to_end/test_prebuilt.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.adapters.prebuilt.statements import read_statements
from interlock.cli.release import PASSWORD, URL, USER
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PinnedKey, PrebuiltRules
from interlock.domain.prebuilt.claims import Expected, judge
from interlock.locations import PROJECT
from tests.factories.pipelines import BUILDER, COMMIT, JUNIT, REPOSITORY

SCRIPT = PROJECT / "include" / "samples" / "pipelines" / "sign-provenance.sh"
DOCS = PROJECT / "docs" / "service-team.md"
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


def workflow() -> dict[str, Any]:
    """Return the docs' workflow of GitHub Actions; YAML 1.1 reads its key ``on`` as a truth value."""
    (found,) = re.findall(r"```yaml\n(on: .*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return dict(yaml.safe_load(found))


def test_the_workflow_for_github_may_sign_and_leaves_what_it_signed_beside_the_artifact() -> None:
    described = workflow()
    assert described["permissions"]["id-token"] == described["permissions"]["attestations"] == "write"
    *_, attest, publish = described["jobs"]["release"]["steps"]
    assert attest["uses"].startswith("actions/attest-build-provenance@")
    assert publish["env"]["BUNDLE"] == "${{ steps.attest.outputs.bundle-path }}"
    assert not any("${{" in step.get("run", "") for step in described["jobs"]["release"]["steps"]), (
        "a tag is no command"
    )
    assert set(publish["env"]) >= {URL, USER, PASSWORD}


def test_the_request_of_the_workflow_is_a_call_that_the_command_understands(tmp_path: Path) -> None:
    (tmp_path / "shop-1.1.0.tar.gz").write_bytes(b"the shop")
    publish = workflow()["jobs"]["release"]["steps"][-1]["run"]
    request = publish[publish.index("interlock release") :]
    command = tmp_path / "interlock"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{PROJECT / "include"}" exec "{sys.executable}" -m interlock "$@"\n')
    command.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REF_NAME": "1.1.0", "GITHUB_RUN_ID": "17"}
    done = subprocess.run(
        ["bash", "-e", "-c", request], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, "2 would say that an option is not known"
    assert f"{URL}, {USER} and {PASSWORD} are not all set" in " ".join(done.stderr.split())
