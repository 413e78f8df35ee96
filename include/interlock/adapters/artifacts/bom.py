"""The bill of materials: the components of a bundle, as CycloneDX 1.6 JSON.

A service's own build may write it (``bom:`` in its YAML), and knows best. Else it is read from what lies in the bundle:
Python packages (dist-info folders and wheels) and npm lock files. The same bundle gives the same bytes. What
lies there and is not read is named in it, too: a bill that names nothing says nothing of licences.
"""

from __future__ import annotations

import base64
import binascii
import email
import json
import re
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from email.message import Message
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import BuildFailed
from interlock.domain.quality.rows import ComponentRow

_MAX_BYTES = 32 * 1024 * 1024
_OLD_VERSIONS = ("1.2", "1.3", "1.4", "1.5", "1.6")
_NAMESPACE = uuid.UUID("6f0a3c0e-2f0b-5d5c-9a39-7f3b1c0d4e21")
_NPM_HASHES = {"sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
_UNREAD = "interlock:unread"
_PARTS = {
    "Java archives": ("*.jar", "*.war", "*.ear", "*.aar"),
    ".NET assemblies": ("*.dll", "*.nupkg"),
    "native libraries and programs": ("*.so", "*.so.*", "*.dylib", "*.exe", "*.a"),
    "Ruby's packages": ("*.gem", "Gemfile.lock"),
    "Go's modules": ("go.sum", "go.mod"),
    "Rust's packages": ("Cargo.lock",),
    "PHP's packages": ("composer.lock",),
}
"""Parts of a bundle whose components are not read, by the names of their files."""
_PARTS_OF = {
    "pkg:npm/": ("npm's packages", ("yarn.lock", "pnpm-lock.yaml", "bun.lock*", "package.json")),
    "pkg:pypi/": ("Python's packages", ("requirements*.txt", "poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock")),
}
"""The same of those that are read from other files: they count only where nothing was read."""
_MAX_SHOWN_PATHS = 3
_TROVE = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "",  # which of them it does not say
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "zlib/libpng License": "Zlib",
}


def bill_of_materials(
    folder: Path, *, name: str, version: str, commit: str, sha256: str, at: datetime, own: Path | None = None
) -> bytes:
    """Return the bill of materials of a bundle, validated.

    :param folder: what was packed.
    :param sha256: of the bundle.
    :param at: the time of the commit: a build's own time would make every bill another.
    :param own: the CycloneDX JSON that the service's build wrote itself.
    """
    root = _root(name, version, commit, sha256)
    bom = _completed(own, root) if own else _composed(folder, root, sha256, at)
    _validate(bom)
    return canonical_bytes(bom)


def component_rows(bom: bytes) -> tuple[ComponentRow, ...]:
    """Return one row for each component of the release, without the release itself."""
    rows = [_row(component) for component in _flat(json.loads(bom).get("components", []))]
    return tuple(sorted(rows, key=lambda row: (row.name, row.version, row.purl)))


def unknown_rows(bom: bytes) -> tuple[ComponentRow, ...]:
    """Return one row for each part of the bundle whose components, and so their licences, are not in the bill."""
    plain = json.loads(bom)
    reasons = [
        (one.get("value", ""), "not read")
        for one in plain.get("metadata", {}).get("properties", ())
        if one.get("name") == _UNREAD
    ]
    if any(str(one.get("aggregate", "")) != "complete" for one in plain.get("compositions", ())):
        reasons.append(("the bill of materials", "is marked as incomplete"))
    if not plain.get("components"):
        reasons.append(("the bill of materials", "names no component"))
    return tuple(ComponentRow(name=name, version="unknown", licence="", unknown=why) for name, why in reasons)


def _root(name: str, version: str, commit: str, sha256: str) -> dict[str, Any]:
    return {
        "type": "application",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "properties": [{"name": "interlock:commit", "value": commit}],
    }


