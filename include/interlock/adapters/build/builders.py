"""Builds and suites: one way to run any of the tools.

Each runs in a sandbox (:mod:`.isolation`), with the commit's time as ``SOURCE_DATE_EPOCH``. What it left is looked at
when nothing that it started runs any more.

A tool whose output is only a package (Maven, Gradle, npm, ``python -m build``) need not put an AppSpec into it: the
``appspec.yml`` at the top of the repository, and the scripts that it names, are added to an output that has none.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interlock.adapters.quality.reports import is_junit, junit_rows
from interlock.adapters.source.git import commit_epoch
from interlock.domain.catalogue import Build, Suite, TestData
from interlock.domain.errors import BuildFailed, QualityRejected
from interlock.domain.hosts.appspec import APPSPEC, OTHER_NAME, parse_appspec
from interlock.domain.records import BuildEnvironment

from . import tools
from .isolation import sandbox
from .sandboxes import DEFAULT, Confines, Sandbox
from .tools import tool_version

__all__ = ["BuildResult", "SuiteRun", "build", "prepare_data", "run_suite", "tool_version"]

log = logging.getLogger(__name__)
_LOG_CAP = 8 * 1024 * 1024
_LAST_LINES, _TOLD_LINES = 20, 1000
"""Lines of its log in the error about a command, and in the task's log."""
_SECRET_LENGTH = 6


@dataclass(frozen=True)
class BuildResult:
    """What a build left.

    :param output: the folder that becomes the bundle.
    :param junit: the JUnit reports that this build wrote.
    :param log: what was run and what it printed, first and last parts if it is long.
    :param tool: name and version.
    """

    output: Path
    junit: tuple[Path, ...]
    coverage: Path | None
    bom: Path | None
    log: bytes
    tool: str
    seconds: float
    surroundings: BuildEnvironment


@dataclass(frozen=True)
class SuiteRun:
    """What a suite left."""

    junit: tuple[Path, ...]
    log: bytes
    exit_code: int
    seconds: float
    surroundings: BuildEnvironment


def build(checkout: Path, spec: Build, *, environ: Mapping[str, str], confines: Confines = DEFAULT) -> BuildResult:
    """Build and unit-test a clean checkout with the service's own tool.

    Unit tests that fail and say so in their reports do not fail the build: quality review judges them.

    :param environ: the worker's environment, of which the build sees a whitelist.
    :param confines: what the build is held to, and what it may use.
    """
    tool = tools.TOOLS[spec.tool]
    globs = spec.junit or tool.junit
    before = _state(checkout, globs, spec.coverage, spec.bom)
    epoch = str(commit_epoch(checkout))
    more = _same_each_time(epoch) | dict(tool.environ)
    with sandbox(checkout, environ=environ, confines=confines, names=spec.environment, more=more) as box:
        program, version = tools.find(spec.tool, box)
        secrets = tuple(box.environ.get(name, "") for name in spec.environment)
        work = _Work(box, spec.time_limit.total_seconds(), secrets=secrets)
        for what, command in _steps(checkout, spec, tool, program, epoch):
            code = work.run(what, command)
            if what == "test":
                _judge_tests(work, command, code, _reports(checkout, spec, globs, before))
            elif code:
                raise work.failure(f"{shlex.join(command)} ended with exit code {code}")
    output = _output(checkout, spec.output, work)
    return BuildResult(
        output=output,
        junit=_reports(checkout, spec, globs, before),
        coverage=_left(checkout, spec.coverage, before, work),
        bom=_left(checkout, spec.bom, before, work),
        log=work.log,
        tool=version,
        seconds=work.seconds,
        surroundings=box.surroundings,
    )


def run_suite(
    checkout: Path, suite: Suite, *, base_url: str | None, environ: Mapping[str, str], confines: Confines = DEFAULT
) -> SuiteRun:
    """Run a suite of the service's own against a host that serves the release.

    Tests that fail and say so in their reports are for quality review; what else goes wrong is QualityRejected.

    :param checkout: a clean one: git is asked in it.
    :param base_url: what the suite finds as ``BASE_URL``: the one host that it reaches, beside its registries; none:
        it reaches no host.
    :param environ: the worker's environment, of which the suite sees a whitelist.
    :param confines: what the suite is held to, and what it may use.
    """
    before = _state(checkout, suite.junit)
    with _against(checkout, suite, base_url, environ, confines) as (work, surroundings):
        code = work.run("suite", suite.command)
    junit = _fresh(checkout, suite.junit, before)
    _judge_tests(work, suite.command, code, junit)
    if not junit:
        raise work.failure(f"{shlex.join(suite.command)} did not create a report at {', '.join(suite.junit)}")
    return SuiteRun(junit=junit, log=work.log, exit_code=code, seconds=work.seconds, surroundings=surroundings)


