import os
import signal
import threading
import time

import pytest

from shop import __main__ as shop
from shop import control


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_shop_serves_until_it_is_asked_to_stop(host, capsys):
    def ask_to_stop():
        while not control._answers(os.getpid()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask_to_stop).start()
    assert shop.main() == 0
    said = capsys.readouterr().out
    assert "serves http://127.0.0.1:" in said
    assert "stopped" in said
    assert control.running() is None
