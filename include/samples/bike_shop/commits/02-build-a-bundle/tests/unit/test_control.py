import shutil
import subprocess
import sys

import pytest

from shop import config, control


def test_shop_starts_answers_and_stops(host):
    assert control.start().startswith("runs with pid")
    assert control.running()[1] == config.ROOT
    assert "answers" in control.validate()
    assert control.start() == "runs already"
    assert control.stop() == "stopped after SIGTERM"
    assert control.running() is None
    assert "stopped" in (host / "shop.log").read_text()


def test_stop_of_a_shop_that_does_not_run_is_fine(host):
    assert control.stop() == "does not run"


def test_pid_of_something_else_is_left_alone(host):
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (host / "shop.pid").write_text(f"{bystander.pid} /somewhere\n")
    assert control.stop() == "does not run"
    assert bystander.poll() is None
    bystander.communicate(b"\n")


def test_shop_that_cannot_start_says_why(host):
    (host / "shop.json").write_text("{}")
    with pytest.raises(SystemExit, match="KeyError: 'environment'"):
        control.start()


def test_other_release_of_the_shop_takes_over(host, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(config.ROOT / "shop", other / "shop")
    (other / "VERSION").write_text("9.9.9\n")
    control.start()
    subprocess.run([sys.executable, "-B", "-m", "shop.control", "start"], cwd=other, check=True)
    with pytest.raises(SystemExit, match=r"found .*9\.9\.9"):
        control.validate()
    assert control.stop() == "stopped after SIGTERM"


def test_second_shop_on_a_host_is_refused(host):
    with control.claim(), pytest.raises(BlockingIOError), control.claim():
        pass


def test_hooks_name_their_action(host, capsys):
    control.main(["stop"])
    assert capsys.readouterr().out == "bike-shop does not run\n"
