"""CodeDeploy's AppSpec for EC2 and on-premises: ``files``, ``permissions``, ``file_exists_behavior`` and ``hooks``.

What CodeDeploy's agent accepts is accepted, and means the same. A key that the agent does not know is ignored, as the
agent does, and noted. Keys that are not supported, and values that the agent reads differently than written, are
refused when the bundle is built, with a sentence that says what to write.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from enum import StrEnum
from math import isfinite
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from interlock.domain.canonical import Model
from interlock.domain.errors import BuildFailed

APPSPEC = "appspec.yml"
"""The AppSpec's file name, at the top of the bundle."""
OTHER_NAME = "appspec.yaml"
"""The alternative name of an AppSpec in a repository or in the output of a build."""

MAX_EVENT_SECONDS = 3600
"""Maximum total seconds of the hooks of one event, and so of a single hook."""

_MAX_BYTES = 64 * 1024
_REFERENCE = "AppSpec as CodeDeploy defines it for EC2, in the part that this version supports"
_KEYS = ("version", "os", "files", "permissions", "file_exists_behavior", "hooks")
_KEYS_OF = {
    "files": ("source", "destination"),
    "permissions": ("object", "pattern", "except", "owner", "group", "mode", "type", "acls", "context"),
    "hooks": ("location", "timeout", "runas", "sudo"),
}
"""The allowed keys of an entry; the agent ignores any other key."""
_IGNORED = {
    "overwrite": "to have files replaced that are there already, write file_exists_behavior: OVERWRITE at the top",
}
"""Key: what to write to have what it looks like."""
_WITHOUT_SCRIPTS = ("Start", "BlockTraffic", "DownloadBundle", "Install", "AllowTraffic", "End")
_NOT_FOR_PERMISSIONS = {
    "acls": "acls are not supported: owner, group and mode are",
    "context": "context is not supported: what SELinux is to say of a file is set by the host's own policy",
}


class Event(StrEnum):
    """The lifecycle events that a hook can be hung on, in CodeDeploy's order."""

    BEFORE_BLOCK_TRAFFIC = "BeforeBlockTraffic"
    AFTER_BLOCK_TRAFFIC = "AfterBlockTraffic"
    APPLICATION_STOP = "ApplicationStop"
    BEFORE_INSTALL = "BeforeInstall"
    AFTER_INSTALL = "AfterInstall"
    APPLICATION_START = "ApplicationStart"
    VALIDATE_SERVICE = "ValidateService"
    BEFORE_ALLOW_TRAFFIC = "BeforeAllowTraffic"
    AFTER_ALLOW_TRAFFIC = "AfterAllowTraffic"


class FileExists(StrEnum):
    """What is done with a file that is at a destination already, and that no release put there."""

    DISALLOW = "DISALLOW"
    OVERWRITE = "OVERWRITE"
    RETAIN = "RETAIN"


def _inside(value: str) -> str:
    path = PurePosixPath(value.lstrip("/") or ".")
    if ".." in path.parts or not value.isprintable():
        raise ValueError("must be a path inside the bundle")
    return str(path)


def _script(value: str) -> str:
    path = PurePosixPath(value.strip().lstrip("/"))
    if ".." in path.parts or not path.parts or not value.strip().isprintable():
        raise ValueError("must be a path inside the bundle, such as scripts/start.sh")
    return str(path)


def _absolute(value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or not value.isprintable():
        raise ValueError("must be an absolute path on the host, without ..")
    return str(PurePosixPath("/", value.strip("/")))


def _not_all(value: str) -> str:
    if value == "/":
        raise ValueError("must not be / itself: name the folders, each with what goes there")
    return value


def _name(value: str) -> str:
    if "/" in value or not value.isprintable():
        raise ValueError("must be a name, with * for any part of it; one with a / matches nothing in CodeDeploy")
    return value


def _inside_or_name(value: str) -> str:
    if ".." in PurePosixPath(value).parts or not value.isprintable():
        raise ValueError("must be a name, or a path without ..")
    return value


def _account(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = value.strip()
    if "\\" in name:
        raise ValueError(
            f"{name}: in CodeDeploy a shell takes the backslash away; write the account without one, as the host's "
            "id command knows it, such as deploy@example.com"
        )
    if any(character.isspace() for character in name):
        raise ValueError(f"{name!r}: an account has no spaces in its name; write one account, such as deploy")
    return name


def _number_or_account(value: Any) -> Any:
    if isinstance(value, _Number):
        return value.as_written("the number of an account or a group")
    return _account(value)


_ACCOUNT = r"[A-Za-z_][A-Za-z0-9_.+-]{0,63}(@[A-Za-z0-9][A-Za-z0-9.-]{0,127})?\$?"
Account = Annotated[str, BeforeValidator(_account), StringConstraints(pattern=f"^{_ACCOUNT}$")]
"""An account of a host: of its own, or of a domain, such as deploy@example.com."""
Owner = Annotated[str, BeforeValidator(_number_or_account), StringConstraints(pattern=f"^({_ACCOUNT}|[0-9]{{1,10}})$")]
"""An account or a group of a host, by its name or its number."""
_Path = Annotated[str, Field(min_length=1, max_length=1024)]
_Absolute = Annotated[_Path, AfterValidator(_absolute)]
_Destination = Annotated[_Absolute, AfterValidator(_not_all)]
_Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_name)]


