from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.artifacts.bom import bill_of_materials, component_rows, unknown_rows
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import BuildFailed
from interlock.domain.quality.rows import ComponentRow, unknown_notes

AT = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def made(folder: Path, own: Path | None = None) -> bytes:
    return bill_of_materials(folder, name="bike-shop", version="1.1.0", commit="c" * 40, sha256=DIGEST, at=AT, own=own)


def install(folder: Path, name: str, *lines: str, version: str = "1.0") -> None:
    package = folder / "lib" / f"{name.replace('-', '_')}-{version}.dist-info"
    package.mkdir(parents=True)
    headers = "\n".join([f"Name: {name}", f"Version: {version}", *lines])
    (package / "METADATA").write_text(f"Metadata-Version: 2.4\n{headers}\n\nLicense: GPL, says the description\n")


def write_lock(folder: Path, packages: dict[str, Any], name: str = "package-lock.json") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))


def test_a_bundle_that_brings_nothing_has_a_bill_of_itself(folder: Path) -> None:
    bom = json.loads(made(folder))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    root = bom["metadata"]["component"]
    assert (root["name"], root["version"]) == ("bike-shop", "1.1.0")
    assert root["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert {"name": "interlock:commit", "value": "c" * 40} in root["properties"]
    assert component_rows(made(folder)) == ()


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: MIT OR Apache-2.0", "License: ignored"], "MIT OR Apache-2.0"),
        (["License: bsd-3-clause"], "BSD-3-Clause"),
        (["License: MIT", "Classifier: License :: OSI Approved :: Apache Software License"], "MIT"),
        (["License: Apache 2", "Classifier: License :: OSI Approved :: Apache Software License"], "Apache-2.0"),
        (["License: Our own terms"], "Our own terms"),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: Python Software Foundation License",
            ],
            "MIT AND PSF-2.0",
        ),
        (["Classifier: License :: OSI Approved :: BSD License"], "BSD License"),
        (["Classifier: License :: Public Domain"], "Public Domain"),
        (
            ["Classifier: License :: OSI Approved", "Classifier: License :: Other/Proprietary License"],
            "Other/Proprietary License",
        ),
        (["License: " + "Permission is hereby granted " * 20], ""),
        ([], ""),
    ],
)
def test_the_licence_of_a_python_package_is_the_one_it_declares(folder: Path, lines: list[str], licence: str) -> None:
    install(folder, "Wheel-Maker", *lines)
    assert component_rows(made(folder)) == (
        ComponentRow(name="Wheel-Maker", version="1.0", licence=licence, purl="pkg:pypi/wheel-maker@1.0"),
    )


def test_wheels_count_with_their_digest(folder: Path) -> None:
    wheel = folder / "dist" / "bell-2.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("bell-2.0.dist-info/METADATA", "Name: bell\nVersion: 2.0\nLicense-Expression: ISC\n")
    digest = sha256_of(wheel.read_bytes())
    expected = ComponentRow(name="bell", version="2.0", licence="ISC", purl="pkg:pypi/bell@2.0", sha256=digest)
    assert component_rows(made(folder)) == (expected,)


def test_npm_packages_count_but_for_those_of_development(folder: Path) -> None:
    write_lock(
        folder,
        {
            "": {"name": "bike-shop", "version": "1.1.0"},
            "node_modules/@bikes/bell": {
                "version": "2.0.0",
                "license": "MIT",
                "integrity": "sha256-" + "q83v" * 10 + "q80=",
            },
            "node_modules/bell/node_modules/spring": {"version": "3.1.0", "license": "(MIT OR GPL-3.0-only)"},
            "node_modules/tester": {"version": "1.0.0", "license": "GPL-3.0-only", "dev": True},
            "packages/own": {"link": True},
        },
    )
    write_lock(folder / "node_modules" / "inner", {"node_modules/other": {"version": "9.9.9"}})
    rows = component_rows(made(folder))
    assert [(row.name, row.version, row.licence, row.purl) for row in rows] == [
        ("@bikes/bell", "2.0.0", "MIT", "pkg:npm/%40bikes/bell@2.0.0"),
        ("spring", "3.1.0", "(MIT OR GPL-3.0-only)", "pkg:npm/spring@3.1.0"),
    ]
    assert rows[0].sha256.startswith("abcdef" * 10)


def test_the_same_bundle_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        install(folder, name, "License: MIT")
    write_lock(folder, {"node_modules/x": {"version": "1.0.0"}}, "node_modules/.package-lock.json")
    first = made(folder)
    moved = folder.rename(tmp_path / "moved")
    assert made(moved) == first
    assert len(component_rows(first)) == 4


def own_bom(tmp_path: Path, **more: Any) -> Path:
    path = tmp_path / "bom.json"
    path.write_text(
        json.dumps(
            {
                "$schema": "http://cyclonedx.org/schema/bom-1.4.schema.json",
                "bomFormat": "CycloneDX",
                "specVersion": "1.4",
                "version": 1,
                "metadata": {"component": {"type": "library", "name": "shop", "bom-ref": "theirs", "publisher": "Us"}},
                "components": [
                    {
                        "type": "library",
                        "group": "org.bikes",
                        "name": "bell",
                        "version": "2.0",
                        "licenses": [{"license": {"id": "MIT"}}, {"license": {"name": "Our own terms"}}],
                        "hashes": [{"alg": "SHA-1", "content": "a" * 40}, {"alg": "SHA-256", "content": "b" * 64}],
                        "components": [
                            {"type": "library", "name": "spring", "licenses": [{"expression": "MIT OR ISC"}]}
                        ],
                    }
                ],
                "dependencies": [{"ref": "theirs", "dependsOn": []}],
            }
            | more
        )
    )
    return path