def _completed(own: Path, root: dict[str, Any]) -> dict[str, Any]:
    """Return the bill that the service wrote, as version 1.6 and with the bundle as what it is about."""
    if own.stat().st_size > _MAX_BYTES:
        raise _refusal(f"it has more than {_MAX_BYTES} bytes")
    try:
        bom = json.loads(own.read_bytes())
    except ValueError as error:
        raise _refusal(f"it is not JSON: {error}") from error
    if not isinstance(bom, dict) or bom.get("bomFormat") != "CycloneDX" or bom.get("specVersion") not in _OLD_VERSIONS:
        raise _refusal(f"it is not CycloneDX JSON of version {', '.join(_OLD_VERSIONS)}")
    bom.pop("$schema", None)
    metadata = bom.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    theirs = metadata.get("component")
    theirs = theirs if isinstance(theirs, dict) else {}
    # Its reference stays theirs: the graph of dependencies names it.
    component = theirs | root | ({"bom-ref": theirs["bom-ref"]} if "bom-ref" in theirs else {})
    return bom | {"specVersion": "1.6", "metadata": metadata | {"component": component}}


def _composed(folder: Path, root: dict[str, Any], sha256: str, at: datetime) -> dict[str, Any]:
    """Return the bill of what lies in the bundle."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component
    from cyclonedx.output.json import JsonV1Dot6

    found = {component.bom_ref.value: component for component in (*_python(folder), *_npm(folder))}
    component = Component.from_json(root)
    unread = [Property(name=_UNREAD, value=part) for part in _unread(folder, found)]
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, sha256),
        metadata=BomMetaData(component=component, timestamp=at, properties=unread),
        components=found.values(),
    )
    bom.register_dependency(component, found.values())
    composed: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    return composed


def _unread(folder: Path, found: Iterable[str]) -> Iterator[str]:
    """Yield the parts of a bundle whose components were not found."""
    read = {prefix for prefix in _PARTS_OF if any(reference.startswith(prefix) for reference in found)}
    parts = _PARTS | {name: globs for prefix, (name, globs) in _PARTS_OF.items() if prefix not in read}
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    for name, globs in sorted(parts.items()):
        if paths := [path.as_posix() for path in files if any(fnmatchcase(path.name, glob) for glob in globs)]:
            more = f" and {len(paths) - _MAX_SHOWN_PATHS} more" if len(paths) > _MAX_SHOWN_PATHS else ""
            yield f"{name}: {', '.join(paths[:_MAX_SHOWN_PATHS])}{more}"


def _validate(bom: dict[str, Any]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)):
        where = "/".join(str(part) for part in error.data.absolute_path)
        raise _refusal(f"at /{where}: {error.data.message[:300]}")


def _python(folder: Path) -> Iterator[Any]:
    """Give a component for each Python package that is installed in the bundle, or lies in it as a wheel."""
    for path in sorted(folder.rglob("*.dist-info/METADATA")):
        yield _python_component(path, email.message_from_bytes(path.read_bytes()), sha256="")
    for wheel in sorted(folder.rglob("*.whl")):
        yield _python_component(wheel, _wheel_metadata(wheel), sha256=_digest(wheel))


def _wheel_metadata(wheel: Path) -> Message:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [one for one in archive.infolist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one.filename)]
            if len(names) != 1 or names[0].file_size > _MAX_BYTES:
                raise _refusal(f"{wheel.name} has no metadata")
            return email.message_from_bytes(archive.read(names[0]))
    except zipfile.BadZipFile as error:
        raise _refusal(f"{wheel.name} is not a wheel: {error}") from error


def _python_component(path: Path, metadata: Message, *, sha256: str) -> Any:
    name, version = str(metadata.get("Name", "")), str(metadata.get("Version", ""))
    if not name or not version:
        raise _refusal(f"the metadata of {path.parent.name}/{path.name} lacks name or version")
    purl = f"pkg:pypi/{canonicalize_name(name)}@{quote(version)}"
    return _component(name, version, purl, _python_licence(metadata), {"SHA-256": sha256} if sha256 else {})


_NO_LICENCE = ("license :: osi approved", "license :: dfsg approved")
"""Classifiers that name no licence."""


def _python_licence(metadata: Message) -> str:
    """Return the licence that a package declares: the new field, the old one if it is short, or the classifiers."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    named = [str(text) for text in metadata.get_all("Classifier", []) if str(text).startswith("License :: ")]
    classifiers = [text.rpartition(" :: ")[2] for text in named if text.casefold() not in _NO_LICENCE]
    known = {_TROVE[text] for text in classifiers if _TROVE.get(text)}
    text = str(metadata.get("License", "")).strip()
    if text and len(text) <= 100 and "\n" not in text and (_is_spdx(text) or not known):
        return text
    return " AND ".join(sorted(known)) or (classifiers[0] if classifiers else "")


