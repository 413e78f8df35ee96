from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.interlock.domain.appspec import Event, Hook, parse_appspec, refuse_two_sources
from include.interlock.domain.errors import BuildFailed

HEAD = "version: 0.0\nos: linux\n"
FILES = "files: [{source: /, destination: /x}]\n"


def test_hooks_are_read_in_their_order_with_their_timeouts() -> None:
    spec = parse_appspec(
        HEAD
        + """
hooks:
  ApplicationStop:
    - location: scripts/stop.sh
  ApplicationStart:
    - location: ./scripts/start.sh
      timeout: 30
    - location: scripts/warm.sh
"""
    )
    assert spec.hooks["ApplicationStop"] == (Hook(location="scripts/stop.sh", timeout=3600),)
    assert [hook.location for hook in spec.hooks["ApplicationStart"]] == ["scripts/start.sh", "scripts/warm.sh"]
    assert spec.hooks["ApplicationStart"][0].timeout == 30
    assert spec.locations == {"scripts/stop.sh", "scripts/start.sh", "scripts/warm.sh"}


def test_a_bundle_may_have_no_hooks() -> None:
    assert parse_appspec(HEAD).hooks == {}
    assert parse_appspec(HEAD + "hooks:\n").hooks == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "has no keys", id="empty"),
        pytest.param("- a\n", "has no keys", id="a list"),
        pytest.param("os: linux\n", "version: must be 0.0, found nothing", id="no version"),
        pytest.param("version: 1.0\nos: linux\n", "version: must be 0.0, found 1.0", id="another version"),
        pytest.param("version: 0.0\nos: windows\n", "os: must be linux, found windows", id="windows"),
        pytest.param("version: 0.0\n", "os: must be linux, found nothing", id="no os"),
        pytest.param(HEAD + "files:\n  - source: /\n", "files.0.destination", id="no destination"),
        pytest.param(HEAD + "files: [{source: ../x, destination: /x}]\n", "inside the bundle", id="source outside"),
        pytest.param(HEAD + "files: [{source: /, destination: x}]\n", "absolute path", id="destination relative"),
        pytest.param(HEAD + "files: [{source: /, destination: /}]\n", "not be / itself", id="destination is all"),
        pytest.param(HEAD + "permissions: [{object: /x}]\n", "not a destination of files", id="permission for nothing"),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, acls: [a]}]\n", "acls are not", id="acls"),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, context: {}}]\n", "SELinux", id="context"),
        pytest.param(HEAD + FILES + "permissions: [{object: /xy}]\n", "nor below or above one", id="unrelated object"),
        pytest.param(HEAD + FILES + "permissions: [{object: x}]\n", "absolute path", id="relative object"),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, mode: 888}]\n", "permissions.0.mode", id="mode"),
        pytest.param(
            HEAD + FILES + "permissions: [{object: /x, mode: 00644}]\n", "permissions.0.mode", id="five digits"
        ),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, mode: u+x}]\n", "permissions.0.mode", id="symbols"),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, pattern: a/b}]\n", "must be a name", id="pattern"),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, except: [/y/a]}]\n", "is not below /x", id="except"),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, except: [../a]}]\n", "without ..", id="except .."),
        pytest.param(
            HEAD + FILES + "permissions: [{object: /x, except: [/x]}]\n", "the object itself", id="except all"
        ),
        pytest.param(HEAD + FILES + "permissions: [{object: /x, owner: a b}]\n", "permissions.0.owner", id="owner"),
        pytest.param(HEAD + "file_exists_behavior: MAYBE\n", "file_exists_behavior", id="file_exists_behavior"),
        pytest.param(HEAD + "Resources: []\n", "Resources: is not a key", id="Lambda's key"),
        pytest.param(HEAD + "hooks: [a]\n", "hooks: must name events", id="hooks a list"),
        pytest.param(HEAD + "hooks: {BlockTraffic: []}\n", "cannot have scripts", id="traffic"),
        pytest.param(HEAD + "hooks: {Installed: []}\n", "hooks.Installed: is not an event", id="no event"),
        pytest.param(HEAD + "hooks: {AfterInstall: a.sh}\n", "must be a list of scripts", id="no list"),
        pytest.param(HEAD + "hooks: {AfterInstall: [a.sh]}\n", "AfterInstall", id="no location"),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, runas: -u root}]}\n", "AfterInstall.0.runas", id="runas"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, sudo: true}]}\n", "AfterInstall.0.sudo", id="unknown key"
        ),
        pytest.param(HEAD + "hooks: {AfterInstall: [{location: ../a.sh}]}\n", "must be a path inside", id="climbs out"),
        pytest.param(HEAD + "hooks: {AfterInstall: [{location: /}]}\n", "must be a path inside", id="no script"),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: 0}]}\n", "AfterInstall.0.timeout", id="no time"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: 9s}]}\n", "AfterInstall.0.timeout", id="text"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: true}]}\n", "AfterInstall.0.timeout", id="truth"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: '3601'}]}\n", "must be at most 3600", id="too long"
        ),
        pytest.param(HEAD + "os: linux\n", "os stands twice", id="key twice"),
        pytest.param(HEAD + "hooks: &a {AfterInstall: [*a]}\n", "aliases are not supported", id="alias"),
        pytest.param(HEAD + "hooks: {\n", "is not valid YAML", id="broken"),
        pytest.param(HEAD + "? [a]\n: b\n", "is not valid YAML", id="key that is no word"),
        pytest.param(HEAD + "#" * 70_000, "at most 65536", id="long"),
        pytest.param("!!python/object/apply:os.system ['true']", "is not valid YAML", id="code"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(BuildFailed, match=r"^appspec\.yml: ") as refusal:
        parse_appspec(text)
    assert says in str(refusal.value)
    assert "Next: correct appspec.yml" in str(refusal.value)


@given(st.text(max_size=200) | st.text(max_size=100).map(lambda text: HEAD + text))
def test_any_text_is_an_appspec_or_a_refusal(text: str) -> None:
    try:
        spec = parse_appspec(text)
    except BuildFailed:
        return
    assert set(spec.hooks) <= {event.value for event in Event}


def test_files_and_permissions_are_read_as_codedeploy_has_them() -> None:
    spec = parse_appspec(
        HEAD
        + """
files:
  - source: /
    destination: /var/www/shop
  - source: conf/shop.conf
    destination: /etc/shop/
permissions:
  - object: /var/www/shop/bin
    pattern: "*.sh"
    except: [local.sh, "x*"]
    owner: www-data
    group: www-data
    mode: 755
    type: [file]
  - object: /etc/shop
    mode: 0640
file_exists_behavior: RETAIN
hooks:
  BeforeAllowTraffic:
    - {location: warm.sh, runas: deploy, timeout: 5}
"""
    )
    assert [(one.source, one.destination) for one in spec.files] == [
        (".", "/var/www/shop"),
        ("conf/shop.conf", "/etc/shop"),
    ]
    first, second = spec.permissions
    assert (first.pattern, first.excepted, first.mode, first.type) == ("*.sh", ("local.sh", "x*"), "755", ("file",))
    assert (second.pattern, second.mode, second.type) == ("**", "0640", ("file", "directory"))
    assert (spec.file_exists_behavior, spec.accounts) == ("RETAIN", {"deploy"})


def test_what_codedeploy_takes_is_taken_and_means_the_same() -> None:
    spec = parse_appspec(
        HEAD
        + """
files: [{source: ., destination: /home/x/App/}]
permissions:
  - {object: /home/x, pattern: App, mode: 7, type: [directory]}
  - {object: /, except: [home/x/App/a, /home/x/App/b/c, d/e/, f*], mode: 00}
  - {object: /home/x/App/, pattern: , except: , owner: , group: , mode: , acls: , context: , type: }
hooks:
  BeforeInstall:
  AfterInstall:
    - {location: /scripts/a.sh, timeout: "300", runas: }
    - {location: scripts/b.sh, timeout: }
"""
    )
    above, all_of_it, nothing_said = spec.permissions
    assert (above.object, above.pattern, above.mode) == ("/home/x", "App", "7")
    assert (all_of_it.exceptions, all_of_it.mode) == (("home/x/App/a", "home/x/App/b/c", "d/e", "f*"), "00")
    assert (nothing_said.object, nothing_said.pattern, nothing_said.type) == (
        "/home/x/App",
        "**",
        ("file", "directory"),
    )
    assert spec.hooks == {
        "AfterInstall": (Hook(location="scripts/a.sh", timeout=300), Hook(location="scripts/b.sh", timeout=3600))
    }


@pytest.mark.parametrize(
    ("excepted", "means"),
    [
        ("name", "name"),
        ("n*.txt", "n*.txt"),
        ("/tmp/app/sub/name", "sub/name"),
        ("tmp/app/sub/name", "sub/name"),
        ("sub/name", "sub/name"),
        ("/tmp/app/name", "name"),
        ("/tmp/app/sub/", "sub"),
    ],
)
def test_exceptions_are_names_or_paths(excepted: str, means: str) -> None:
    text = f"files: [{{source: /, destination: /tmp/app}}]\npermissions: [{{object: /tmp/app, except: ['{excepted}']}}]"
    assert parse_appspec(HEAD + text).permissions[0].exceptions == (means,)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param("{source: a, destination: /x}, {source: b, destination: /x}", "a/f and b/f .* /x/f", id="folders"),
        pytest.param(
            "{source: a, destination: /x}, {source: b/f, destination: /x}", "a/f and b/f .* /x/f", id="a file"
        ),
        pytest.param(
            "{source: /, destination: /x}, {source: a, destination: /x/b}", "b/f and a/f .* /x/b/f", id="nested"
        ),
        pytest.param("{source: c, destination: /x}, {source: c, destination: /x/}", "c and c .* /x/c", id="twice"),
    ],
)
def test_two_sources_for_one_file_are_refused(files: str, says: str) -> None:
    spec = parse_appspec(f"{HEAD}files: [{files}]")
    with pytest.raises(BuildFailed, match=f"files: {says}"):
        refuse_two_sources(spec, ["appspec.yml", "a/f", "b/f", "c"])


def test_sources_that_do_not_meet_are_not_refused() -> None:
    files = "{source: a, destination: /x}, {source: ab, destination: /x}, {source: a/f, destination: /y}"
    refuse_two_sources(parse_appspec(f"{HEAD}files: [{files}]"), ["a/f", "ab/g"])
