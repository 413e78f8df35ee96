from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from interlock.adapters.artifacts import bundle
from interlock.adapters.artifacts.bom import bill_of_materials, component_rows
from interlock.adapters.build import tools
from interlock.adapters.build.builders import BuildResult, SuiteRun, build, run_suite, tool_version
from interlock.adapters.build.sandbox_view import TOOLS
from interlock.adapters.quality.reports import coverage_rows, junit_rows
from interlock.adapters.source.git import Repository, open_repository
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Build, Suite
from interlock.domain.errors import AssetMissing, BuildFailed, QualityRejected
from tests.build_tools import WORKER
from tests.git_project import GitProject, git_project

PROJECTS = Path(__file__).parent / "projects"
ENVIRON = WORKER | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
"""The worker's environment: Airflow's own Python comes first on its PATH."""
OF_BUILDS = {"PATH": f"{WORKER[TOOLS]}/bin:{os.environ['PATH']}"}
"""For what a build left: the programs that a build has."""
AT = datetime(2026, 1, 1, tzinfo=UTC)
APPSPEC = "version: 0.0\nos: linux\n"
PASSED = '<testsuite name="s"><testcase name="works"/></testsuite>'
FAILED = '<testsuite name="s"><testcase name="breaks"><failure message="2 ≠ 3"/></testcase></testsuite>'

Checkout = Callable[..., Path]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Give what makes a repository of files and checks it out."""

    def make(files: Mapping[str, str]) -> Path:
        project = git_project(tmp_path / "project")
        return checked_out(project, project.commit(files), tmp_path)

    return make


def project_of(name: str, tmp_path: Path) -> tuple[GitProject, str]:
    project = git_project(tmp_path / name)
    shutil.copytree(PROJECTS / name, project.folder, dirs_exist_ok=True)
    return project, project.commit({}, f"Build a till with {name}")


def checked_out(project: GitProject, sha: str, tmp_path: Path, name: str = "checkout") -> Path:
    repository: Repository = open_repository(str(project.folder), tmp_path / "bare.git")
    repository.checkout(sha, tmp_path / name)
    return tmp_path / name


def built(folder: Path, tool: str, environ: Mapping[str, str] = ENVIRON, **more: Any) -> BuildResult:
    return build(folder, Build.model_validate({"tool": tool, "output": "build/release"} | more), environ=environ)


def command(script: str, test: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a build by plain commands."""
    return {"tool": "command", "build": ("sh", "-c", script), "test": ("sh", "-c", test) if test else ()} | more


LEAVES = "mkdir -p build/release; cp appspec.yml build/release;"


# --- Real tools ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label", "start", "spec"),
    [
        pytest.param("ant", "Apache Ant ", ["java", "-jar", "till.jar"], {}, id="ant"),
        pytest.param("msbuild", "xbuild ", ["mono", "till.exe"], {}, id="msbuild"),
        pytest.param("npm", "npm ", ["node", "till.js"], {"output": "dist"}, id="npm"),
        pytest.param("make", "GNU Make ", ["python3", "-m", "shop.till"], {}, id="make"),
        pytest.param(
            "python", "python -m build ", ["python3", "-c", "import sys; sys.path.insert(0, sys.argv[1]); "
            "import shop.till as t; print(t.total(49900, 3))", "till-1.0.0-py3-none-any.whl"],
            {"tool": "python-build", "output": "dist", "build": ("--wheel", "--no-isolation")}, id="python-build",
        ),
    ],
)  # fmt: skip
def test_a_tool_builds_and_tests_a_real_project(
    tmp_path: Path, name: str, label: str, start: list[str], spec: dict[str, Any]
) -> None:
    project, sha = project_of(name, tmp_path)
    result = built(checked_out(project, sha, tmp_path), **({"tool": name} | spec))
    assert result.tool.startswith(label)
    assert {(row.name.removeprefix("test_"), row.status) for row in junit_rows(result.junit)} == {
        ("adds_up", "passed"),
        ("of_nothing_is_nothing", "passed"),
    }
    bundle.pack(result.output, tmp_path / "bundle.tar.gz")
    bundle.unpack(tmp_path / "bundle.tar.gz", tmp_path / "host")
    assert os.access(tmp_path / "host" / "scripts" / "start.sh", os.X_OK)
    ran = subprocess.run(start, cwd=tmp_path / "host", env=OF_BUILDS, capture_output=True, check=True, text=True)
    assert ran.stdout == "149700\n"


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("make", {"test": ("--version",)}),
        ("ant", {"test": ("-version",)}),
    ],
)
def test_two_builds_of_one_commit_have_one_digest(tmp_path: Path, name: str, spec: dict[str, Any]) -> None:
    project, sha = project_of(name, tmp_path)
    first = digest_of_build(project, sha, tmp_path / "here", name, spec)
    time.sleep(2)  # archives keep times in steps of two seconds
    assert digest_of_build(project, sha, tmp_path / "far" / "away" / "there", name, spec) == first