def test_a_bill_that_the_build_wrote_itself_is_kept_and_is_about_the_bundle(folder: Path, tmp_path: Path) -> None:
    install(folder, "not-counted")
    bom = made(folder, own_bom(tmp_path))
    read = json.loads(bom)
    assert read["specVersion"] == "1.6"
    root = read["metadata"]["component"]
    assert (root["bom-ref"], root["name"], root["publisher"]) == ("theirs", "bike-shop", "Us")
    assert root["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert component_rows(bom) == (
        ComponentRow(name="org.bikes/bell", version="2.0", licence="MIT AND (Our own terms)", purl="", sha256="b" * 64),
        ComponentRow(name="spring", version="", licence="MIT OR ISC", purl=""),
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"specVersion": "1.7"}, "not CycloneDX JSON of version"),
        ({"bomFormat": "SPDX"}, "not CycloneDX JSON of version"),
        ({"components": [{"type": "library"}]}, "at /components/0: 'name' is a required property"),
        ({"components": [{"type": "gadget", "name": "x"}]}, "at /components/0/type"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bill_that_is_not_valid_is_refused(folder: Path, tmp_path: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(BuildFailed, match="bill of materials could not be created") as refusal:
        made(folder, own_bom(tmp_path, **more))
    assert says in str(refusal.value)


def test_what_cannot_be_read_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bom.json").write_text("<bom/>")
    with pytest.raises(BuildFailed, match="it is not JSON"):
        made(folder, tmp_path / "bom.json")
    (folder / "package-lock.json").write_text('{"lockfileVersion": 1, "dependencies": {}}')
    with pytest.raises(BuildFailed, match="not a lock file of npm 7 or later"):
        made(folder)
    write_lock(folder, {"node_modules/x": {"version": "1.0.0", "integrity": "sha512-!"}})
    with pytest.raises(BuildFailed, match="is not base64"):
        made(folder)
    (folder / "package-lock.json").unlink()
    install(folder, "", version="")
    with pytest.raises(BuildFailed, match="lacks name or version"):
        made(folder)


def test_a_broken_wheel_is_refused(folder: Path) -> None:
    (folder / "bell.whl").write_bytes(b"nothing")
    with pytest.raises(BuildFailed, match=r"bell\.whl is not a wheel"):
        made(folder)
    with zipfile.ZipFile(folder / "bell.whl", "w") as archive:
        archive.writestr("bell.py", "")
    with pytest.raises(BuildFailed, match=r"bell\.whl has no metadata"):
        made(folder)


def unknown(bom: bytes) -> list[tuple[str, str]]:
    return [(row.name, row.unknown) for row in unknown_rows(bom)]


NOTHING = ("the bill of materials", "names no component")


def test_a_bill_that_names_nothing_says_so(folder: Path) -> None:
    assert unknown(made(folder)) == [NOTHING]
    assert list(unknown_notes(unknown_rows(made(folder)))) == [
        "Components and their licences are unknown: the bill of materials (names no component)."
    ]
    install(folder, "flask", "License: MIT")
    assert unknown(made(folder)) == []


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["app.jar"], ["Java archives: app.jar"]),
        ([f"lib/{name}.jar" for name in "abcde"], ["Java archives: lib/a.jar, lib/b.jar, lib/c.jar and 2 more"]),
        (["bin/Shop.dll", "x.exe"], [".NET assemblies: bin/Shop.dll", "native libraries and programs: x.exe"]),
        (["lib/libcrypt.so.3"], ["native libraries and programs: lib/libcrypt.so.3"]),
        (["Gemfile.lock"], ["Ruby's packages: Gemfile.lock"]),
        (["go.sum"], ["Go's modules: go.sum"]),
        (["Cargo.lock", "composer.lock"], ["PHP's packages: composer.lock", "Rust's packages: Cargo.lock"]),
        (["yarn.lock"], ["npm's packages: yarn.lock"]),
        (["requirements.txt"], ["Python's packages: requirements.txt"]),
        (["index.html", "shop/till.py"], []),
    ],
    ids=lambda value: value[0] if value and isinstance(value, list) else "",
)
def test_parts_of_a_bundle_that_are_not_read_are_named(folder: Path, files: list[str], parts: list[str]) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    assert unknown(made(folder)) == [*((part, "not read") for part in parts), NOTHING]
    assert made(folder) == made(folder)


def test_a_list_of_packages_is_read_if_the_packages_lie_beside_it(folder: Path) -> None:
    install(folder, "flask", "License: MIT")
    (folder / "requirements.txt").write_text("flask")
    write_lock(folder, {"node_modules/a": {"version": "1.0.0"}})
    (folder / "package.json").write_text("{}")
    assert unknown(made(folder)) == []


def test_a_bill_that_a_build_wrote_may_call_itself_incomplete(folder: Path, tmp_path: Path) -> None:
    own = {"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [{"type": "library", "name": "a"}]}
    (tmp_path / "bom.json").write_text(json.dumps(own))
    assert unknown(made(folder, tmp_path / "bom.json")) == []
    (tmp_path / "bom.json").write_text(json.dumps(own | {"compositions": [{"aggregate": "incomplete"}]}))
    assert unknown(made(folder, tmp_path / "bom.json")) == [("the bill of materials", "is marked as incomplete")]
