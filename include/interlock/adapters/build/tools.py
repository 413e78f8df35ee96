"""Build tools: what each is called with, where its test results land, and which program does its work here."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from interlock.domain.catalogue import Build, BuildRules, Prebuilt
from interlock.domain.errors import AssetMissing

from . import isolation, sandboxes
from .sandbox_view import TOOLS as TOOLS_VARIABLE

_VERSION_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """One program that can do a tool's work, and how it says its version."""

    command: tuple[str, ...]
    label: str
    version: tuple[str, ...] = ("--version",)


@dataclass(frozen=True)
class Tool:
    """A build tool: what it is called with, and where its test results land.

    ``{epoch}`` and ``{output}`` in arguments stand for the commit's time and the service's output folder.

    :param programs: the first one that this machine has is taken.
    :param install: how a machine gets it.
    :param junit: where JUnit reports are looked for when the service names none; other XML there is passed over.
    :param options: given at every call.
    :param build: arguments when the service gives none.
    :param test: the same for unit tests.
    :param tester: what runs the unit tests, if not the tool itself.
    :param prepare: file at the top of the checkout: arguments of a call before all others, if it is there.
    """

    programs: tuple[Program, ...]
    install: str
    junit: tuple[str, ...]
    options: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    test: tuple[str, ...] = ("test",)
    tester: tuple[str, ...] = ()
    prepare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)


TOOLS: Mapping[str, Tool] = {
    "make": Tool(
        programs=(Program(("make",), "GNU Make"),),
        install="apt-get install make",
        junit=("build/reports/**/*.xml", "reports/**/*.xml"),
    ),
    "ant": Tool(
        programs=(Program(("ant",), "Apache Ant", ("-version",)),),
        install="apt-get install ant",
        options=("-noinput",),
        junit=("build/reports/**/*.xml",),
    ),
    "msbuild": Tool(
        programs=(
            Program(("msbuild",), "MSBuild", ("/nologo", "/version")),
            Program(("dotnet", "msbuild"), "dotnet msbuild", ("/nologo", "/version")),
            Program(("xbuild",), "xbuild", ("/version",)),
        ),
        install="apt-get install mono-xbuild mono-mcs, or the .NET SDK",
        options=("/nologo",),
        build=("/t:Build", "/p:Configuration=Release"),
        test=("/t:Test", "/p:Configuration=Release"),
        junit=("TestResults/**/*.xml", "build/reports/**/*.xml"),
        environ={"DOTNET_CLI_TELEMETRY_OPTOUT": "1", "DOTNET_NOLOGO": "1", "MSBUILDDISABLENODEREUSE": "1"},
    ),
    "maven": Tool(
        programs=(Program(("mvn",), "Apache Maven"),),
        install="apt-get install maven",
        options=("--batch-mode", "--no-transfer-progress", "-Dproject.build.outputTimestamp={epoch}"),
        build=("-DskipTests", "package"),
        junit=("**/target/surefire-reports/*.xml",),
    ),
    "gradle": Tool(
        programs=(Program(("gradle",), "Gradle"),),
        install="https://gradle.org/install, or name the repository's own ./gradlew with tool: command",
        options=("--no-daemon", "--console=plain"),
        build=("assemble",),
        junit=("**/build/test-results/**/*.xml",),
    ),
    "npm": Tool(
        programs=(Program(("npm",), "npm"),),
        install="apt-get install npm, or https://nodejs.org",
        build=("run", "build"),
        junit=("reports/**/*.xml", "test-results/**/*.xml", "junit.xml"),
        prepare={"package-lock.json": ("ci",)},
        environ={"npm_config_audit": "false", "npm_config_fund": "false", "npm_config_update_notifier": "false"},
    ),
    "python-build": Tool(
        programs=(Program(("python3", "-m", "build"), "python -m build"),),
        install="python3 -m pip install build",
        build=("--wheel", "--outdir", "{output}"),
        tester=("python3", "-m", "pytest"),
        test=("--junitxml=build/reports/junit.xml",),
        junit=("build/reports/**/*.xml",),
    ),
    "command": Tool(
        programs=(),
        install="name a program that the worker has",
        test=(),
        junit=("build/reports/**/*.xml", "reports/**/*.xml"),
    ),
}
"""Every tool that ``build.tool`` of a service can name."""


def runs_unit_tests(spec: Build | Prebuilt) -> bool:
    """Say whether a build has unit tests to run, so that their results are demanded."""
    if isinstance(spec, Prebuilt):
        return bool(spec.junit)
    return bool(spec.test or TOOLS[spec.tool].test or spec.junit)


def tool_version(tool: str, *, environ: Mapping[str, str] | None = None, rules: BuildRules | None = None) -> str:
    """Return name and version of the program that does a tool's work; AssetMissing if a build here has none.

    :param environ: the worker's environment; none: this process's.
    :param rules: how builds are kept apart; none: isolated.
    """
    confines = sandboxes.Confines(rules or BuildRules())
    with tempfile.TemporaryDirectory(prefix="interlock-tool-", ignore_cleanup_errors=True) as nothing:
        worker = os.environ if environ is None else environ
        with isolation.sandbox(Path(nothing), environ=worker, confines=confines) as sandbox:
            return find(tool, sandbox)[1]


def find(tool: str, sandbox: sandboxes.Sandbox) -> tuple[tuple[str, ...], str]:
    """Return the command of the first of a tool's programs that works in a sandbox, with its name and version."""
    if not TOOLS[tool].programs:
        return (), tool
    for program in TOOLS[tool].programs:
        if found := _version(program, sandbox):
            return program.command, f"{program.label} {found}"
    names = " or ".join(" ".join(program.command) for program in TOOLS[tool].programs)
    raise AssetMissing(
        f"This machine cannot build with {tool}: {names} is not on the PATH of builds ({sandbox.path}), or cannot "
        "be run.",
        rule=f"the service's YAML names the build tool {tool}",
        who="the operators of the worker",
        next_step=f"install it: {TOOLS[tool].install}; if it is not below /usr, name its folder in {TOOLS_VARIABLE}",
    )


def _version(program: Program, sandbox: sandboxes.Sandbox) -> str:
    """Return a program's version; None if it is missing or does not run."""
    try:
        done = sandbox.run([*program.command, *program.version], seconds=_VERSION_TIMEOUT_SECONDS, cap=65536)
    except OSError:
        return ""
    number = re.search(rb"\d+(\.\d+)+[\w.+-]*", done.output)
    return number.group().decode() if number and done.code == 0 else ""