def test_another_commit_has_another_digest(tmp_path: Path) -> None:
    project, sha = project_of("make", tmp_path)
    spec = {"test": ("--version",)}
    first = digest_of_build(project, sha, tmp_path / "here", "make", spec)
    assert digest_of_build(project, project.commit({}), tmp_path / "there", "make", spec) != first


def digest_of_build(project: GitProject, sha: str, folder: Path, tool: str, spec: dict[str, Any]) -> str:
    folder.mkdir(parents=True)
    result = built(checked_out(project, sha, folder), tool, **spec)
    bundle.pack(result.output, folder / "bundle.tar.gz")
    return sha256_of((folder / "bundle.tar.gz").read_bytes())


def test_coverage_and_the_builds_own_bill_come_with_the_result(tmp_path: Path) -> None:
    project, sha = project_of("make", tmp_path)
    result = built(checked_out(project, sha, tmp_path), "make", coverage="build/coverage.xml", bom="build/bom.json")
    assert result.coverage is not None
    assert {row.file: row.percent for row in coverage_rows(result.coverage)} == {"shop/till.py": 75.0}
    made = bill_of_materials(
        result.output, name="till", version="1.0.0", commit=sha, sha256="ab" * 32, at=AT, own=result.bom
    )
    assert component_rows(made) == ()
    assert result.log.startswith(b"$ make\n")
    assert b"$ make test\n" in result.log


def test_every_tool_of_the_catalogue_is_in_the_registry() -> None:
    names = Build.model_fields["tool"].annotation
    assert set(tools.TOOLS) == set(names.__args__)  # type: ignore[union-attr]


@pytest.mark.parametrize("tool", ["make", "ant", "msbuild", "npm", "python-build"])
def test_a_tool_says_its_version(tool: str) -> None:
    name, _, number = tool_version(tool, environ=ENVIRON).rpartition(" ")
    assert name
    assert number[0].isdigit()
    assert tool_version("command", environ=ENVIRON) == "command"


def test_a_tool_that_is_missing_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = replace(tools.TOOLS["gradle"], programs=(tools.Program(("no-such-gradle",), "Gradle"),))
    monkeypatch.setattr(tools, "TOOLS", {**tools.TOOLS, "gradle": nowhere})
    with pytest.raises(AssetMissing, match=r"cannot build with gradle.*gradle\.org/install.*INTERLOCK_BUILD_TOOLS"):
        tool_version("gradle", environ={"PATH": str(tmp_path)})
    stand_in(tmp_path, "msbuild", "exit 1")
    stand_in(tmp_path, "dotnet", 'test "$*" = "msbuild /nologo /version" && echo 17.8.3.51904')
    assert tool_version("msbuild", environ={TOOLS: str(tmp_path)}) == "dotnet msbuild 17.8.3.51904"


