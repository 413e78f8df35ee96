"""A supervisor that cannot write down what it has to say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from interlock.locations import PROJECT

CONFIG = """\
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {folder}/pid
{user}
[program:talker]
command = /bin/sh -c 'echo again >>{folder}/starts; echo much; sleep 0.2'
autorestart = true
startsecs = 0
stdout_logfile = /dev/full
stdout_logfile_maxbytes = 0
"""


def patient(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "interlock.estate.stack.patient", *arguments]


def test_a_full_disk_does_not_end_the_supervisor(tmp_path: Path) -> None:
    user = "user = root" if os.geteuid() == 0 else ""
    (tmp_path / "conf").write_text(CONFIG.format(folder=tmp_path, user=user))
    with open("/dev/full", "w") as full:
        command = patient("supervisor.supervisord", "-c", str(tmp_path / "conf"))
        process = subprocess.Popen(command, cwd=PROJECT, stdout=full, stderr=full)
        try:
            starts, end = tmp_path / "starts", time.monotonic() + 60
            while not (starts.exists() and len(starts.read_text().splitlines()) > 3):
                assert process.poll() is None, "the supervisor has ended"
                assert time.monotonic() < end, "it starts nothing again"
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait(30)


def test_what_can_be_written_is_written_and_the_exit_code_is_the_modules(tmp_path: Path) -> None:
    done = subprocess.run(
        patient("json.tool", str(tmp_path / "missing")), cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "missing" in done.stderr
