"""There is one way to a host: through ``adapters/hosts/ssh.py``, which asks an admission first (architecture.md)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "include" / "interlock"
CODE = [
    path
    for folder in (ROOT / "dags", ROOT / "plugins", *(HOUSE / floor for floor in ("domain", "adapters", "stages")))
    for path in sorted(folder.rglob("*.py"))
] + sorted((HOUSE / "console").rglob("*.py"))
OTHER_WAYS = {
    "paramiko",
    "fabric",
    "pexpect",
    "sshtunnel",
    "airflow.providers.ssh",
    "airflow.providers.sftp",
    "asyncssh.connect",
    "telnetlib",
}
CONNECTING = {"connect", "connect_reverse", "create_connection", "get_server_host_key", "run_client", "scp", "listen"}


def places(wanted: set[str]) -> set[str]:
    """Return the files in which something of these names is called."""
    return {path.relative_to(HOUSE).as_posix() for path in CODE if calls(path) & wanted}


@cache
def calls(path: Path) -> frozenset[str]:
    """Return the names of all that is called in a file."""
    return frozenset(called(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return f"{called(function.value)}.{function.attr}".lstrip(".")
    return function.id if isinstance(function, ast.Name) else ""


def test_ssh_connections_are_opened_in_one_place() -> None:
    assert places({f"asyncssh.{name}" for name in CONNECTING}) == {"adapters/hosts/ssh.py"}
    assert places({"SshTransport", "ssh.SshTransport"}) == {"adapters/hosts/fleet.py"}


def test_commands_are_sent_through_ssm_for_hosts_and_for_steps_of_runbooks_only() -> None:
    source = {
        path.relative_to(HOUSE).as_posix()
        for path in CODE
        if "send_command" in path.read_text() or "start_session" in path.read_text()
    }
    assert source == {"adapters/hosts/ssm.py", "adapters/runbook/aws_actions.py"}
    assert places({"SsmTransport", "ssm.SsmTransport"}) == {"adapters/hosts/fleet.py"}
    assert places({"RunCommand", "aws_actions.RunCommand"}) == {"stages/runbook/places.py"}
    assert places({"place.begin"}) == {"stages/runbook/elsewhere.py"}, "begun with the permit of the step"


def test_admissions_are_made_for_the_sandbox_or_by_permit_and_in_no_other_place() -> None:
    assert places({"Admission", "permits.Admission"}) == set()
    assert places({"Admission.by_permit"}) == {"stages/runtime/permits.py"}
    assert places({"Admission.sandbox"}) == {"stages/runtime/permits.py"}
    assert places({"PermitIssuer"}) == {"stages/runtime/permits.py"}


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_brings_another_way_to_a_host(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        assert not [name for name in names if any(f"{name}.".startswith(f"{way}.") for way in OTHER_WAYS)]
        # A command that a subprocess would run.
        if isinstance(node, ast.List | ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
            assert node.elts[0].value not in ("ssh", "scp", "sftp", "rsync")