class _Number(int):
    """A whole number of a file, and how it is written there: what begins with 0 is in base 8, as the agent has it."""

    written: str

    @classmethod
    def of(cls, value: int, written: str) -> Self:
        number = cls(value)
        number.written = written
        return number

    def as_written(self, what: str) -> str:
        """Return its digits, if the agent reads the same; ValueError says what to write instead."""
        digits = self.written.replace("_", "").lstrip("+").lstrip("0") or "0"
        if str(int(self)) == digits:
            return digits
        instead = f"{digits} or '{self.written}'" if self.written.isdecimal() else "a whole number"
        raise ValueError(
            f"{self.written} without quotes is {self._to_the_agent} to CodeDeploy; write {what} as {instead}"
        )

    @property
    def _to_the_agent(self) -> int:
        """The agent reads hours, minutes and seconds, so 5:00 means five hours."""
        if ":" not in self.written:
            return int(self)
        return sum(int(part) * 60 ** (2 - place) for place, part in enumerate(self.written.split(":")[:3]))


class Hook(Model):
    """A script of the bundle that is run at an event."""

    location: Annotated[_Path, AfterValidator(_script)] = Field(description="The script, from the top of the bundle")
    timeout: int = Field(MAX_EVENT_SECONDS, ge=1, strict=True, description="Seconds")
    runas: Account | None = Field(None, description="The account that the script runs as; none: the hosts' login")

    @field_validator("timeout", mode="before")
    @classmethod
    def _as_number(cls, value: Any) -> Any:
        """Read what Ruby's to_i does, where that is what a person reads."""
        if isinstance(value, _Number):
            return int(value.as_written("the seconds"))
        if isinstance(value, float) and isfinite(value):
            return int(value)
        if isinstance(value, str):
            if re.fullmatch(r"[0-9]{1,9}", value.strip(), re.ASCII):
                return int(value)
            raise ValueError(f"{value!r} is not a number of seconds: write it as a whole number, such as 300")
        return value

    @field_validator("timeout")
    @classmethod
    def _within_the_hour(cls, value: int) -> int:
        if value > MAX_EVENT_SECONDS:
            raise ValueError(f"must be at most {MAX_EVENT_SECONDS}: CodeDeploy ends an event after so many seconds")
        return value


class FileMapping(Model):
    """Files of the bundle that are copied to a place outside the release's folder."""

    source: Annotated[_Path, AfterValidator(_inside)] = Field(
        description="A file, or a folder whose contents are meant, from the top of the bundle; / is all of it"
    )
    destination: _Destination = Field(description="The folder on the host that they are copied to")

    def target(self, name: str) -> str | None:
        """Return where a file of the bundle is copied to; None if it is not meant."""
        if name == self.source:
            return f"{self.destination}/{PurePosixPath(name).name}"
        folder = "" if self.source == "." else f"{self.source}/"
        return f"{self.destination}/{name.removeprefix(folder)}" if name.startswith(folder) else None


