import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from shop import server


@pytest.fixture
def shop():
    def application(_environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    httpd = server.create("127.0.0.1", 0, application)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_many_customers_at_once_are_answered(shop):
    def ask(_number):
        with urllib.request.urlopen(f"http://127.0.0.1:{shop.server_port}/") as answer:
            return answer.read()

    with ThreadPoolExecutor(8) as customers:
        assert list(customers.map(ask, range(40))) == [b"ok"] * 40


def test_silent_customer_does_not_stop_the_others(shop):
    silent = socket.create_connection(("127.0.0.1", shop.server_port))
    with silent, urllib.request.urlopen(f"http://127.0.0.1:{shop.server_port}/") as answer:
        assert answer.read() == b"ok"
