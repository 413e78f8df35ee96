import json
import os
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

import pytest


class Browser:
    """A customer's browser: keeps cookies and follows redirects."""

    def __init__(self, base_url):
        self.base_url = base_url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path):
        with self._opener.open(self.base_url + path, timeout=10) as answer:
            return answer.read().decode()

    def post(self, path, **form):
        with self._opener.open(self.base_url + path, urllib.parse.urlencode(form).encode(), timeout=10) as answer:
            return answer.read().decode()

    def json(self, path):
        return json.loads(self.get(path))


@pytest.fixture
def browser():
    return Browser(os.environ["BASE_URL"])
