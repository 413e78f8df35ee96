import io
import json
from wsgiref.util import setup_testing_defaults

import pytest

from shop import pages, web


@pytest.fixture
def shop(settings):
    return pages.application(settings)


def get(application, path, method="GET"):
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    answer = {}
    body = b"".join(application(environ, lambda status, headers: answer.update(status=status, headers=dict(headers))))
    return answer["status"], answer["headers"], body.decode()


def test_home_welcomes(shop):
    status, headers, body = get(shop, "/")
    assert status == "200 OK"
    assert headers["Content-Type"].startswith("text/html")
    assert "Every ride begins with a good bike." in body


def test_health_names_the_release(shop, settings):
    _, headers, body = get(shop, "/health")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"status": "ok", "version": settings.version, "commit": settings.commit}


def test_head_has_no_body(shop):
    status, headers, body = get(shop, "/", method="HEAD")
    assert (status, body) == ("200 OK", "")
    assert int(headers["Content-Length"]) > 500


def test_unknown_page_is_not_found(shop):
    status, _, body = get(shop, "/cars")
    assert status == "404 Not Found"
    assert "Wrong turn" in body


def test_post_where_there_is_no_form_is_refused(shop):
    assert get(shop, "/", method="POST")[0] == "405 Method Not Allowed"


def test_broken_page_answers_500_and_logs_why(capsys):
    def broken(_request):
        raise RuntimeError("the chain came off")

    status, _, body = get(web.Application({("GET", "/"): broken}), "/")
    assert status == "500 Internal Server Error"
    assert "chain" not in body
    assert "the chain came off" in capsys.readouterr().err


def test_static_files_are_served_and_nothing_beside_them(shop):
    assert get(shop, "/static/shop.css")[1]["Content-Type"] == "text/css; charset=utf-8"
    assert get(shop, "/static/../config.py")[0] == "404 Not Found"


def test_request_reads_query_form_and_cookies():
    environ = {
        "PATH_INFO": "/x",
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "a=1&a=2",
        "CONTENT_LENGTH": "5",
        "wsgi.input": io.BytesIO(b"b=two"),
        "HTTP_COOKIE": "c=3",
    }
    request = web.Request.read(environ)
    assert (request.query, request.form, request.cookies) == ({"a": "1"}, {"b": "two"}, {"c": "3"})


def test_foreign_cookies_do_no_harm():
    assert web._cookies("\x00=;;=") == {}


def test_text_is_escaped():
    assert web.text('<a href="x">') == "&lt;a href=&quot;x&quot;&gt;"
