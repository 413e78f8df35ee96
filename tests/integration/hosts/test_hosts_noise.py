"""Real OpenSSH hosts that print what nobody asked for: it is no answer, whatever it says and whenever it comes."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from interlock.adapters.hosts import _session
from interlock.adapters.hosts.fleet import read_running
from interlock.domain.errors import HostUnreachable
from tests.deployments import ADMITTED, Balance, deploy_one, served
from tests.sshd import DEPLOY_ROOT, Fleet, SshdHost, make_release, sshd_fleet

NOISE = {
    "done": 'echo "done loading profile";',
    "failed": 'echo "failed to load nvm";',
    "busy": "echo busy;",
    "a version": "echo done 9.9.9-0123456789ab;",
    "a colour, without an end of line": "printf '\\033[33m';",
    "bytes that are no text": "printf '\\377\\376\\000\\r';",
    "nearly an answer": "printf '0123456789abcdef0123456789abcdef done 9.9.9-0123456789ab';",
    "megabytes": "head -c 3000000 /dev/urandom; head -c 6000000 /dev/zero >&2;",
    "all the while": "{ for n in $(seq 60); do printf 'done 9.9.9 '; echo failed >&2; sleep 0.01; done & };",
}


def running(fleet: Fleet) -> str | None:
    (host,) = asyncio.run(read_running(fleet.hosts, DEPLOY_ROOT, login=fleet.login, admission=ADMITTED))
    return host.release


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_what_a_login_prints_is_no_answer(tmp_path: Path, noise: str) -> None:
    with sshd_fleet(tmp_path, limits=noise) as fleet:
        assert running(fleet) is None
        balance = Balance()
        release = make_release(fleet, tmp_path, "1.0.0")
        result = deploy_one(fleet, release, balance)
        assert (result.outcome, result.error, result.after) == ("deployed", "", release.release)
        assert running(fleet) == release.release
        assert balance.serving == {fleet.hosts[0].instance_id}


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ("echo This account is not available; exit 1;", r"printed 'This account is not available\n'"),
        ("printf '\\033[31mclosed' >&2; exit 1;", r"printed '\x1b[31mclosed'"),
        ("exit 0;", "printed nothing"),
    ],
    ids=["a word, and the end", "beside the output", "nothing"],
)
def test_a_login_that_runs_no_command_is_refused_with_what_it_printed(tmp_path: Path, login: str, says: str) -> None:
    with sshd_fleet(tmp_path, limits=login) as fleet, pytest.raises(HostUnreachable) as refused:
        running(fleet)
    assert says in str(refused.value)
    assert "~/.bashrc" in str(refused.value)


def test_a_login_that_takes_the_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_session, "_ANSWER_TIMEOUT_SECONDS", 1.0)
    with sshd_fleet(tmp_path, limits="echo Which one?; read -r answer;") as fleet:
        with pytest.raises(HostUnreachable, match="Which one"):
            running(fleet)
        result = deploy_one(fleet, make_release(fleet, tmp_path, "1.0.0"))
    assert result.outcome == "failed"
    assert "does not read its input" in result.error


def test_noise_without_end_is_refused(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, limits="yes done;") as fleet, pytest.raises(HostUnreachable) as refused:
        running(fleet)
    assert "printed more than 16 MiB of unexpected output" in str(refused.value)
    assert r"'done\ndone\n" in str(refused.value)


LIAR = """#!/bin/sh
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >"$INTERLOCK_SHARED/seen" 2>/dev/null
echo done 9.9.9-0123456789ab
pid=$$
until grep -q sshd "/proc/$pid/comm"; do
    for number in 1 2 8; do
        { echo failed - no; echo done 9.9.9-0123456789ab; } >"/proc/$pid/fd/$number"
    done
    pid=$(sed 's/.*) . //; s/ .*//' "/proc/$pid/stat")
done 2>/dev/null
[ ! -e /proc/self/fd/8 ]
"""


def test_a_hook_cannot_answer_in_the_programs_name(
    fleet: Fleet, machine: SshdHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = secrets.token_hex(16)
    monkeypatch.setattr(_session, "_new_mark", lambda: mark.encode())
    release = make_release(fleet, tmp_path, "1.0.0", hooks={"BeforeInstall": LIAR})
    result = deploy_one(fleet, release)
    assert (result.outcome, result.error, result.after) == ("deployed", "", release.release)
    assert served(fleet, machine) == "1.0.0"
    seen = (machine.root / "shared/seen").read_bytes()
    assert b"INTERLOCK_SHARED" in seen
    assert mark.encode() not in seen


def test_the_end_of_what_a_hook_printed_is_told_even_without_an_end_of_line(fleet: Fleet, tmp_path: Path) -> None:
    hook = "#!/bin/sh\necho starting\nprintf '\\033[31mno space left\\007'\nexit 3\n"
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStart": hook}))
    assert "It said: starting | [31mno space left" in result.error
    assert result.error.isprintable()


def test_of_a_line_of_megabytes_only_the_end_travels(fleet: Fleet, tmp_path: Path) -> None:
    hook = "#!/bin/sh\nhead -c 12582912 /dev/zero | tr '\\0' x\nprintf ' and the reason'\nexit 3\n"
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStart": hook}))
    assert "xxx and the reason" in result.error
    assert len(result.error) < 5000