def prepare_data(
    checkout: Path, data: TestData, *, base_url: str, environ: Mapping[str, str], confines: Confines = DEFAULT
) -> bytes:
    """Run the command that prepares the data of an environment, as a suite is run; return what it printed.

    The parameters are those of :func:`run_suite`.

    :raises QualityRejected: it ended with an error, or took too long.
    """
    with _against(checkout, data, base_url, environ, confines) as (work, _):
        if code := work.run("command", data.command):
            raise work.failure(f"{shlex.join(data.command)}, which prepares the test data, ended with exit code {code}")
    return work.log


@contextmanager
def _against(
    checkout: Path, spec: Suite | TestData, base_url: str | None, environ: Mapping[str, str], confines: Confines
) -> Iterator[tuple[_Work, BuildEnvironment]]:
    """Yield what runs commands of the service in a sandbox that reaches a host, and how isolated it is."""
    more = _same_each_time(str(commit_epoch(checkout))) | ({"BASE_URL": base_url} if base_url else {})
    reaches = [base_url] if base_url else []
    with sandbox(checkout, environ=environ, confines=confines, more=more, reaches=reaches) as box:
        yield _Work(box, spec.time_limit.total_seconds(), error=QualityRejected), box.surroundings


class _Work:
    """Commands that share a time limit and a log."""

    def __init__(
        self,
        box: Sandbox,
        limit: float,
        *,
        error: type[BuildFailed] | type[QualityRejected] = BuildFailed,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self._sandbox, self._limit, self._error = box, limit, error
        self._secrets = tuple(secret for secret in (*secrets, *box.secrets) if len(secret) >= _SECRET_LENGTH)
        self._start = time.monotonic()
        self.log = b""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def run(self, what: str, command: Sequence[str]) -> int:
        """Run a command to its end and return its exit code; the error if its time is up or it cannot be started."""
        self.log += f"$ {shlex.join(command)}\n".encode()
        try:
            done = self._sandbox.run(command, seconds=max(0.0, self._limit - self.seconds), cap=_LOG_CAP)
        except OSError as error:
            raise self.failure(f"{command[0]} cannot be started: {error.strerror}") from error
        said = self._masked(done.output)
        self.log += said
        self._tell(command, said)
        if done.timed_out:
            raise self.failure(f"{shlex.join(command)} was stopped: the {what} took longer than {self._limit:g} s")
        if done.stopped:
            raise self.failure(f"{shlex.join(command)} was stopped: {done.stopped}")
        return done.code

    def _tell(self, command: Sequence[str], said: bytes) -> None:
        """Put what a command printed into the task's log, the last part if it is long."""
        lines = said.decode(errors="replace").splitlines()
        last = f" (the last {_TOLD_LINES} of {len(lines)} lines)" if len(lines) > _TOLD_LINES else ""
        log.info("%s printed%s:", shlex.join(command), last)
        for line in lines[-_TOLD_LINES:]:
            log.info("%s", line)

    def _masked(self, output: bytes) -> bytes:
        """Hide logins to registries, and the values of requested variables, which may be secrets."""
        for secret in self._secrets:
            output = output.replace(secret.encode(), b"***")
        return output

    def failure(self, what: str) -> BuildFailed | QualityRejected:
        """Return the error, with the last lines of the output."""
        last = "\n".join(self.log.decode(errors="replace").rstrip().splitlines()[-_LAST_LINES:])
        return self._error(
            f"{what}. The last lines of its log:\n{last}\n",
            who="the service's team",
            next_step="correct it in the service's repository or YAML, and release the new commit" + self._offline(),
        )

    def _offline(self) -> str:
        """Say what a build or suite that fetches packages lacks, if it had no registry."""
        if self._sandbox.confines.registries or not self._sandbox.surroundings.isolated:
            return ""
        return (
            "; if it downloads packages, name the required registries (registries:), because it had no network access"
        )


def _steps(
    checkout: Path, spec: Build, tool: tools.Tool, program: tuple[str, ...], epoch: str
) -> Iterator[tuple[str, list[str]]]:
    """Give the commands of a build in their order."""
    start = [*program, *(part.format(epoch=epoch) for part in tool.options)]
    for name, arguments in tool.prepare.items():
        if (checkout / name).is_file():
            yield "preparation", [*start, *arguments]
    arguments = spec.build or tuple(part.format(output=spec.output) for part in tool.build)
    yield "build", [*start, *arguments]
    tests = spec.test or tool.test
    if tests:
        yield "test", [*(tool.tester or start), *tests]


def _judge_tests(work: _Work, command: Sequence[str], code: int, junit: tuple[Path, ...]) -> None:
    """Accept an exit code that the reports explain: then quality review has rows to judge."""
    if not code:
        return
    try:
        named = any(row.status in ("failed", "error") for row in junit_rows(junit))
    except QualityRejected as error:
        raise work.failure(f"{shlex.join(command)} ended with exit code {code}. {error.what}") from error
    if not named:
        raise work.failure(f"{shlex.join(command)} ended with exit code {code}, but no report names a failed test")


def _same_each_time(epoch: str) -> dict[str, str]:
    """Return variables so that the same bytes are written every time, and none into what is being built."""
    return {"SOURCE_DATE_EPOCH": epoch, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def _matches(checkout: Path, globs: Sequence[str]) -> tuple[Path, ...]:
    """Return the files that globs name, sorted, without links and what lies outside."""
    root = checkout.resolve()
    try:
        found = {path for glob in globs for path in checkout.glob(glob)}
    except ValueError as error:
        raise BuildFailed(f"{', '.join(globs)}: {error}.", next_step="correct junit: in the service's YAML") from error
    return tuple(sorted(path for path in found if path.is_file() and path.resolve().is_relative_to(root)))


def _state(checkout: Path, globs: Sequence[str], *names: str | None) -> dict[Path, tuple[int, int, int]]:
    """Record the existing files: from the commit, or from an earlier run."""
    named = [checkout / name for name in names if name]
    return {path: _stamp(path) for path in (*_matches(checkout, globs), *named) if path.is_file()}


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _fresh(checkout: Path, globs: Sequence[str], before: Mapping[Path, tuple[int, int, int]]) -> tuple[Path, ...]:
    """Return the files that match globs and were written since; earlier files prove nothing."""
    return tuple(path for path in _matches(checkout, globs) if _stamp(path) != before.get(path))


def _reports(
    checkout: Path, spec: Build, globs: Sequence[str], before: Mapping[Path, tuple[int, int, int]]
) -> tuple[Path, ...]:
    """Return the JUnit reports of a build.

    A tool's usual place may hold other XML too, coverage say; where the service names its reports, each must be one.
    """
    written = _fresh(checkout, globs, before)
    return written if spec.junit else tuple(path for path in written if is_junit(path))


def _left(checkout: Path, name: str | None, before: Mapping[Path, tuple[int, int, int]], work: _Work) -> Path | None:
    """Return a file that the build had to write."""
    if name is None:
        return None
    path = checkout / name
    if not path.resolve().is_relative_to(checkout.resolve()) or not path.is_file() or _stamp(path) == before.get(path):
        raise work.failure(f"The build did not create {name}")
    return path


def _output(checkout: Path, name: str, work: _Work) -> Path:
    """Return the folder that the build left, with an AppSpec in it."""
    output = checkout / name
    real = output.resolve()
    if real == checkout.resolve() or not real.is_relative_to(checkout.resolve()):
        raise work.failure(f"The output {name} is not a folder inside the checkout")
    if not output.is_dir() or not any(output.iterdir()):
        raise work.failure(f"The build did not create any output at {name}")
    complete(output, checkout)
    return output


def complete(output: Path, checkout: Path) -> None:
    """Add the AppSpec of the checkout, and the scripts that it names, to an output that has none."""
    if not (output / APPSPEC).exists():
        _add_appspec(output if (output / OTHER_NAME).is_file() else checkout, output)


def _add_appspec(folder: Path, output: Path) -> None:
    """Copy the AppSpec of a folder, by whichever name, and the scripts that it names, into an output that has none."""
    name = next((name for name in (APPSPEC, OTHER_NAME) if (folder / name).is_file()), None)
    if name is None:
        return
    spec = parse_appspec((folder / name).read_text(encoding="utf-8", errors="replace"))
    for source, wanted in ((name, APPSPEC), *((script, script) for script in sorted(spec.locations))):
        target = output / wanted
        inside = (folder / source).resolve().is_relative_to(folder.resolve())
        if inside and (folder / source).is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / source, target)