def stand_in(folder: Path, name: str, script: str) -> None:
    """Write a program that takes the place of a tool that this machine lacks."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    for one in (folder, folder.parent):  # a build may be another user's
        one.chmod(0o755)


@pytest.mark.parametrize(
    ("tool", "program", "calls", "report"),
    [
        (
            "maven", "mvn",
            ["--batch-mode --no-transfer-progress -Dproject.build.outputTimestamp={epoch} -DskipTests package",
             "--batch-mode --no-transfer-progress -Dproject.build.outputTimestamp={epoch} test"],
            "module/target/surefire-reports/TEST-a.xml",
        ),
        (
            "python-build", "python3",
            ["-m build --wheel --outdir build/release", "-m pytest --junitxml=build/reports/junit.xml"],
            "build/reports/junit.xml",
        ),
        ("gradle", "gradle", ["--no-daemon --console=plain assemble", "--no-daemon --console=plain test"],
         "build/test-results/test/TEST-a.xml"),
    ],
)  # fmt: skip
def test_tools_that_fetch_are_called_for_machines_not_for_people(
    checkout: Checkout, tmp_path: Path, tool: str, program: str, calls: list[str], report: str
) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    script = f"""case "$*" in *--version) echo "{tool} 3.8.7"; exit;; esac
echo "$@" >> calls; echo $SOURCE_DATE_EPOCH > epoch
mkdir -p build/release $(dirname {report}); echo x > build/release/x; echo '{PASSED}' > {report}"""
    stand_in(path, program, script)
    folder = checkout({"appspec.yml": APPSPEC})
    result = built(folder, tool, {TOOLS: str(tmp_path), "PATH": "/usr/bin:/bin"})
    epoch = (folder / "epoch").read_text().strip()
    assert (folder / "calls").read_text().splitlines() == [call.format(epoch=epoch) for call in calls]
    assert result.tool.endswith(" 3.8.7")
    assert [row.name for row in junit_rows(result.junit)] == ["works"]


# --- What a build sees -----------------------------------------------------------------------------------------------


def test_a_build_sees_a_whitelist_and_nothing_else(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "from the process itself")
    worker = ENVIRON | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": "/root",
        "TMPDIR": "/srv/tmp",
        "LC_ALL": "C",
        "https_proxy": "http://user:secret@proxy:3128",
        "PIP_INDEX_URL": "https://user:secret@pypi.example.com/simple",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "INTERLOCK_STATE": "/srv/state",
        "LICENCE_SERVER": "lic.example.com:27000",
        "GIT_DIR": "/elsewhere",
    }
    script = LEAVES + "env > build/release/env; ls -ld $HOME $TMPDIR; touch $HOME/x; id -u"
    result = built(
        checkout({"appspec.yml": APPSPEC}), environ=worker, **command(script, environment=("LICENCE_SERVER", "NOT_SET"))
    )
    seen = dict(line.split("=", 1) for line in (result.output / "env").read_text().splitlines())
    seen.pop("OLDPWD", None), seen.pop("_", None), seen.pop("SHLVL", None)  # what the shell itself sets
    path = seen.pop("PATH").split(":")
    assert path[0] == f"{Path(WORKER[TOOLS]).resolve()}/bin"
    assert all(entry.startswith(("/usr/", "/bin", "/sbin")) for entry in path[1:])
    assert seen == {
        "LANG": "C.UTF-8",
        "LC_ALL": "C",
        "TZ": "UTC",
        "PWD": "/build",
        "HOME": "/home/build",
        "TMPDIR": "/tmp",
        "SOURCE_DATE_EPOCH": "1767229200",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "LICENCE_SERVER": "lic.example.com:27000",
    }


def test_values_that_the_service_asked_for_do_not_stand_in_the_log(checkout: Checkout) -> None:
    worker = ENVIRON | {"TOKEN": "s3cret-token"}
    folder = checkout({"appspec.yml": APPSPEC})
    result = built(folder, environ=worker, **command(LEAVES + "echo token=$TOKEN", environment=("TOKEN",)))
    assert result.log.splitlines()[-1] == b"token=***"


def test_what_a_build_prints_is_in_the_tasks_log(checkout: Checkout, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    built(checkout({"appspec.yml": APPSPEC}), **command(f"{LEAVES} echo compiled; seq 2000; echo linked >&2"))
    assert "(the last 1000 of 2002 lines):" in caplog.text
    assert {"2000", "linked"} <= {*caplog.messages}
    assert "compiled" not in caplog.messages


def test_values_that_the_service_asked_for_do_not_stand_in_an_error(checkout: Checkout) -> None:
    folder, worker = checkout({"appspec.yml": APPSPEC}), ENVIRON | {"TOKEN": "s3cret-token"}
    with pytest.raises(BuildFailed, match=r"\*\*\*") as failure:
        built(folder, environ=worker, **command("echo $TOKEN; exit 1", environment=("TOKEN",)))
    assert "s3cret" not in str(failure.value)


def test_a_build_reads_nothing_from_the_terminal(checkout: Checkout) -> None:
    result = built(checkout({"appspec.yml": APPSPEC}), **command(LEAVES + "cat; echo went on"))
    assert result.log.splitlines()[-1] == b"went on"


# --- What can go wrong -----------------------------------------------------------------------------------------------


def test_a_failing_build_shows_the_end_of_its_log(checkout: Checkout) -> None:
    script = "for i in $(seq 100); do echo line $i; done; echo out of wheels >&2; exit 7"
    with pytest.raises(BuildFailed, match="ended with exit code 7") as failure:
        built(checkout({"appspec.yml": APPSPEC}), **command(script))
    assert "line 90\n" in str(failure.value)
    assert "out of wheels" in str(failure.value)
    assert "line 10\n" not in str(failure.value)


def test_a_build_that_takes_too_long_is_ended_with_all_that_it_started(checkout: Checkout) -> None:
    folder = checkout({"appspec.yml": APPSPEC})
    mark = uuid4().hex
    daemon = f"setsid sh -c 'echo > daemon; sleep 600; : {mark}' & sh -c 'echo > child; sleep 600; : {mark}' & wait"
    with pytest.raises(BuildFailed, match="was stopped: the build took longer than 2 s"):
        built(folder, **command(daemon, time_limit=timedelta(seconds=2)))
    assert (folder / "daemon").exists()
    assert (folder / "child").exists()
    assert running_with(mark) == []


def test_a_daemon_that_a_build_leaves_behind_is_ended(checkout: Checkout) -> None:
    folder = checkout({"appspec.yml": APPSPEC})
    mark = uuid4().hex
    daemon = f"setsid sh -c 'echo $$ > daemon; sleep 600; : {mark}' & until test -s daemon; do :; done"
    built(folder, **command(LEAVES + daemon))
    assert running_with(mark) == []


@pytest.mark.parametrize(
    "left",
    [
        pytest.param("echo shop > build/release/shop", id="in the repository"),
        pytest.param("cp appspec.yaml start.sh build/release", id="the output of the build"),
    ],
)
def test_an_appspec_may_be_called_yaml(checkout: Checkout, left: str) -> None:
    text = APPSPEC + "hooks: {ApplicationStart: [{location: start.sh}]}\n"
    folder = checkout({"appspec.yaml": text, "start.sh": "#!/bin/sh\n"})
    output = built(folder, **command(f"mkdir -p build/release; {left}")).output
    assert (output / "appspec.yml").read_text() == text
    assert (output / "start.sh").is_file()


def test_of_two_appspecs_that_called_yml_counts_as_to_the_agent(checkout: Checkout) -> None:
    folder = checkout({"appspec.yaml": "nonsense", "appspec.yml": APPSPEC})
    output = built(folder, **command("mkdir -p build/release; cp appspec.* build/release")).output
    assert (output / "appspec.yml").read_text() == APPSPEC


def running_with(mark: str) -> list[int]:
    """Return the processes of this machine in whose command line a mark stands."""
    found = psutil.process_iter(["cmdline"])
    return [one.pid for one in found if mark in " ".join(one.info["cmdline"] or ())]


def test_the_time_limit_counts_build_and_tests_together(checkout: Checkout) -> None:
    spec = command(LEAVES + "sleep 0.7", "sleep 600", time_limit=timedelta(seconds=1))
    with pytest.raises(BuildFailed, match="the test took longer than 1 s"):
        built(checkout({"appspec.yml": APPSPEC}), **spec)


def test_a_talkative_build_keeps_a_short_log(checkout: Checkout) -> None:
    script = LEAVES + "echo first; yes noise | head -c 20000000; echo last"
    result = built(checkout({"appspec.yml": APPSPEC}), **command(script))
    assert len(result.log) < 8_400_000
    assert b"first\n" in result.log[:200]
    assert result.log.endswith(b"last\n")


@pytest.mark.parametrize(
    ("script", "spec", "says"),
    [
        ("true", {}, "did not create any output at build/release"),
        ("mkdir -p build/release", {}, "did not create any output at build/release"),
        ("mkdir build; echo x > build/release", {}, "did not create any output at build/release"),
        ("mkdir build; ln -s /etc build/release", {}, "is not a folder inside the checkout"),
        (LEAVES, {"coverage": "coverage.xml"}, "did not create coverage.xml"),
        (LEAVES, {"bom": "old-bom.json"}, "did not create old-bom.json"),
        (LEAVES + "ln -s /etc/passwd bom.json", {"bom": "bom.json"}, "did not create bom.json"),
        (LEAVES, {"build": ("./no-such-script",)}, "no-such-script cannot be started: No such file"),
        (LEAVES, {"build": ("./appspec.yml",)}, "appspec.yml cannot be started: Permission denied"),
        (LEAVES, {"junit": ("**reports/*.xml",)}, r"\*\*reports/\*\.xml: "),
    ],
)
def test_a_build_that_leaves_the_wrong_things_is_refused(
    checkout: Checkout, script: str, spec: dict[str, Any], says: str
) -> None:
    with pytest.raises(BuildFailed, match=says):
        built(checkout({"appspec.yml": APPSPEC, "old-bom.json": "{}"}), **command(script) | spec)


# --- Unit tests ------------------------------------------------------------------------------------------------------

REPORTS = {"appspec.yml": APPSPEC, "passed": PASSED, "failed": FAILED}


def test_tests_that_fail_and_say_so_are_left_to_quality_review(checkout: Checkout) -> None:
    result = built(checkout(REPORTS), **command(LEAVES, "mkdir reports; cp failed reports/junit.xml; exit 1"))
    assert [(row.name, row.status, row.message) for row in junit_rows(result.junit)] == [("breaks", "failed", "2 ≠ 3")]


COVERAGE = '<?xml version="1.0"?><!DOCTYPE coverage SYSTEM "c.dtd"><coverage line-rate="1"><packages/></coverage>'
MAKEFILE = """all:
\tmkdir -p build/release; cp appspec.yml build/release
test:
\tmkdir -p build/reports/unit; cp failed build/reports/unit/a.xml; cp coverage build/reports/coverage.xml; exit 1
"""


def test_other_xml_in_a_tools_usual_place_is_not_taken_for_a_test_report(checkout: Checkout) -> None:
    folder = checkout({**REPORTS, "Makefile": MAKEFILE, "coverage": COVERAGE})
    result = built(folder, "make", coverage="build/reports/coverage.xml")
    assert [path.name for path in result.junit] == ["a.xml"]
    assert [row.name for row in junit_rows(result.junit)] == ["breaks"]
    assert result.coverage is not None


@pytest.mark.parametrize(
    ("script", "spec"),
    [
        pytest.param("echo '<testsuites' > reports/a.xml", {}, id="a report that was cut off"),
        pytest.param("cp coverage reports/a.xml", {"junit": ("reports/*.xml",)}, id="a report that the service names"),
    ],
)
def test_a_report_that_proves_nothing_is_not_passed_over(checkout: Checkout, script: str, spec: dict[str, Any]) -> None:
    folder = checkout({**REPORTS, "coverage": COVERAGE})
    result = built(folder, **command(LEAVES, f"mkdir reports; {script}", **spec))
    assert [path.name for path in result.junit] == ["a.xml"]
    with pytest.raises(QualityRejected, match=r"a\.xml cannot be read"):
        junit_rows(result.junit)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 1", "no report names a failed test"),
        ("mkdir reports; cp passed reports/junit.xml; exit 139", "ended with exit code 139, but no report names"),
        ("mkdir reports; echo '<testsuites' > reports/junit.xml; exit 1", "junit.xml cannot be read"),
    ],
)
def test_tests_that_end_badly_without_saying_why_fail_the_build(checkout: Checkout, script: str, says: str) -> None:
    with pytest.raises(BuildFailed, match=says):
        built(checkout(REPORTS), **command(LEAVES, script))


def test_reports_that_lay_in_the_commit_prove_nothing(checkout: Checkout) -> None:
    folder = checkout(REPORTS | {"reports/old.xml": PASSED, "reports/kept.xml": PASSED})
    result = built(folder, **command(LEAVES, "cp failed reports/old.xml; ln -s /etc/hosts reports/hosts.xml"))
    assert [path.name for path in result.junit] == ["old.xml"]


# --- Suites ----------------------------------------------------------------------------------------------------------


def suite(folder: Path, script: str, **more: Any) -> SuiteRun:
    spec = Suite.model_validate({"command": ("sh", "-c", script), "junit": ("out/*.xml",)} | more)
    return run_suite(folder, spec, base_url="http://127.20.0.51:8400", environ=ENVIRON | {"A_SECRET": "s3cret"})


def test_a_suite_runs_against_the_host_that_it_is_told(checkout: Checkout) -> None:
    folder = checkout(REPORTS)
    ran = suite(folder, 'mkdir out; cp passed out/a.xml; echo "$BASE_URL $A_SECRET"')
    assert (ran.exit_code, [path.name for path in ran.junit]) == (0, ["a.xml"])
    assert ran.log.splitlines()[-1] == b"http://127.20.0.51:8400 "


def test_a_suite_counts_only_what_it_wrote_now(checkout: Checkout) -> None:
    ran = suite(checkout(REPORTS | {"out/a.xml": PASSED, "out/b.xml": PASSED}), "cp failed out/b.xml; exit 1")
    assert ([path.name for path in ran.junit], ran.exit_code) == (["b.xml"], 1)


@pytest.mark.parametrize(
    ("script", "more", "says"),
    [
        ("true", {}, r"did not create a report at out/\*\.xml"),
        ("mkdir out; cp passed out/a.xml; exit 2", {}, "ended with exit code 2, but no report names a failed test"),
        ("sleep 600", {"time_limit": timedelta(seconds=0.3)}, "the suite took longer than 0.3 s"),
        ("true", {"command": ("no-such-runner",)}, "no-such-runner cannot be started"),
    ],
)
def test_a_suite_that_proves_nothing_is_rejected(
    checkout: Checkout, script: str, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(QualityRejected, match=says):
        suite(checkout(REPORTS), script, **more)