class Permission(Model):
    """Owner, group and mode of files that ``files`` copied, and of folders that were created for them."""

    object: _Absolute = Field(description="A destination, or a folder or file below one, or a folder above one")
    pattern: _Name = Field("**", description="Names directly in the object, with * for any part; **: at any depth")
    excepted: tuple[Annotated[_Path, AfterValidator(_inside_or_name)], ...] = Field(
        (), alias="except", description="Names directly in the object, or paths below it, that are left as they are"
    )
    owner: Owner | None = None
    group: Owner | None = None
    mode: Annotated[str, StringConstraints(pattern=r"^[0-7]{1,4}$")] | None = None
    type: tuple[Literal["file", "directory"], ...] = Field(("file", "directory"), min_length=1)

    @field_validator("mode", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if isinstance(value, _Number):
            return value.as_written("the mode")
        return value if value is None or isinstance(value, str) else str(value)

    @model_validator(mode="after")
    def _exceptions_are_below(self) -> Permission:
        for one in self.excepted:
            if one.startswith("/") and not is_below(one, self.object):
                raise ValueError(f"except: {one} is not below {self.object}")
        if "." in self.exceptions:
            raise ValueError(f"except: {self.object} is the object itself, so the entry has no effect")
        return self

    @property
    def exceptions(self) -> tuple[str, ...]:
        """What is left as it is, as seen from the object; AWS's own example writes a path from / without that /."""
        return tuple(self._from_object(one) for one in self.excepted)

    def _from_object(self, one: str) -> str:
        path = PurePosixPath("/", one)
        whole = "/" in one and path.is_relative_to(self.object)
        return str(path.relative_to(self.object) if whole else PurePosixPath(one))


class AppSpec(Model):
    """A bundle's ``appspec.yml``."""

    version: Literal["0.0"] = "0.0"
    os: Literal["linux"] = "linux"
    files: tuple[FileMapping, ...] = ()
    permissions: tuple[Permission, ...] = ()
    file_exists_behavior: FileExists = FileExists.DISALLOW
    hooks: dict[str, tuple[Hook, ...]] = Field({}, description="Event: its hooks, in the order in which they run")
    notes: tuple[str, ...] = Field((), description="What stands in it and means nothing")

    @model_validator(mode="after")
    def _permissions_are_for_files(self) -> AppSpec:
        for permission in self.permissions:
            places = [mapping.destination for mapping in self.files]
            if not any(is_below(permission.object, one) or is_below(one, permission.object) for one in places):
                raise ValueError(
                    f"permissions: {permission.object} is not a destination of files, nor below or above one"
                )
        return self

    @property
    def locations(self) -> frozenset[str]:
        """Every script that a hook names."""
        return frozenset(hook.location for hooks in self.hooks.values() for hook in hooks)

    @property
    def accounts(self) -> frozenset[str]:
        """Every account that a hook is to run as."""
        return frozenset(hook.runas for hooks in self.hooks.values() for hook in hooks if hook.runas)


def is_below(path: str, folder: str) -> bool:
    """Say whether an absolute path is a folder or below it."""
    return PurePosixPath(path).is_relative_to(folder)


def refuse_two_sources(spec: AppSpec, names: Sequence[str]) -> None:
    """Raise BuildFailed if two files of a bundle are to be copied to one place.

    :param names: of the bundle's files, from its top.
    """
    taken: dict[str, str] = {}
    for mapping in spec.files:
        for name in names:
            if (target := mapping.target(name)) is None:
                continue
            if target in taken:
                raise _refusal(
                    f"files: {taken[target]} and {name} have the same destination {target}, which CodeDeploy refuses"
                )
            taken[target] = name


def parse_appspec(text: str, *, installed: bool = False) -> AppSpec:
    """Read an AppSpec; BuildFailed says what in it is wrong, or is not supported.

    :param installed: the release is already on a host; ambiguous values are read as when it was installed.
    """
    if len(text) > _MAX_BYTES:
        raise _refusal(f"has {len(text)} characters; at most {_MAX_BYTES} are read")
    try:
        value = yaml.load(text, Loader=_InstalledLoader if installed else _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _refusal(f"is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise _refusal("has no keys; it begins with version: 0.0 and os: linux")
    _check_head(value)
    notes = [_note(f"{key}:") for key in value if key not in _KEYS]
    found = {key: _entries(key, key, value.get(key) or [], notes) for key in ("files", "permissions")}
    _check_permissions(found["permissions"])
    hooks = {event: _scripts(event, entries, notes) for event, entries in _hooks(value).items() if entries is not None}
    behaviour = {key: value[key] for key in ("file_exists_behavior",) if value.get(key) is not None}
    try:
        return AppSpec.model_validate({**found, **behaviour, "hooks": hooks, "notes": notes})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _refusal(f"{f'{where}: ' if where else ''}{first['msg'].removeprefix('Value error, ')}") from error


class _Loader(yaml.SafeLoader):
    """YAML as the agent reads it; what it and other programs read differently is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        own: set[Any] = set()
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._merge(found, own, value_node)
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _unreadable("a key is not text", key_node)
            if key in own:
                raise _unreadable(f"{key} is defined twice", node)
            own.add(key)
            found[key] = self.construct_object(value_node, deep=True)
        return found

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave merge keys to construct_mapping: it copies no node, of which a file could ask for millions."""

    def _merge(self, found: dict[Any, Any], own: set[Any], node: yaml.Node) -> None:
        """Apply a merge key; to the agent it also replaces keys that precede it."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[Any, Any] = {}
        for source in sources:
            one = self.construct_object(source, deep=True) if isinstance(source, yaml.MappingNode) else None
            if not isinstance(one, dict):
                raise _unreadable("<<: must name a mapping, or a list of them", node)
            merged = {**one, **merged}
        if replaced := sorted(str(key) for key in merged.keys() & own):
            raise _unreadable(
                f"<<: brings {', '.join(replaced)}, which is before it, and CodeDeploy uses the merged value; "
                "write <<: first",
                node,
            )
        found.update(merged)


class _InstalledLoader(_Loader):
    """The same, but a number with a leading 0 stays as written, and a number with colons is minutes and seconds."""


def _unreadable(what: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    return _Number.of(loader.construct_yaml_int(node), str(loader.construct_scalar(node)))


def _as_written(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    """Read a whole number; a number with a leading zero is a mode and stays as written."""
    written = loader.construct_scalar(node)
    return written if written.startswith("0") and len(written) > 1 else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_InstalledLoader.add_constructor("tag:yaml.org,2002:int", _as_written)


def _check_head(value: dict[Any, Any]) -> None:
    version = value.get("version", "nothing")
    if isinstance(version, bool) or (version not in (0, "0.0")):
        raise _refusal(f"version: must be 0.0, found {version}")
    if value.get("os") != "linux":
        raise _refusal(f"os: must be linux, found {value.get('os', 'nothing')}")


def _check_permissions(entries: Any) -> None:
    for entry in entries if isinstance(entries, list) else []:
        for key, why in _NOT_FOR_PERMISSIONS.items():
            if isinstance(entry, dict) and key in entry:
                raise _refusal(f"permissions: {why}")


def _hooks(value: dict[Any, Any]) -> dict[str, Any]:
    hooks = value.get("hooks") or {}
    if not isinstance(hooks, dict):
        raise _refusal("hooks: must name events, each with a list of scripts")
    allowed = [event.value for event in Event]
    for event in hooks:
        if event in _WITHOUT_SCRIPTS:
            raise _refusal(f"hooks.{event}: cannot have scripts, as in CodeDeploy: the engine does that itself")
        if event not in allowed:
            raise _refusal(f"hooks.{event}: is not an event; allowed are {', '.join(allowed)}")
    return hooks


def _scripts(event: str, entries: Any, notes: list[str]) -> list[Any]:
    if not isinstance(entries, list):
        raise _refusal(f"hooks.{event}: must be a list of scripts, each with its location")
    found = list(_entries("hooks", f"hooks.{event}", entries, notes))
    for number, entry in enumerate(found):
        if isinstance(entry, dict) and entry.pop("sudo", False):
            raise _refusal(f"hooks.{event}.{number}.sudo: is not supported; write runas: root")
    return found


def _entries(kind: str, where: str, entries: Any, notes: list[str]) -> Any:
    """Remove the keys without a value or a meaning, which CodeDeploy ignores."""
    if not isinstance(entries, list):
        return entries
    for number, entry in enumerate(entries):
        if isinstance(entry, dict):
            notes.extend(_note(f"{where}.{number}.{key}:") for key in entry if key not in _KEYS_OF[kind])
    return [
        {key: one for key, one in entry.items() if one is not None and key in _KEYS_OF[kind]}
        if isinstance(entry, dict)
        else entry
        for entry in entries
    ]


def _note(where: str) -> str:
    instead = _IGNORED.get(where.rstrip(":").rpartition(".")[2], "")
    return f"{where} is ignored, as in CodeDeploy{f'; {instead}' if instead else ''}"


def _refusal(what: str) -> BuildFailed:
    return BuildFailed(
        f"{APPSPEC}: {what}.",
        rule=_REFERENCE,
        who="the service's team",
        next_step=f"correct {APPSPEC} in the service's repository",
    )
