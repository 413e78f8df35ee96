"""Files of signed statements: read strictly, whatever form they have, and against a root that is the pinned one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.prebuilt._sigstore import pinned_root
from interlock.adapters.prebuilt.statements import Read, read_statements, unusable_keys
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PinnedKey, PrebuiltRules
from interlock.domain.catalogue.prebuilt_file import TrustedRoot
from interlock.domain.errors import DigestMismatch
from tests.factories import pipelines
from tests.factories.pipelines import Pipeline
from tests.factories.sigstore import IDENTITY, Sigstore

STATEMENT = pipelines.statement("a" * 64, pipelines.provenance())


def pinned(folder: Path, store: Sigstore) -> PrebuiltRules:
    (folder / "root.json").write_bytes(store.trusted_root)
    root = TrustedRoot(file="root.json", sha256=sha256_of(store.trusted_root))
    return PrebuiltRules(identities=(IDENTITY,), trusted_root=root)


def read(data: bytes | dict[str, Any], rules: PrebuiltRules, folder: Path) -> Read:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return read_statements(text, "p.json", rules, pinned_root(rules, folder))


def test_statements_come_alone_or_line_by_line_or_as_github_lists_them(tmp_path: Path) -> None:
    store = Sigstore()
    bundle, rules = store.bundle(STATEMENT), pinned(tmp_path, store)
    lines = b"\n".join([json.dumps(bundle).encode()] * 2)
    for data, many in ((bundle, 1), (lines, 2), ({"attestations": [{"bundle": bundle}]}, 1)):
        found = read(data, rules, tmp_path)
        assert [one.signer for one in found.signed] == ["github"] * many
        assert found.faults == ()


def test_of_several_statements_each_that_does_not_count_is_named(tmp_path: Path) -> None:
    ours, other = Pipeline(), Pipeline()
    data = b"\n".join([other.envelope(STATEMENT), ours.envelope(STATEMENT)])
    found = read(data, ours.rules, tmp_path)
    assert [one.signer for one in found.signed] == ["jenkins"]
    assert found.faults == ("p.json, statement 1: no pinned key of policy.yaml signed it (pinned: jenkins)",)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "is not UTF-8"),
        (b"no json", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"{}", "is neither a DSSE envelope nor a Sigstore bundle"),
        (b'{"payloadType": "a", "payloadType": "b"}', "'payloadType' stands in it twice"),
        (b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}', "pins no Sigstore"),
    ],
)
def test_what_is_no_statement_is_told(tmp_path: Path, data: bytes, why: str) -> None:
    found = read(data, Pipeline().rules, tmp_path)
    assert found.signed == ()
    assert why in found.faults[0]


def test_a_bundle_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    store = Sigstore()
    strange = {**store.bundle(STATEMENT), "verificationMaterial": {"certificate": 7}}
    found = read(strange, pinned(tmp_path, store), tmp_path)
    assert found.signed == ()
    assert "its Sigstore bundle" in found.faults[0]


def test_the_pinned_sigstore_is_the_one_in_the_policy(tmp_path: Path) -> None:
    rules = pinned(tmp_path, Sigstore())
    (tmp_path / "root.json").write_bytes(Sigstore().trusted_root)
    with pytest.raises(DigestMismatch, match=r"root\.json has SHA-256 .* is pinned"):
        pinned_root(rules, tmp_path)
    (tmp_path / "root.json").unlink()
    with pytest.raises(DigestMismatch, match=r"root\.json cannot be read"):
        pinned_root(rules, tmp_path)


def test_a_pinned_file_that_is_no_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_bytes(b"{}")
    root = TrustedRoot(file="root.json", sha256=sha256_of(b"{}"))
    with pytest.raises(DigestMismatch, match="is no trusted root of Sigstore"):
        pinned_root(PrebuiltRules(identities=(IDENTITY,), trusted_root=root), tmp_path)


def test_keys_that_cannot_verify_are_named() -> None:
    text = base64.b64encode(b"no key").decode()
    broken = PinnedKey(
        name="broken", key=f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n", builders=("x",)
    )
    assert [*unusable_keys(PrebuiltRules(keys=(Pipeline().pinned, broken)))] == [(1, "it cannot be read")]
