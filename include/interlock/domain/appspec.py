"""CodeDeploy's AppSpec for EC2 and on-premises, in the part that Interlock runs: ``version``, ``os`` and ``hooks``.

What is not supported is refused when the bundle is built, with a sentence that says so; nothing is ignored.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from .canonical import Model
from .errors import BuildFailed

APPSPEC = "appspec.yml"
"""The AppSpec's file name, at the top of the bundle."""

_SIZE_CAP = 64 * 1024
_REFERENCE = "AppSpec as CodeDeploy defines it for EC2, in the part that this version supports"
_UNSUPPORTED = {
    "files": "files: is not supported: the whole bundle is the release, and hooks run inside its folder",
    "permissions": "permissions: is not supported: files keep the executable bit that they have in the bundle",
    "file_exists_behavior": "file_exists_behavior: is not supported: every release has a folder of its own",
}
_TRAFFIC = ("BeforeBlockTraffic", "BlockTraffic", "AfterBlockTraffic", "BeforeAllowTraffic", "AllowTraffic",
            "AfterAllowTraffic")  # fmt: skip


class Event(StrEnum):
    """The lifecycle events that a hook can be hung on, in the order in which a deployment passes them."""

    APPLICATION_STOP = "ApplicationStop"
    BEFORE_INSTALL = "BeforeInstall"
    AFTER_INSTALL = "AfterInstall"
    APPLICATION_START = "ApplicationStart"
    VALIDATE_SERVICE = "ValidateService"


class Hook(Model):
    """A script of the bundle that is run at an event."""

    location: str = Field(min_length=1, max_length=1024, description="The script, from the top of the bundle")
    timeout: int = Field(3600, ge=1, le=3600, strict=True, description="Seconds")

    @field_validator("location")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or not path.parts or not value.isprintable():
            raise ValueError("must be a path inside the bundle, such as scripts/start.sh")
        return str(path)


class AppSpec(Model):
    """A bundle's ``appspec.yml``."""

    version: Literal["0.0"] = "0.0"
    os: Literal["linux"] = "linux"
    hooks: dict[str, tuple[Hook, ...]] = Field({}, description="Event: its hooks, in the order in which they run")

    @property
    def locations(self) -> frozenset[str]:
        """Every script that a hook names."""
        return frozenset(hook.location for hooks in self.hooks.values() for hook in hooks)


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
    hooks = {event: _entries(event, entries) for event, entries in _hooks(value).items()}
    try:
        return AppSpec.model_validate({"hooks": hooks})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _refusal(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error


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


def _check_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if key in _UNSUPPORTED:
            raise _refusal(_UNSUPPORTED[key])
        if key not in ("version", "os", "hooks"):
            raise _refusal(f"{key}: is not a key of an AppSpec; allowed are version, os and hooks")
    if "version" not in value or str(value["version"]) != "0.0":
        raise _refusal(f"version: must be 0.0, found {value.get('version', 'nothing')}")
    if value.get("os") != "linux":
        raise _refusal(f"os: must be linux, found {value.get('os', 'nothing')}")


def _hooks(value: dict[Any, Any]) -> dict[str, Any]:
    hooks = value.get("hooks") or {}
    if not isinstance(hooks, dict):
        raise _refusal("hooks: must name events, each with a list of scripts")
    allowed = [event.value for event in Event]
    for event in hooks:
        if event in _TRAFFIC:
            raise _refusal(f"hooks.{event}: is not supported: the load balancer's target group is drained and refilled "
                           "by the rollout itself")  # fmt: skip
        if event not in allowed:
            raise _refusal(f"hooks.{event}: is not an event; allowed are {', '.join(allowed)}")
    return hooks


def _entries(event: str, entries: Any) -> list[Any]:
    if not isinstance(entries, list):
        raise _refusal(f"hooks.{event}: must be a list of scripts, each with its location")
    for entry in entries:
        if isinstance(entry, dict) and "runas" in entry:
            raise _refusal(f"hooks.{event}: runas is not supported: hooks run as the login of the hosts' connection")
    return entries


def _refusal(what: str) -> BuildFailed:
    return BuildFailed(
        f"{APPSPEC}: {what}.",
        rule=_REFERENCE,
        who="the service's team",
        next_step=f"correct {APPSPEC} in the service's repository",
    )