def _is_spdx(text: str) -> bool:
    from cyclonedx.spdx import fixup_id, is_expression

    return fixup_id(text) is not None or bool(is_expression(text))


def _npm(folder: Path) -> Iterator[Any]:
    """Give a component for each package of the bundle's npm lock files, but for those that only development needs."""
    for path in sorted(folder.rglob("*package-lock.json")):
        if _is_lock_of_the_bundle(path.relative_to(folder)):
            yield from _npm_components(path)


def _is_lock_of_the_bundle(path: Path) -> bool:
    """Tell the bundle's lock files from those that came inside packages."""
    depth = path.parts.count("node_modules")
    return depth == 0 or (depth == 1 and path.parent.name == "node_modules" and path.name == ".package-lock.json")


def _npm_components(path: Path) -> Iterator[Any]:
    try:
        lock = json.loads(path.read_bytes())
        packages = lock["packages"]
        for place, package in packages.items():
            if place and not package.get("dev") and not package.get("link"):
                name = package.get("name") or place.rpartition("node_modules/")[2]
                yield _npm_component(name, package)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refusal(f"{path.name} is not a lock file of npm 7 or later: {error!r}") from error


def _npm_component(name: str, package: dict[str, Any]) -> Any:
    licence = package.get("license", "")
    version = str(package["version"])
    purl = f"pkg:npm/{quote(name, safe='/')}@{quote(version)}"
    return _component(name, version, purl, licence if isinstance(licence, str) else "", _npm_hashes(package))


def _npm_hashes(package: dict[str, Any]) -> dict[str, str]:
    """Turn npm's ``sha512-<base64>`` into algorithm and hexadecimal digits."""
    hashes = {}
    for part in str(package.get("integrity", "")).split():
        algorithm, _, digest = part.partition("-")
        if algorithm in _NPM_HASHES:
            try:
                hashes[_NPM_HASHES[algorithm]] = base64.b64decode(digest, validate=True).hex()
            except binascii.Error as error:
                raise ValueError(f"integrity {part[:40]} is not base64") from error
    return hashes


def _component(name: str, version: str, purl: str, licence: str, hashes: dict[str, str]) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=purl,
        purl=PackageURL.from_string(purl),
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
        hashes=[HashType(alg=HashAlgorithm(kind), content=content) for kind, content in hashes.items()],
    )


def _digest(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flat(components: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give components and those inside them."""
    for component in components:
        yield component
        yield from _flat(component.get("components", []))


def _row(component: dict[str, Any]) -> ComponentRow:
    hashes = {one["alg"]: one["content"] for one in component.get("hashes", [])}
    return ComponentRow(
        name="/".join(part for part in (component.get("group", ""), component["name"]) if part),
        version=component.get("version", ""),
        licence=_licence(component.get("licenses", [])),
        purl=component.get("purl", ""),
        sha256=hashes.get("SHA-256", ""),
    )


def _licence(choices: list[dict[str, Any]]) -> str:
    """Return the licences of a component as one expression; if it names several, all of them apply."""
    names = [
        choice.get("expression") or choice.get("license", {}).get("id") or choice.get("license", {}).get("name", "")
        for choice in choices
    ]
    return names[0] if len(names) == 1 else " AND ".join(f"({name})" if " " in name else name for name in names)


def _refusal(what: str) -> BuildFailed:
    return BuildFailed(
        f"The bill of materials could not be created: {what}.",
        rule="every release has a bill of materials in CycloneDX 1.6",
        who="the service's team",
        next_step="correct the output of the build, or bom in the service's YAML",
    )
