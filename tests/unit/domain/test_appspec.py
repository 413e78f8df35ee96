from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.errors import BuildFailed
from interlock.domain.hosts.appspec import Event, Hook, parse_appspec, refuse_two_sources

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
            HEAD + FILES + "permissions: [{object: /x, mode: '00644'}]\n", "permissions.0.mode", id="five digits"
        ),
        pytest.param(
            HEAD + FILES + "permissions: [{object: /x, mode: 0644}]\n",
            "permissions.0.mode: 0644 without quotes is 420 to CodeDeploy; write the mode as 644 or '0644'",
            id="mode in base 8",
        ),
        pytest.param(
            HEAD + FILES + "permissions: [{object: /x, mode: 0755}]\n", "0755 without quotes is 493", id="base 8, 9"
        ),
        pytest.param(
            HEAD + FILES + "permissions: [{object: /x, owner: 033}]\n", "033 without quotes is 27", id="owner in base 8"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: 5:00}]}\n",
            "AfterInstall.0.timeout: 5:00 without quotes is 18000 to CodeDeploy; write the seconds as a whole number",
            id="minutes and seconds",
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: 0:30}]}\n",
            "'0:30' is not a number of seconds: write it as a whole number, such as 300",
            id="seconds behind a colon",
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: 0300}]}\n",
            "0300 without quotes is 192 to CodeDeploy; write the seconds as 300 or '0300'",
            id="seconds in base 8",
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: .inf}]}\n", "AfterInstall.0.timeout", id="for ever"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, timeout: 0.5}]}\n", "AfterInstall.0.timeout", id="half"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, runas: SHOP\\deploy}]}\n",
            "SHOP\\deploy: in CodeDeploy a shell takes the backslash away; write the account without one",
            id="Windows domain",
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, runas: ec2 user}]}\n", "has no spaces", id="two words"
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
        pytest.param(HEAD + "hooks: [a]\n", "hooks: must name events", id="hooks a list"),
        pytest.param(HEAD + "hooks: {BlockTraffic: []}\n", "cannot have scripts", id="traffic"),
        pytest.param(HEAD + "hooks: {Installed: []}\n", "hooks.Installed: is not an event", id="no event"),
        pytest.param(HEAD + "hooks: {AfterInstall: a.sh}\n", "must be a list of scripts", id="no list"),
        pytest.param(HEAD + "hooks: {AfterInstall: [a.sh]}\n", "AfterInstall", id="no location"),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, runas: -u root}]}\n", "AfterInstall.0.runas", id="runas"
        ),
        pytest.param(
            HEAD + "hooks: {AfterInstall: [{location: a.sh, sudo: true}]}\n",
            "AfterInstall.0.sudo: is not supported; write runas: root",
            id="sudo",
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
        pytest.param(HEAD + "os: linux\n", "os is defined twice", id="key twice"),
        pytest.param(HEAD + "hooks: &a {AfterInstall: [*a]}\n", "recursive", id="alias of itself"),
        pytest.param(HEAD + "hooks: {AfterInstall: [*a]}\n", "undefined alias", id="alias of nothing"),
        pytest.param(
            HEAD + "a: &a {timeout: 9}\nhooks: {AfterInstall: [{location: a.sh, timeout: 5, <<: *a}]}\n",
            "<<: brings timeout, which is before it, and CodeDeploy uses the merged value; write <<: first",
            id="merge that replaces",
        ),
        pytest.param(HEAD + "hooks: {<<: [1]}\n", "<<: must name a mapping", id="merge of no mapping"),
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


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("300.0", 300),
        ("300.5", 300),
        ("'0300'", 300),
        ("08", 8),
        ("07", 7),
        ("3_00", 300),
        ("' 60 '", 60),
    ],
)
def test_a_timeout_is_what_the_agent_takes_it_for(written: str, seconds: int) -> None:
    spec = parse_appspec(HEAD + f"hooks: {{AfterInstall: [{{location: a.sh, timeout: {written}}}]}}\n")
    assert spec.hooks["AfterInstall"][0].timeout == seconds


