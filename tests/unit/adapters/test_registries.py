from __future__ import annotations

import configparser
import netrc
import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest
from airflow.sdk.definitions.connection import Connection

from interlock.adapters.build._network_access import Gateway, gateways_to
from interlock.adapters.build.registries import Registry, registry_of, variables, write_settings
from interlock.domain.errors import AssetMissing

PASSWORD = 'p"a\\ss <&> word'


def connection(**values: object) -> Connection:
    given = {"conn_id": "company_npm", "conn_type": "http", "host": "https://npm.example.com/repo/"} | values
    return Connection(**given)  # type: ignore[arg-type]


def test_a_connection_names_a_registry() -> None:
    found = registry_of(
        connection(
            login="reader", password="token", extra='{"kind": "npm", "scope": "@acme", "hosts": "cdn.example.com"}'
        )
    )
    assert found == Registry(
        name="company_npm", url="https://npm.example.com/repo/", login="reader", password="token", kind="npm",
        scope="@acme", hosts=("cdn.example.com",),
    )  # fmt: skip
    assert found.urls == ("https://npm.example.com/repo/", "https://cdn.example.com")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"host": "ftp://example.com"}, "neither http nor https"),
        ({"host": ""}, "is not a valid registry address"),
        ({"host": "https://me:pw@example.com"}, "belong in login and password"),
        ({"host": "https://[::1]/"}, "is not a valid registry address"),
        ({"host": "https://example.com:99999/"}, "is not a valid registry address"),
        ({"extra": '{"kind": "cargo"}'}, "kind is one of pip, npm, maven"),
        ({"extra": '{"kind": "npm", "scope": "acme\\nregistry=x"}'}, "scope is a name"),
        ({"extra": '{"hosts": ["a b"]}'}, "hosts are at most 20 names"),
        ({"password": "a\nmachine evil"}, "printable"),
    ],
)
def test_a_connection_that_is_no_registry_is_refused(values: dict[str, str], says: str) -> None:
    with pytest.raises(AssetMissing, match=says) as refused:
        registry_of(connection(**values))
    assert "pw" not in str(refused.value)


def test_each_tool_reads_its_settings(tmp_path: Path) -> None:
    write_settings(
        tmp_path,
        [
            Registry("pypi", "https://pypi.example.com/simple", "reader", PASSWORD, kind="pip"),
            Registry("more", "https://more.example.com/simple", kind="pip"),
            Registry("npm", "https://npm.example.com/repo", password="t0ken", kind="npm", scope="@acme"),
            Registry("maven", "https://maven.example.com/repo", "reader", PASSWORD, kind="maven"),
        ],
    )
    pip = configparser.RawConfigParser()
    pip.read(tmp_path / ".config/pip/pip.conf")
    assert dict(pip["global"]) == {
        "index-url": "https://pypi.example.com/simple",
        "extra-index-url": "https://more.example.com/simple",
    }
    assert netrc.netrc(str(tmp_path / ".netrc")).authenticators("pypi.example.com") == ("reader", "", PASSWORD)
    assert (tmp_path / ".npmrc").read_text().splitlines() == [
        "@acme:registry=https://npm.example.com/repo/",
        "//npm.example.com/repo/:_authToken=t0ken",
    ]
    settings = ElementTree.parse(tmp_path / ".m2/settings.xml")
    assert settings.findtext("./servers/server/password") == PASSWORD
    assert settings.findtext("./mirrors/mirror/url") == "https://maven.example.com/repo"
    for name in (".netrc", ".npmrc", ".m2/settings.xml"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_any_tool_can_read_the_variables() -> None:
    assert variables([Registry("company-nuget", "https://nuget.example.com/", "reader", "pw")]) == {
        "REGISTRY_COMPANY_NUGET_URL": "https://nuget.example.com/",
        "REGISTRY_COMPANY_NUGET_LOGIN": "reader",
        "REGISTRY_COMPANY_NUGET_PASSWORD": "pw",
    }
    assert variables([Registry("pypi", "https://pypi.org/simple")]) == {"REGISTRY_PYPI_URL": "https://pypi.org/simple"}


def test_names_get_an_address_each_and_addresses_stay() -> None:
    found = gateways_to(
        [
            "https://a.example/x",
            "http://b.example:8081/",
            "http://a.example/",
            "http://10.0.0.7:8400",
            "http://localhost:1",
        ]
    )
    assert found == (
        Gateway("a.example", 443, "127.64.0.1"),
        Gateway("b.example", 8081, "127.64.0.2"),
        Gateway("a.example", 80, "127.64.0.1"),
        Gateway("10.0.0.7", 8400, "10.0.0.7"),
        Gateway("localhost", 1, "127.0.0.1"),
    )
