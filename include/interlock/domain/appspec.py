"""CodeDeploy's AppSpec for EC2 and on-premises: ``files``, ``permissions``, ``file_exists_behavior`` and ``hooks``.

What CodeDeploy takes is taken, and means the same. What is not supported is refused when the bundle is built, with a
sentence that says so; nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, StringConstraints, ValidationError, field_validator, model_validator

from .canonical import Model
from .errors import BuildFailed

APPSPEC = "appspec.yml"
"""The AppSpec's file name, at the top of the bundle."""

EVENT_SECONDS = 3600
"""Seconds that the hooks of one event have together, and so the most that one of them may have."""

_SIZE_CAP = 64 * 1024
_REFERENCE = "AppSpec as CodeDeploy defines it for EC2, in the part that this version supports"
_KEYS = ("version", "os", "files", "permissions", "file_exists_behavior", "hooks")
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


Account = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$")]
_Path = Annotated[str, Field(min_length=1, max_length=1024)]
_Absolute = Annotated[_Path, AfterValidator(_absolute)]
_Destination = Annotated[_Absolute, AfterValidator(_not_all)]
_Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_name)]


class Hook(Model):
    """A script of the bundle that is run at an event."""

    location: Annotated[_Path, AfterValidator(_script)] = Field(description="The script, from the top of the bundle")
    timeout: int = Field(EVENT_SECONDS, ge=1, strict=True, description="Seconds")
    runas: Account | None = Field(None, description="The account that the script runs as; none: the hosts' login")

    @field_validator("timeout", mode="before")
    @classmethod
    def _as_number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,8}", value) else value

    @field_validator("timeout")
    @classmethod
    def _within_the_hour(cls, value: int) -> int:
        if value > EVENT_SECONDS:
            raise ValueError(f"must be at most {EVENT_SECONDS}: CodeDeploy ends an event after so many seconds")
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
    """Owner, group and mode of files that ``files`` copied, and of folders that were made for them."""

    object: _Absolute = Field(description="A destination, or a folder or file below one, or a folder above one")
    pattern: _Name = Field("**", description="Names directly in the object, with * for any part; **: at any depth")
    excepted: tuple[Annotated[_Path, AfterValidator(_inside_or_name)], ...] = Field(
        (), alias="except", description="Names directly in the object, or paths below it, that are left as they are"
    )
    owner: Account | None = None
    group: Account | None = None
    mode: Annotated[str, StringConstraints(pattern=r"^[0-7]{1,4}$")] | None = None
    type: tuple[Literal["file", "directory"], ...] = Field(("file", "directory"), min_length=1)

    @field_validator("mode", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        # YAML reads 0644 as a number in base 8 and 644 as one in base 10; what was written is meant.
        return value if value is None or isinstance(value, str) else str(value)

    @model_validator(mode="after")
    def _exceptions_are_below(self) -> Permission:
        for one in self.excepted:
            if one.startswith("/") and not is_below(one, self.object):
                raise ValueError(f"except: {one} is not below {self.object}")
        if "." in self.exceptions:
            raise ValueError(f"except: {self.object} is the object itself, to which nothing is done")
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
                    f"files: {taken[target]} and {name} are both to become {target}, which CodeDeploy refuses"
                )
            taken[target] = name


def parse_appspec(text: str) -> AppSpec:
    """Read an AppSpec; BuildFailed says what in it is wrong, or is not supported."""
    if len(text) > _SIZE_CAP:
        raise _refusal(f"has {len(text)} characters; at most {_SIZE_CAP} are read")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _refusal(f"is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise _refusal("has no keys; it begins with version: 0.0 and os: linux")
    _check_keys(value)
    found = {key: _given(value.get(key) or []) for key in ("files", "permissions")}
    _check_permissions(found["permissions"])
    hooks = {event: _entries(event, entries) for event, entries in _hooks(value).items() if entries is not None}
    behaviour = {key: value[key] for key in ("file_exists_behavior",) if value.get(key) is not None}
    try:
        return AppSpec.model_validate({**found, **behaviour, "hooks": hooks})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _refusal(f"{f'{where}: ' if where else ''}{first['msg'].removeprefix('Value error, ')}") from error


class _Loader(yaml.SafeLoader):
    """YAML without its traps: a key that stands twice is refused, and so are anchors and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not supported", None)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _as_written(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    """Read a whole number; one that begins with a zero is a mode, and stays as it was written."""
    written = loader.construct_scalar(node)
    return written if written.startswith("0") and len(written) > 1 else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _as_written)


def _check_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if key not in _KEYS:
            raise _refusal(f"{key}: is not a key of an AppSpec; allowed are {', '.join(_KEYS)}")
    if "version" not in value or str(value["version"]) != "0.0":
        raise _refusal(f"version: must be 0.0, found {value.get('version', 'nothing')}")
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


def _entries(event: str, entries: Any) -> list[Any]:
    if not isinstance(entries, list):
        raise _refusal(f"hooks.{event}: must be a list of scripts, each with its location")
    return list(_given(entries))


def _given(entries: Any) -> Any:
    """Leave out the keys that have no value: to CodeDeploy they are not there."""
    if not isinstance(entries, list):
        return entries
    return [
        {key: one for key, one in entry.items() if one is not None} if isinstance(entry, dict) else entry
        for entry in entries
    ]


def _refusal(what: str) -> BuildFailed:
    return BuildFailed(
        f"{APPSPEC}: {what}.",
        rule=_REFERENCE,
        who="the service's team",
        next_step=f"correct {APPSPEC} in the service's repository",
    )