@pytest.mark.parametrize(
    ("written", "account"), [("'root '", "root"), ("deploy@example.com", "deploy@example.com"), ("shop+bo", "shop+bo")]
)
def test_a_hook_runs_as_the_account_that_is_meant(written: str, account: str) -> None:
    spec = parse_appspec(HEAD + f"hooks: {{AfterInstall: [{{location: a.sh, runas: {written}}}]}}\n")
    assert spec.accounts == {account}


def test_owners_may_be_numbers() -> None:
    spec = parse_appspec(HEAD + FILES + "permissions: [{object: /x, owner: 33, group: '0'}]\n")
    assert (spec.permissions[0].owner, spec.permissions[0].group) == ("33", "0")


def test_keys_that_the_agent_does_not_know_are_ignored_as_it_does_and_noted() -> None:
    spec = parse_appspec(
        HEAD
        + """
Resources: []
files:
  - {source: /, destination: /x, overwrite: yes}
permissions:
  - {object: /x, recursive: true}
hooks:
  AfterInstall:
    - {location: a.sh, run_as: root, sudo: false}
"""
    )
    assert [(one.source, one.destination) for one in spec.files] == [(".", "/x")]
    assert spec.hooks == {"AfterInstall": (Hook(location="a.sh"),)}
    assert spec.notes == (
        "Resources: is ignored, as in CodeDeploy",
        "files.0.overwrite: is ignored, as in CodeDeploy; to have files replaced that are there already, "
        "write file_exists_behavior: OVERWRITE at the top",
        "permissions.0.recursive: is ignored, as in CodeDeploy",
        "hooks.AfterInstall.0.run_as: is ignored, as in CodeDeploy",
    )


def test_what_is_written_once_may_be_meant_more_than_once() -> None:
    spec = parse_appspec(
        HEAD
        + """
defaults: &defaults {timeout: 60, runas: deploy}
further: &further {timeout: 90}
hooks:
  BeforeInstall: &stop
    - <<: *defaults
      location: stop.sh
      timeout: 30
  AfterInstall: *stop
  ApplicationStart:
    - {<<: [*defaults, *further], location: start.sh}
"""
    )
    assert (
        spec.hooks["BeforeInstall"]
        == spec.hooks["AfterInstall"]
        == (Hook(location="stop.sh", timeout=30, runas="deploy"),)
    )
    assert spec.hooks["ApplicationStart"] == (Hook(location="start.sh", timeout=60, runas="deploy"),)


def test_a_file_cannot_ask_for_more_by_naming_things_again_and_again() -> None:
    levels = [f"k{number}: &k{number} {{<<: [*k{number - 1}, *k{number - 1}]}}" for number in range(1, 200)]
    lists = [f"l{number}: &l{number} [{', '.join([f'*l{number - 1}'] * 9)}]" for number in range(1, 200)]
    spec = parse_appspec("\n".join([HEAD, "k0: &k0 {a: 1}", *levels, "l0: &l0 [a]", *lists]))
    assert len(spec.notes) == 400
    with pytest.raises(BuildFailed):
        parse_appspec("\n".join([HEAD, "l0: &l0 [a]", *lists, "files: *l199"]))


def test_what_is_on_a_host_is_read_as_when_it_came_there() -> None:
    text = (
        HEAD
        + FILES
        + "permissions: [{object: /x, mode: 0640}]\nhooks: {AfterInstall: [{location: a.sh, timeout: 5:00}]}\n"
    )
    with pytest.raises(BuildFailed):
        parse_appspec(text)
    spec = parse_appspec(text, installed=True)
    assert (spec.permissions[0].mode, spec.hooks["AfterInstall"][0].timeout) == ("0640", 300)


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
    mode: "0640"
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
    assert (all_of_it.exceptions, all_of_it.mode) == (("home/x/App/a", "home/x/App/b/c", "d/e", "f*"), "0")
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
