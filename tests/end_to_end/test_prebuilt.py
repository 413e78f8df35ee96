"""A service whose own pipeline builds it, end to end: the recipes in the docs run here, step by step.

Of the workflow for GitHub Actions, its commands run. A Sigstore of the test's own, which the policy pins, signs
instead of GitHub's, and programs of the test's own take the place of gh, which publishes, and of pip. The pipelines
leave their artifacts on a web server with a certificate of its own, and request releases by their account.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from interlock.domain.canonical import sha256_of
from interlock.estate.airflow.accounts import passwords
from interlock.estate.airflow.home import airflow_environment
from interlock.locations import PROJECT
from tests.certificates import certificate_of_this_machine
from tests.factories import pipelines
from tests.factories.sigstore import BUILDER as RUNNER
from tests.factories.sigstore import WORKFLOW
from tests.unit.adapters.prebuilt.test_recipe import workflow

from .people import BIKE_SHOP, Release, dag_of, let_run, until
from .stack import (
    BUILDER,
    NOT_WAIVABLE,
    PARCEL_PIPELINE,
    PARCEL_SHOP,
    SADDLE_SHOP,
    Stack,
    pipeline_key,
    pipeline_sigstore,
)
from .test_release import accept, approve, train

pytestmark = [pytest.mark.timeout(2400), pytest.mark.end_to_end]
SERVICE, DAG = PARCEL_SHOP, dag_of(PARCEL_SHOP)
OTHER_PIPELINES_WORK, NEW, PATCH = "1.0.0", "1.1.0", "1.1.1"
TRAIN, FILE = (
    "train_parcels",
    """\
name: parcels
title: The parcels' train
owner: the office
time_zone: UTC
cadence: { cron: "0 20 * * TUE" }
on_schedule: false
passengers:
  - { service: parcel-shop, tags: "1.1.1" }
""",
)
PUBLISH = """\
#!/bin/sh -eu
mkdir -p "$PUBLISHED/shop/$1"
cp "shop-$1.tar.gz" "shop-$1.tar.gz.intoto.jsonl" build/reports/unit.xml build/reports/coverage.xml "$PUBLISHED/shop/$1"
"""


def recipe() -> dict[str, str]:
    """Return the shell commands of the docs' Jenkinsfile, by stage, as Groovy reads them."""
    text = (PROJECT / "docs" / "service-team.md").read_text()
    (jenkinsfile,) = re.findall(r"```groovy\n(.*?)```", text, re.DOTALL)
    found = re.findall(r"stage\('(\w+)'\).*?\bsh (?:'''(.*?)'''|'(.*?)')", jenkinsfile, re.DOTALL)
    return {stage: (long or short).replace("\\\n", "").replace("\\\\", "\\") for stage, long, short in found}


OUTSIDE = {
    "gh": """\
#!/bin/sh -eu
[ "$1 $2" = "release create" ]
tag="$3"
shift 3
cp "$@" "$PUBLISHED/shop/$tag"
""",
    "pip": """\
#!/bin/sh -eu
[ "$*" = "install --index-url https://packages.example/simple interlock-release" ]
""",
}
"""What the workflow for GitHub Actions needs of the world outside, as far as the test has it."""


@dataclass(frozen=True)
class Jenkins:
    """A pipeline with a workspace, which runs the recipe.

    :param published: the folder of the web server.
    """

    stack: Stack
    workspace: Path
    published: Path
    tools: Path

    def checkout(self, version: str) -> None:
        """Check out a tag, as its multibranch job does, with the script and the team's own way to publish."""
        shutil.rmtree(self.workspace, ignore_errors=True)
        git("clone", "--quiet", "--branch", version, self.url, str(self.workspace))
        shutil.copy(PROJECT / "include" / "samples" / "pipelines" / "sign-provenance.sh", self.workspace)
        publish = self.workspace / "publish"
        publish.write_text(PUBLISH)
        publish.chmod(0o755)

    @property
    def url(self) -> str:
        """The address of the repository."""
        return f"file://{self.stack.settings.repository}"

    def run(self, version: str, tag: str, *stages: str, **environment: str) -> str:
        """Run stages of the recipe as Jenkins does; return what they printed.

        :param tag: of this build. :param environment: what differs from a usual build.
        """
        commit = git("-C", str(self.workspace), "rev-parse", "HEAD").strip()
        variables = {
            "PATH": f"{self.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.tools),
            "VERSION": version,
            "BUILD_TAG": tag,
            "GIT_URL": self.url,
            "GIT_COMMIT": commit,
            "JENKINS_URL": BUILDER,
            "KEY": str(pipeline_key(self.stack.settings.catalogue)),
            "PUBLISHED": str(self.published),
            "MORE": "",
            "INTERLOCK_URL": self.stack.settings.airflow_url,
            "INTERLOCK_USER": PARCEL_PIPELINE,
            "INTERLOCK_PASSWORD": passwords(self.stack.settings)[PARCEL_PIPELINE],
            **environment,
        }
        printed = ""
        for stage in stages:
            command = recipe()[stage].replace(BIKE_SHOP, SERVICE)
            command += " $MORE" if stage == "Request" else ""
            done = subprocess.run(
                ["sh", "-e", "-c", command],
                cwd=self.workspace,
                env=variables,
                capture_output=True,
                text=True,
                check=False,
            )
            printed += done.stdout + done.stderr
            assert done.returncode == 0, f"{stage}: {printed}"
        return printed

    def request(self, version: str, tag: str, more: str = "") -> Release:
        """Request the release of what is published.

        :param more: arguments of the command.
        """
        printed = self.run(version, tag, "Request", MORE=more)
        found = re.search(rf"{DAG}/(\S+),", printed)
        assert found, printed
        return Release(self.stack.person("rita"), found[1])

    def leave(self, version: str, tag: str, **environment: str) -> None:
        """Build, test, sign and publish a version."""
        self.checkout(version)
        self.run(version, tag, "Build", "Sign", "Publish", **environment)

    def run_workflow(self, version: str, run: str, more: str) -> Release:
        """Run the commands of the workflow for GitHub Actions, in the checkout of a version; return the release.

        :param run: number of the workflow's run.
        :param more: arguments of its last command.
        """
        build, attest, publish = workflow()["jobs"]["release"]["steps"][1:]
        assert attest["uses"].startswith("actions/attest-build-provenance@")
        settings, bundle = self.stack.settings, self.workspace.parent / "bundle.json"
        said = {
            "steps.attest.outputs.bundle-path": str(bundle),
            "github.token": "a token of GitHub",
            "vars.PACKAGES": "https://packages.example/simple",
            "vars.INTERLOCK_URL": settings.airflow_url,
            "vars.INTERLOCK_USER": PARCEL_PIPELINE,
            "secrets.INTERLOCK_PASSWORD": passwords(settings)[PARCEL_PIPELINE],
        }
        named = {name: said[text.removeprefix("${{ ").removesuffix(" }}")] for name, text in publish["env"].items()}
        github = {"GITHUB_REF_NAME": version, "GITHUB_RUN_ID": run, "PUBLISHED": str(self.published)}
        usual = {"PATH": f"{self.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(self.tools)}

        def ran(command: str, **environment: str) -> str:
            done = subprocess.run(
                ["bash", "-e", "-c", command.replace(BIKE_SHOP, SERVICE)],
                cwd=self.workspace,
                env={**usual, **github, **environment},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        ran(build["run"])
        (artifact,) = self.workspace.glob(attest["with"]["subject-path"])
        commit = git("-C", str(self.workspace), "rev-parse", "HEAD").strip()
        about = pipelines.provenance(builder=RUNNER, repository=self.url, commit=commit, workflow={"path": WORKFLOW})
        statement = pipelines.statement(sha256_of(artifact.read_bytes()), about)
        signs, names = pipeline_sigstore(settings.catalogue), f"{self.url}/{WORKFLOW}@refs/tags/{version}"
        bundle.write_text(json.dumps(signs.bundle(statement, source=self.url, commit=commit, workflow=names)))
        printed = ran(f"{publish['run'].rstrip()} {more}", **named)
        found = re.search(rf"{DAG}/(\S+),", printed)
        assert found, printed
        return Release(self.stack.person("rita"), found[1])

    def place(self, version: str, name: str = "shop-{version}.tar.gz") -> Path:
        """Return where a file of a version is published."""
        return self.published / "shop" / version / name.format(version=version)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def jenkins(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jenkins]:
    folder = tmp_path_factory.mktemp("jenkins")
    tools, published = folder / "tools", folder / "published"
    tools.mkdir()
    published.mkdir()
    own = f'#!/bin/sh\nPYTHONPATH="{PROJECT / "include"}" exec "{sys.executable}" -m interlock "$@"\n'
    for name, text in {**OUTSIDE, "interlock": own}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    certificate = certificate_of_this_machine(folder)
    with served(published, certificate) as port:
        connection = {
            "connection_id": "parcel_artifacts",
            "conn_type": "http",
            "host": f"https://127.0.0.1:{port}",
            "extra": f'{{"ca": "{certificate}"}}',
        }
        reply = stack.person("admin").send("POST", "connections", connection)
        assert reply.is_success, reply.text
        yield Jenkins(stack, folder / "workspace", published, tools)


class Files(SimpleHTTPRequestHandler):
    """Serves a folder quietly."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path, certificate: Path) -> Iterator[int]:
    """Serve a folder over TLS for a block; give the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def released(stack: Stack, jenkins: Jenkins) -> Release:
    """The release that the pipeline requested; while the board is asked, somebody replaces what was published."""
    jenkins.leave(NEW, "jenkins-shop-17")
    run = jenkins.request(NEW, "jenkins-shop-17")
    again = jenkins.run(NEW, "jenkins-shop-17", "Request")
    assert again.startswith(f"Was requested before: {DAG}/{run.id}, "), again
    assert stack.person("rita").get(f"dags/{DAG}/dagRuns")["total_entries"] == 1

    accept(stack, run)
    with open(jenkins.workspace / f"shop-{NEW}.tar.gz", "ab") as file:
        file.write(b"more")
    jenkins.run(NEW, "jenkins-shop-17", "Sign", "Publish")
    approve(stack, run)
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    return run


def test_what_a_pipeline_built_signed_and_requested_is_what_the_hosts_run(
    stack: Stack, jenkins: Jenkins, released: Release
) -> None:
    assert released.outcome()["outcome"] == "deployed"
    assert stack.production() == {NEW}
    artifact = released.result("build.fetch_artifact")
    origin = artifact["origin"]
    assert (origin["signed_by"], {claim["claim"]: claim["holds"] for claim in origin["claims"]}) == (
        ["jenkins"],
        dict.fromkeys(("provenance", "builder", "source", "commit", "workflow", "tests", "coverage"), True),
    )
    plan = released.result("rollout.freeze_plan")
    assert (plan["requested_by"], plan["artifact"]) == (PARCEL_PIPELINE, origin["sha256"])
    ballots = [one.body for one in released.questions() if one.task_id == "rollout.cast_ballot"]
    assert len(ballots) == 3
    assert all(origin["sha256"] in body for body in ballots)
    built = jenkins.workspace / "build" / "bundle"
    for host in stack.hosts("production"):
        current = stack.settings.host_folder(host.name) / "srv" / SERVICE / "current"
        for name in ("shop/pages.py", "appspec.yml"):
            assert (current / name).read_bytes() == (built / name).read_bytes()


def test_its_evidence_is_proven_offline(stack: Stack, released: Release, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "interlock"]
    asked = [*command, "evidence", "--here", "--", f"{DAG}/{released.id}", str(tmp_path / "pack.zip")]
    done = subprocess.run(
        asked, cwd=PROJECT, env=airflow_environment(stack.settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    fingerprint = re.search(r"Signed with the key (\S+)\. Prove it", done.stdout)
    assert fingerprint, done.stdout
    proof = [sys.executable, "-m", "interlock.verify", str(tmp_path / "pack.zip"), "--fingerprint", fingerprint[1]]
    said = subprocess.run(
        proof, env={**os.environ, "PYTHONPATH": str(PROJECT / "include")}, capture_output=True, text=True, check=False
    )
    assert said.stdout.endswith("\nPROVEN.\n"), said.stdout + said.stderr


@pytest.mark.usefixtures("released")
def test_the_pipeline_may_do_nothing_else(stack: Stack, jenkins: Jenkins) -> None:
    with pytest.raises(AssertionError, match="stands for another request"):
        jenkins.request(NEW, "jenkins-shop-17", "--summary Otherwise")
    pipeline = stack.person(PARCEL_PIPELINE)
    form = {"ref": NEW, "version": NEW, "summary": "Sell bikes", "change_type": "normal"}
    foreign = pipeline.send_form(dag_of(SADDLE_SHOP), form)  # of the others, one that no test stops meanwhile
    assert foreign.status_code == 403, foreign.text
    assert f"{PARCEL_PIPELINE} is the account of a pipeline and may request releases of {SERVICE}" in foreign.text
    assert pipeline.send("PATCH", f"dags/{DAG}", {"is_paused": True}).status_code == 403
    stop = {"scope": SERVICE, "reason": "The warehouse burns", "hours": 1}
    assert pipeline.send_form("emergency_stop", stop).status_code == 403


def bytes_that_somebody_replaced(jenkins: Jenkins) -> None:
    data = jenkins.place(PATCH).read_bytes()
    jenkins.place(PATCH).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def a_signature_of_another_key(jenkins: Jenkins) -> None:
    key = jenkins.workspace / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    jenkins.run(PATCH, "x", "Sign", "Publish", KEY=str(key))


def another_builder_and_commit(jenkins: Jenkins) -> None:
    commit = git("-C", str(jenkins.workspace), "rev-parse", f"{OTHER_PIPELINES_WORK}^{{commit}}").strip()
    jenkins.run(PATCH, "x", "Sign", "Publish", JENKINS_URL="https://elsewhere/", GIT_COMMIT=commit)


def a_report_that_somebody_edited(jenkins: Jenkins) -> None:
    report = jenkins.place(PATCH, "unit.xml")
    report.write_text(report.read_text().replace("<testcase ", "<testcase  ", 1))


def statements_about_the_version_before(jenkins: Jenkins) -> None:
    shutil.copy(jenkins.place(NEW, STATEMENT), jenkins.place(PATCH, STATEMENT))


STATEMENT = "shop-{version}.tar.gz.intoto.jsonl"
WRONG: dict[Callable[[Jenkins], None], tuple[str, ...]] = {
    bytes_that_somebody_replaced: ("was requested.", "other bytes are another artifact"),
    a_signature_of_another_key: ("provenance: expected SLSA provenance v1", "no pinned key of policy.yaml signed it"),
    another_builder_and_commit: (f"builder: expected {BUILDER}; found https://elsewhere/", "commit: expected "),
    a_report_that_somebody_edited: ("unit.xml as a byproduct in the verified provenance", "does not name"),
    statements_about_the_version_before: ("signed is about another artifact",),
}


@pytest.mark.usefixtures("released")
def test_none_of_several_wrong_releases_runs_anywhere(stack: Stack, jenkins: Jenkins) -> None:
    tested = stack.test_environment()
    for number, (change, words) in enumerate(WRONG.items()):
        jenkins.leave(PATCH, f"wrong-{number}")
        change(jenkins)
        run = jenkins.request(PATCH, f"wrong-{number}")
        assert run.finish() == "failed", change.__name__
        outcome = run.outcome()
        assert (outcome["outcome"], outcome["stage"]) == ("failed", "build"), (change.__name__, outcome)
        assert all(word in outcome["reason"] for word in words), (change.__name__, outcome["reason"])
        assert run.states()["quality.deploy_to_test"] == "upstream_failed"
    assert (stack.production(), stack.test_environment()) == ({NEW}, tested)


@pytest.mark.usefixtures("released")
def test_a_train_takes_the_artifact_that_the_pipeline_signed(stack: Stack, jenkins: Jenkins) -> None:
    rita = stack.person("rita")
    jenkins.leave(PATCH, "jenkins-shop-18")
    (stack.settings.catalogue / "trains" / "parcels.yaml").write_text(FILE)
    stack.parse("train_weekly", DAG)
    let_run(rita, TRAIN)
    sent = Release(rita, rita.start(TRAIN, {}).id, TRAIN)
    for user in ("ben", "cora"):
        stack.person(user).decide(sent, "board.cast_ballot", "Approve", "Fine")
    digest = sha256_of(jenkins.place(PATCH).read_bytes())
    (passenger,) = sent.result("boarding.freeze_manifest")["passengers"]
    assert (passenger["version"], passenger["artifact"]) == (PATCH, digest)
    assert all(f"sha256:{digest}" in one.body for one in sent.questions())
    run = Release(rita, until("the passenger's release", lambda: rita.active_runs(DAG))[0].id)
    accept(stack, run)
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    assert sent.finish() == "success", sent.states()
    assert run.result("build.fetch_artifact")["origin"]["sha256"] == digest
    assert stack.production() == {PATCH}


@pytest.mark.usefixtures("released")
def test_what_the_policy_lets_people_waive_is_waived_on_record(stack: Stack, jenkins: Jenkins) -> None:
    """The workflow of GitHub proves the artifact by its own signature, which names no reports."""
    file = stack.settings.catalogue / "services" / f"{SERVICE}.yaml"
    text = file.read_text().replace(NOT_WAIVABLE, "").replace("workflow: Jenkinsfile", f"workflow: {WORKFLOW}")
    file.write_text(text)
    stack.parse(DAG)
    (version,) = running = stack.production()
    jenkins.leave(version, "jenkins-shop-19")
    for name in ("shop-{version}.tar.gz", STATEMENT):
        jenkins.place(version, name).unlink()
    run = jenkins.run_workflow(version, "4711", "--change-type standard")
    stack.person("cora").decide(run, "quality.waive_expectation", "Waive for 7 days", "No reports are signed")
    train(stack, run)
    assert run.finish() == "success", run.outcome()
    (waiver,) = run.result("quality.pass_gate")
    assert (waiver["suite"], waiver["by"], waiver["reason"]) == ("provenance", "cora", "No reports are signed")
    origin = run.result("build.fetch_artifact")["origin"]
    assert origin["signed_by"] == ["github"]
    assert {one["claim"]: one["holds"] for one in origin["claims"]} == {
        **dict.fromkeys(("provenance", "builder", "source", "commit", "workflow"), True),
        **dict.fromkeys(("tests", "coverage"), False),
    }
    assert stack.production() == running
