#!/usr/bin/env python3
"""Prove an evidence pack of Interlock offline: python3 verify.py PACK --key PUBLIC.pem | --fingerprint SHA-256

This one file needs Python 3.9 or later and nothing else: copy it, read it, run it where you like. Exit status:
0 proven, 1 not proven (each finding names the file, the entry and what was expected), 2 pack or key unreadable,
3 consistent in itself, but nobody said whose key signed it: without --key and --fingerprint nothing is proven.

What is proven: what the key's owner signed is complete, in order, unchanged, and agrees with itself, from the artifact
over the plan, the votes and the permits to the hosts. What is not: that the key's owner told the truth when signing.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import struct
import sys
import zipfile
import zlib
from datetime import datetime, timedelta
from typing import Any, Callable, Iterator, Sequence  # noqa: UP035  # as Python 3.9 has them

MANIFEST, SEAL, CHAIN, HEADS = "manifest.json", "manifest.dsse.json", "chain.jsonl", "heads.jsonl"
PLAN, BALLOTS, RUN = "plan.json", "ballots.json", "run.json"
MANIFEST_TYPE = "application/vnd.interlock.manifest+json"
HEAD_TYPE = "application/vnd.interlock.chain-head+json"
PERMIT_TYPE = "application/vnd.interlock.permit+json"
WITNESS_TYPE = "application/vnd.interlock.witness+json"
WORDED_TYPE = "application/vnd.interlock.questions+json"
IN_TOTO, PROVENANCE = "application/vnd.in-toto+json", "https://slsa.dev/provenance/v1"
BOM = "https://cyclonedx.org/bom"
FIELDS = {"chain", "sequence", "at", "actor", "kind", "key", "payload", "previous", "hash"}
SAFE_PATH = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[\w.+@=~-]+(?:/[\w.+@=~-]+)*", re.ASCII)
INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z", re.ASCII)
MAX_PERMIT_AGE = timedelta(minutes=15)  # a permit is never older when it is used
DECISIONS = ("plan.decided", "acceptance.decided", "board.decided")
MOVES = ("traffic.shared", "traffic.switched", "traffic.restored")
EFFECTS = {  # what changes hosts or traffic: what its permit is for
    "wave.deployed": "deploy",
    "host.returned": "return",
    "baseline.restarted": "restart",
    "back_out.done": "back_out",
    **dict.fromkeys(MOVES, "traffic"),
}
HELD_BACK = ("No permit:", "The wave is halted:")  # how the error of a host begins that nothing was done to
SHOWN = 20  # findings of one check: what is wrong a thousand times is wrong for one reason

# --- Ed25519 (RFC 8032, section 5.1): points are (X, Y, Z, T) with x = X/Z, y = Y/Z, x*y = T/Z -----------------------

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
NEUTRAL = (0, 1, 1, 0)
Point = Any  # a tuple of four integers


def add(p: Point, q: Point) -> Point:
    """Add two points."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def decode_point(data: bytes) -> Point:
    """Read a point; ValueError for anything but the one encoding of a point on the curve."""
    y, sign = int.from_bytes(data, "little") & (2**255 - 1), int.from_bytes(data, "little") >> 255
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if len(data) != 32 or y >= P or (x * x - square) % P or (x == 0 and sign):
        raise ValueError("no point of the curve in its one encoding")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def encode_point(p: Point) -> bytes:
    """Write a point in its one encoding."""
    inverse = pow(p[2], P - 2, P)
    return int.to_bytes(p[1] * inverse % P | (p[0] * inverse % P & 1) << 255, 32, "little")


BASE = decode_point(int.to_bytes(4 * pow(5, P - 2, P) % P, 32, "little"))


def signature_holds(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a key signed a message: S is below L, and S*B - k*A is, byte for byte, R."""
    a, s = decode_point(key), int.from_bytes(signature[32:], "little")
    two = add(a, a)
    four = add(two, two)
    if len(signature) != 64 or s >= L or encode_point(add(four, four)) == encode_point(NEUTRAL):
        return False  # too long, another number for the same S, or a key for which anything is signed
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], 1, P - a[3])
    terms, result = (None, BASE, minus_a, add(BASE, minus_a)), NEUTRAL
    for bit in range(252, -1, -1):
        result = add(result, result)
        term = terms[(s >> bit & 1) + 2 * (k >> bit & 1)]
        result = add(result, term) if term else result
    return encode_point(result) == signature[:32]


# --- ECDSA with SHA-256 on P-256 (FIPS 186-5): points are (x, y), None is the neutral one; y*y = x*x*x - 3*x + B ------

Q, N = 2**256 - 2**224 + 2**192 + 2**96 - 1, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def plus(p: Point, q: Point) -> Point:
    """Add two points of P-256."""
    if p is None or q is None:
        return p or q
    if p[0] == q[0] and (p[1] + q[1]) % Q == 0:
        return None
    rise, run = (3 * p[0] * p[0] - 3, 2 * p[1]) if p == q else (q[1] - p[1], q[0] - p[0])
    slope = rise * pow(run, -1, Q) % Q
    x = (slope * slope - p[0] - q[0]) % Q
    return x, (slope * (p[0] - x) - p[1]) % Q


def point_of(data: bytes) -> Point:
    """Read a point of P-256; ValueError for anything else."""
    x, y = int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")
    if len(data) != 64 or x >= Q or y >= Q or (y * y - x * x * x + 3 * x - B) % Q:
        raise ValueError("no point of the curve in its one encoding")
    return x, y


def der_number(number: int) -> bytes:
    """Write a number as DER does, in at most 127 bytes."""
    data = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return bytes([2, len(data)]) + data


def ecdsa_holds(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a key signed a message: r is the x of u*G + v*key; of s and N - s, only the lower is taken."""
    middle = 4 + int.from_bytes(signature[3:4], "big")
    r, s = int.from_bytes(signature[4:middle], "big"), int.from_bytes(signature[middle + 2 :], "big")
    body = der_number(r) + der_number(s) if 0 < r < N and 0 < s <= N // 2 else b""
    if not body or signature != bytes([0x30, len(body)]) + body:
        return False  # a number out of range, or the same numbers written in another way
    inverse, own, result = pow(s, -1, N), point_of(key), None
    u, v = int.from_bytes(hashlib.sha256(message).digest(), "big") * inverse % N, r * inverse % N
    terms = (None, G, own, plus(G, own))
    for bit in range(255, -1, -1):
        result = plus(plus(result, result), terms[(u >> bit & 1) + 2 * (v >> bit & 1)])
    return result is not None and result[0] % N == r


# --- How things are written ------------------------------------------------------------------------------------------


class Refused(Exception):
    """Something is not as it must be; the text says what, and where."""


def canonical(value: Any) -> bytes:
    """Write JSON in the one way that digests are taken of: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    """Return a SHA-256 digest in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_json(data: bytes, where: str) -> Any:
    """Read canonical JSON; what could be read in two ways is refused."""
    try:
        value = json.loads(data)
        same = canonical(value) == data
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where}: is not JSON: {error}") from error
    if not same:
        raise Refused(f"{where}: is not as it was written: expected sorted keys, each once, and no spaces")
    return value


def read_lines(data: bytes, where: str) -> Iterator[tuple[str, Any]]:
    """Read a file with canonical JSON in each line: where it stands, and the value."""
    if data and not data.endswith(b"\n"):
        raise Refused(f"{where}: was cut: its last line has no end")
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        yield f"{where}, line {number}", read_json(line, f"{where}, line {number}")


def unbase64(text: str, where: str) -> bytes:
    """Read base64 in its one form."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        data = b""
    if base64.b64encode(data).decode() != text:
        raise Refused(f"{where}: expected base64 in its one form")
    return data


# How a public key's DER begins: what reads its point, and what says whether it signed something.
KINDS: dict[bytes, tuple[Callable[[bytes], Point], Callable[[bytes, bytes, bytes], bool]]] = {
    bytes.fromhex("302a300506032b6570032100"): (decode_point, signature_holds),
    bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"): (point_of, ecdsa_holds),
}


def kind_of(key: bytes) -> bytes:
    """Return how a public key's DER begins, which says its kind; Refused for a kind that Interlock has not."""
    for beginning in KINDS:
        if key.startswith(beginning):
            return beginning
    raise Refused("is not a public key in PEM, Ed25519 or ECDSA on P-256")


def read_pem(data: bytes, where: str) -> bytes:
    """Return the DER of a public key, Ed25519 or ECDSA on P-256."""
    match = re.fullmatch(rb"-----BEGIN PUBLIC KEY-----\s+([\w+/=\s]+)-----END PUBLIC KEY-----\s*", data)
    key = unbase64("".join(match.group(1).decode().split()), where) if match else b""
    try:
        kind = kind_of(key)
        KINDS[kind][0](key[len(kind) :])
    except ValueError as error:
        raise Refused(f"{where}: is {error}") from error
    except Refused as error:
        raise Refused(f"{where}: {error}") from error
    return key


def read_fingerprint(text: str) -> str:
    """Return a fingerprint as keys are compared by it."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise Refused(f"{text!r} is no fingerprint: expected the 64 hexadecimal digits of a SHA-256")
    return text.lower()


def instant(text: str) -> str:
    """Return an instant in UTC so that the order of texts is the order in time."""
    match = INSTANT.fullmatch(text)
    if not match:
        raise Refused(f"{text!r} is not an instant in UTC")
    return f"{match.group(1)}.{(match.group(2) or '').ljust(6, '0')}Z"


def span(begin: str, end: str) -> timedelta:
    """Return how long it is from one instant to another."""
    first, last = (datetime.fromisoformat(instant(text)[:-1]) for text in (begin, end))
    return last - first


class Pack:
    """An opened pack, and what was found wrong with it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.manifest: dict[str, Any] = {}
        self.keys: dict[str, bytes] = {}
        self.trusted: set[bytes] = set()
        self.witnesses: set[bytes] = set()
        self.entries: list[dict[str, Any]] = []
        self.findings: list[str] = []
        self.notes: list[str] = []

    def expect(self, holds: bool, finding: str) -> None:
        """Record a finding unless something holds."""
        if not holds:
            self.findings.append(finding)

    def compare(self, where: str, found: dict[str, Any], **expected: Any) -> None:
        """Record each field that is not as expected."""
        for field, value in expected.items():
            there = found.get(field, "nothing")
            self.expect(there == value, f"{where}: expected {field} {value}, found {there}")

    def file(self, path: str) -> bytes:
        """Return a file's bytes."""
        if path not in self.files:
            raise Refused(f"{path}: is missing")
        return self.files[path]

    def of(self, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
        """Return name and payload of each entry of some kinds, in the order of the chain."""
        return [(named(entry), entry["payload"]) for entry in self.entries if entry["kind"] in kinds]

    def last(self, kind: str) -> dict[str, Any]:
        """Return the payload of the last entry of a kind; an empty one if there is none."""
        found = self.of(kind)
        return found[-1][1] if found else {}

    def opened(self, envelope: Any, payload_type: str, where: str, trusted: set[bytes] | None = None) -> bytes:
        """Return what is in a DSSE envelope, if one of the trusted keys signed it; by default, the installation's."""
        trusted = self.trusted if trusted is None else trusted
        signatures = envelope["signatures"] if set(envelope) == {"payload", "payloadType", "signatures"} else []
        if [set(signature) for signature in signatures] != [{"keyid", "sig"}]:
            raise Refused(f"{where}: expected a DSSE envelope with one signature")
        self.compare(where, envelope, payloadType=payload_type)
        signature = signatures[0]
        key = self.keys.get(signature["keyid"])
        if key not in trusted:
            known = f"of SHA-256 {sha256(key)}, which is not trusted" if key else "that is not in keys/"
            raise Refused(f"{where}: is signed with a key {known}: {signature['keyid']}")
        payload, kind = unbase64(envelope["payload"], where), envelope["payloadType"].encode()
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        kind = kind_of(key)
        if not KINDS[kind][1](key[len(kind) :], signed, unbase64(signature["sig"], where)):
            raise Refused(f"{where}: the signature does not hold: the content is not what {signature['keyid']} signed")
        return payload


def named(entry: dict[str, Any]) -> str:
    """Name an entry for people."""
    return f"{CHAIN}, entry {entry['sequence']} ({entry['kind']})"


# --- The archive, its keys, its manifest -----------------------------------------------------------------------------

LOCAL, CENTRAL, END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")


def check_archive(pack: Pack, data: bytes) -> str:
    """Read the files, and compare every byte around them with what Interlock writes: so nothing hides there."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    position, directory = 0, b""
    for member in members:
        path = member.filename
        pack.expect(bool(SAFE_PATH.fullmatch(path)), f"{path}: is no path inside the pack")
        pack.expect(path not in pack.files, f"{path}: stands in the archive twice")
        start = member.header_offset + 30 + sum(struct.unpack_from("<2H", data, member.header_offset + 26))
        content = pack.files.setdefault(path, data[start : start + member.file_size])
        sizes, written = (zlib.crc32(content), len(content), len(content)), path.encode()
        header = LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, 33, *sizes, len(written), 0) + written
        there = data[position : position + len(header)]
        pack.expect(there == header, f"{path}: is not in the archive as it was written, at byte {position}")
        about = (20 | 3 << 8, 20, 0, 0, 0, 33, *sizes, len(written), 0, 0, 0, 0, 0o100644 << 16, position)
        directory += CENTRAL.pack(b"PK\1\2", *about) + written
        position += len(header) + len(content)
    end = END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(directory), position, 0)
    pack.expect(data[position:] == directory + end, f"the archive's directory, from byte {position}: is not as written")
    return f"{len(members)} files, {len(data)} bytes, nothing between or behind them"


def check_keys(pack: Pack, given: list[bytes], fingerprints: Sequence[str], witnesses: Sequence[bytes]) -> str:
    """Read the pack's public keys; if neither keys nor fingerprints were given, they are all there is to trust."""
    for path in sorted(path for path in pack.files if path.startswith("keys/")):
        pack.keys[path[5:].replace(".pem", "")] = read_pem(pack.files[path], path)
    pack.witnesses = set(witnesses) or set(pack.keys.values())
    pack.trusted = {*given, *(key for key in pack.keys.values() if sha256(key) in fingerprints)}
    if given or fingerprints:
        pack.expect(bool(pack.trusted), "keys/: expected a key with a fingerprint that was given, found none")
        return f"given: {shown(pack.trusted)}"
    pack.trusted = set(pack.keys.values())
    pack.notes.append(
        "WARNING: no --key and no --fingerprint was given, so the pack was checked with the key that it brings itself. "
        "Compare its fingerprint with one that you have from elsewhere: otherwise all of the pack may be made up."
    )
    return f"the pack's own: {shown(pack.trusted)}"


def shown(keys: set[bytes]) -> str:
    """Name keys by their fingerprints."""
    return ", ".join(f"SHA-256 {digest}" for digest in sorted(map(sha256, keys)))


def check_manifest(pack: Pack) -> str:
    """Compare the files with the signed manifest: none changed, missing, added or in another place."""
    try:
        signed = pack.opened(read_json(pack.file(SEAL), SEAL), MANIFEST_TYPE, SEAL)
        pack.expect(signed == pack.file(MANIFEST), f"{MANIFEST}: was changed: it is not what was signed in {SEAL}")
    except Refused as error:  # and go on: which files are not as listed is worth knowing, too
        pack.findings.append(str(error))
    pack.manifest = manifest = read_json(pack.file(MANIFEST), MANIFEST)
    pack.compare(MANIFEST, manifest, format="interlock-evidence/1")
    listed = {row["path"]: row for row in manifest["files"]}
    order = [MANIFEST, SEAL, *(row["path"] for row in manifest["files"])]
    pack.expect(len(set(order)) == len(order), f"{MANIFEST}: names a file twice")
    for path in sorted({*order, *pack.files}):
        if path not in pack.files:
            pack.findings.append(f"{path}: is missing: the manifest names it")
        elif path not in order:
            pack.findings.append(f"{path}: was added: the manifest does not name it")
        elif path in listed:
            found = {"sha256": sha256(pack.files[path]), "size": len(pack.files[path])}
            pack.compare(f"{path}: was changed", found, sha256=listed[path]["sha256"], size=listed[path]["size"])
    there = [path for path in order if path in pack.files]
    for path, expected in zip(pack.files, there):  # noqa: B905  # Python 3.9 has no strict, and lengths are told above
        pack.expect(path == expected, f"{path}: is out of order: expected {expected} in its place")
    return f"{len(order)} files as signed on {manifest['created']} for {manifest['chain']}"


# --- The chain -------------------------------------------------------------------------------------------------------


def check_chain(pack: Pack) -> str:
    """Follow the chain: sequence, predecessor's hash, own hash, time; nothing is recorded twice."""
    previous, at, keys = "0" * 64, "", set()
    for where, entry in read_lines(pack.file(CHAIN), CHAIN):
        if set(entry) != FIELDS:
            raise Refused(f"{where}: is no entry: expected the fields {', '.join(sorted(FIELDS))}")
        pack.entries.append(entry)
        where = f"{where} (entry {entry['sequence']}, {entry['kind']})"
        content = sha256(canonical({field: value for field, value in entry.items() if field != "hash"}))
        place = {"chain": pack.manifest["chain"], "sequence": len(pack.entries), "previous": previous, "hash": content}
        pack.compare(where, entry, **place)
        in_order = instant(entry["at"]) >= at or entry["kind"] == "clock.corrected"
        pack.expect(in_order, f"{where}: expected a time not before {at}, found {entry['at']}")
        pack.expect(entry["key"] not in keys, f"{where}: records {entry['key']} a second time")
        keys.add(entry["key"])
        previous, at = entry["hash"], instant(entry["at"])
    return f"{len(pack.entries)} entries, each naming its predecessor's hash"


def check_heads(pack: Pack) -> str:
    """Check that signed heads cover the chain to its end."""
    pack.expect(bool(pack.entries), f"{CHAIN}: has no entry")
    covered, count = 0, 0
    for where, envelope in read_lines(pack.file(HEADS), HEADS):
        head = read_json(pack.opened(envelope, HEAD_TYPE, where), where)
        number = head["sequence"]
        there = pack.entries[number - 1] if 0 < number <= len(pack.entries) else {"chain": "no entry", "hash": "none"}
        pack.compare(f"{where}, which seals entry {number}", there, chain=head["chain"], hash=head["hash"])
        covered, count = max(covered, number), count + 1
    for entry in pack.entries[covered:]:
        pack.findings.append(
            f"{named(entry)}: is not sealed yet: expected a signed head, the last is of entry {covered}"
        )
    return f"{count} signed heads, the last of entry {covered}"


# --- What the release claims -----------------------------------------------------------------------------------------


def check_artifact(pack: Pack) -> str:
    """Check that the attestations are about the artifact that was built; provenance and bill are the recorded ones."""
    built = pack.last("artifact.built")
    digest = built["bundle"]["sha256"] if built else None
    attested: dict[str, Any] = {}
    for path in sorted(path for path in pack.files if path.startswith("attestations/")):
        statement = read_json(pack.opened(read_json(pack.files[path], path), IN_TOTO, path), path)
        pack.compare(path, statement, _type="https://in-toto.io/Statement/v1")
        about = [subject["digest"].get("sha256") for subject in statement["subject"]]
        pack.expect(digest in about, f"{path}: expected a statement about the artifact {digest}, found {about}")
        if built and statement["predicateType"] == BOM:
            expected, bill = built["bom"]["sha256"], sha256(canonical(statement["predicate"]))
            pack.expect(bill == expected, f"{path}: expected the bill of materials {expected}, as built; found {bill}")
        attested[sha256(pack.files[path])] = statement
    if built:
        check_provenance(pack, built["provenance"]["sha256"], attested)
    kinds = {statement["predicateType"] for statement in attested.values()}
    return f"{digest or 'none was built'}; {len(kinds)} kinds of attestations"


def check_provenance(pack: Pack, expected: str, attested: dict[str, Any]) -> None:
    """Check that the provenance is there, and what else the build attested by its word."""
    found = [digest for digest, statement in attested.items() if statement["predicateType"] == PROVENANCE]
    there = ", ".join(found) or "none"
    pack.expect(expected in found, f"attestations/: expected the provenance {expected}, as built; found {there}")
    for left in attested[expected]["predicate"]["runDetails"]["byproducts"] if expected in found else ():
        digest = left.get("digest", {}).get("sha256")
        here = digest in attested or not left["name"].endswith(".dsse.json")
        pack.expect(here, f"attestations/: expected {left['name']}, which the provenance names, {digest}; found none")


def check_way_back(pack: Pack, plan: dict[str, Any]) -> None:
    """Check that a rollback goes to what the environment ran before, by signed entries of that release's own chain."""
    back, proof = plan["rolls_back"], pack.last("rollback.proven")
    where, entries = "rollback.proven", {entry["kind"]: entry for entry in proof.get("entries", ())}
    if set(entries) != {"rollout.frozen", "release.closed"}:
        raise Refused(f"{where}: expected the entries that froze and closed the release gone back to")
    heads = [read_json(pack.opened(one, HEAD_TYPE, where), where) for one in proof["heads"]]
    sealed = {(head["chain"], head["sequence"], head["hash"]) for head in heads}
    for entry in entries.values():
        content = sha256(canonical({field: value for field, value in entry.items() if field != "hash"}))
        pack.compare(f"{where}, {entry['kind']}", entry, chain=back["chain"], hash=content)
        place = (entry["chain"], entry["sequence"], entry["hash"])
        pack.expect(place in sealed, f"{where}, {entry['kind']}: expected a signed head that seals it, found none")
    closed, before = entries["release.closed"], entries["rollout.frozen"]["payload"]
    pack.compare(f"{where}, release.closed", closed, hash=back["closed"])
    same = {name: plan[name] for name in ("service", "version", "environment")}
    pack.compare(f"{where}, release.closed", closed["payload"], outcome="deployed", version=plan["version"])
    pack.compare(f"{where}, rollout.frozen", before, **same, rehearsal=False)
    pack.compare(f"{where}, bundle", before["bundle"], sha256=plan["bundle"]["sha256"])


def check_train(pack: Pack, plan: dict[str, Any]) -> None:
    """Check that a passenger is what the frozen manifest of its train names, by the train's own chain, signed."""
    where, proof, ticket = "train.proven", pack.last("train.proven"), plan["train"]
    entries, before = proof.get("entries", []), "0" * 64
    for number, entry in enumerate(entries, start=1):
        content = sha256(canonical({field: value for field, value in entry.items() if field != "hash"}))
        place = f"{where}, entry {number}"
        pack.compare(place, entry, chain=ticket["chain"], sequence=number, previous=before, hash=content)
        before = entry["hash"]
    frozen = [entry["payload"] for entry in entries if entry["kind"] == "manifest.frozen"]
    decided = [entry for entry in entries if entry["kind"] == "board.decided"]
    if not frozen or not decided:
        raise Refused(f"{where}: expected the entries that froze the manifest and decided on it")
    sealed: dict[str, Any] = {"chain": "", "sequence": 0, "hash": ""}
    for envelope in proof["heads"]:
        head = read_json(pack.opened(envelope, HEAD_TYPE, where), where)
        if head["chain"] == ticket["chain"] and head["sequence"] <= len(entries):
            sealed = max(sealed, head, key=lambda one: int(one["sequence"]))
    pack.expect(
        sealed["sequence"] >= frozen_at(entries) and entries[sealed["sequence"] - 1]["hash"] == sealed["hash"],
        f"{where}: expected a signed head that seals the manifest, found none",
    )
    manifest = {field: value for field, value in frozen[-1].items() if field != "digest"}
    pack.expect(sha256(canonical(manifest)) == ticket["manifest"], f"{where}: another manifest than the plan names")
    pack.compare(f"{where}, board.decided", decided[-1]["payload"], digest=ticket["manifest"], approved=True)
    named = [one for one in manifest["passengers"] if one["service"] == plan["service"]]
    if not named:
        raise Refused(f"{where}: expected {plan['service']} on the manifest, found nothing of it")
    pack.compare(f"{where}, manifest", named[0], version=plan["version"], commit=plan["commit"])
    pack.compare(PLAN, plan, requested_by="interlock_conductor", change_type=manifest["change_type"])


def frozen_at(entries: list[dict[str, Any]]) -> int:
    """Return the place of the entry that froze a train's manifest last."""
    return max(int(entry["sequence"]) for entry in entries if entry["kind"] == "manifest.frozen")


def cast(
    pack: Pack, decision: dict[str, Any], plan: dict[str, Any]
) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """Return the ballots that a decision counts, what they are about, and who of it does not vote, and until when."""
    if not plan.get("train"):
        terms = {"asked_by": [plan["requested_by"]], "excluded": plan["excluded"], "decide_by": plan["decide_by"]}
        return read_json(pack.file(BALLOTS), BALLOTS)["ballots"], decision["digest"], terms
    proof = pack.last("train.proven")
    manifest = [entry["payload"] for entry in proof["entries"] if entry["kind"] == "manifest.frozen"][-1]
    made = [*plan["excluded"], *manifest["excluded"]]
    asked_by = [plan["requested_by"], *manifest["requested_by"]]
    terms = {"asked_by": asked_by, "excluded": made, "decide_by": manifest["decide_by"]}
    return proof["ballots"], plan["train"]["manifest"], terms


def check_plan(pack: Pack) -> str:
    """Check that the plan is the frozen one, and made of what is on record before it."""
    frozen = pack.of("rollout.frozen")
    if not frozen:
        return "none was frozen"
    (where, payload), plan, digest = frozen[-1], read_json(pack.file(PLAN), PLAN), sha256(pack.file(PLAN))
    pack.expect(payload["digest"] == digest, f"{PLAN}: expected SHA-256 {payload['digest']}, as frozen; found {digest}")
    pack.expect(payload == {**plan, "digest": payload["digest"]}, f"{where}: is another plan than {PLAN}")
    pack.compare(f"{PLAN}, bundle", plan["bundle"], sha256=pack.last("artifact.built")["bundle"]["sha256"])
    pack.compare(PLAN, plan, requested_by=pack.last("release.requested").get("requested_by"))
    pack.compare("run.asked, the last one", pack.last("run.asked"), user=plan["requested_by"])
    if plan.get("rolls_back"):
        check_way_back(pack, plan)
    if plan.get("train"):
        check_train(pack, plan)
    before = pack.entries[: [entry["kind"] for entry in pack.entries].index("rollout.frozen")]
    for kind, field in (
        ("policy.resolved", "policy"),
        ("acceptance.decided", "acceptance"),
        ("quality.judged", "quality"),
    ):
        payloads = [entry["payload"] for entry in before if entry["kind"] == kind]
        digests = [sha256(canonical(one)) if field == "quality" else one["digest"] for one in payloads]
        found = plan[f"{field}_digest"]
        pack.expect(found in digests, f"{PLAN}: expected the {field}_digest of a {kind} before it, found {found}")
    return f"{digest}: {plan['service']} {plan['version']} to {plan['environment']}"


def check_quality(pack: Pack) -> str:
    """Check that each failure had a waiver, on record and in the plan, when permits to deploy were issued."""
    plan = pack.last("rollout.frozen")
    reports = [one for _, one in pack.of("quality.judged") if sha256(canonical(one)) == plan.get("quality_digest")]
    failures = {(one["suite"], one["expected"]) for report in reports for one in report["failures"]}
    if any(not report["success"] and not report["failures"] for report in reports):
        failures.add(("the review", "as a whole"))
    waivers = []  # that the board saw: what is not in the plan does not count
    for entry in pack.entries:
        payload = entry["payload"]
        if entry["kind"] == "quality.waived" and payload in plan.get("waivers", ()):
            waivers.append(payload)
        if entry["kind"] == "permit.issued" and payload["permit"]["purpose"] == "deploy":
            at = instant(entry["at"])
            holding = [one for one in waivers if instant(one["at"]) <= at < instant(one["until"])]
            for suite, expected in sorted(failures - {(one["suite"], one["expectation"]) for one in holding}):
                pack.findings.append(f"{named(entry)}: expected a waiver that holds of {suite}: {expected}; it failed")
    return f"{len(failures)} failed expectations, {len(waivers)} waivers"


def rehearsed(plan: dict[str, Any]) -> bool:
    """Say whether a plan changes the test environment only, for which nobody is asked."""
    return bool(plan["rehearsal"]) and plan["environment"] == "test"


def check_votes(pack: Pack) -> str:
    """Count the votes again, and check who voted, on what, and that whoever is to be asked was asked."""
    requester, texts = pack.last("release.requested").get("requested_by"), []
    for where, decision in pack.of(*DECISIONS):
        yes = {vote["user"] for vote in decision["votes"] if vote["choice"] == "Approve"} - {requester, None}
        needed = decision["approved"] and decision["required"]
        pack.expect(bool(yes) or not needed, f"{where}: expected an approval by somebody else than {requester}")
    plan, flow = pack.last("rollout.frozen"), pack.last("policy.resolved").get("flow", {})
    if plan and not rehearsed(plan) and not plan.get("rolls_back"):  # a rollback goes to what was accepted then
        check_asked(pack, flow)
    for where, decision in pack.of("board.decided"):
        pack.compare(where, decision, digest=plan["digest"], subject="board")
        if not rehearsed(plan):
            check_board(pack, where, decision, flow)
        if decision["required"]:
            approved, text = recount(pack, where, decision, plan)
            recorded = decision["approved"]
            pack.expect(approved == recorded, f"{where}: records approved={recorded}; counted again: {text}")
            texts.append(f"counted again: {text}")
    return "; ".join(texts) or "no board voted"


def check_witness(pack: Pack) -> str:
    """Check that Airflow's API server signed each answer that counts, and that it is to what was worded for people."""
    texts = [check_answers(pack, CHAIN, pack.entries, DECISIONS)]
    plan, proof = pack.last("rollout.frozen"), pack.last("train.proven")
    if plan.get("train"):
        texts.append(check_answers(pack, "train.proven", proof["entries"], ("board.decided",)))
    worded = words_of(pack, CHAIN, pack.entries)
    for row in read_json(pack.file(BALLOTS), BALLOTS)["ballots"] if worded else ():
        question = {field: row[field] for field in ("subject", "body", "assigned")}
        known = sha256(canonical(question)) in worded.get(row["task_id"], ())
        place = f"{BALLOTS}, {row['task_id']}[{row['map_index']}]"
        pack.expect(known or not row["user"], f"{place}: expected a question as it was worded, found another text")
    return "; ".join(texts)


def words_of(pack: Pack, place: str, entries: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return the digests of the questions that were worded for each task, by entries that the installation signed."""
    worded: dict[str, set[str]] = {}
    for entry in (entry for entry in entries if entry["kind"] == "question.worded"):
        where, payload = f"{place}, entry {entry['sequence']} (question.worded)", dict(entry["payload"])
        signed = pack.opened(payload.pop("envelope"), WORDED_TYPE, where)
        same = signed == canonical({"chain": entry["chain"], **payload})
        pack.expect(same, f"{where}: expected the questions that were signed, found others")
        worded.setdefault(payload["task_id"], set()).update(payload["questions"] if same else ())
    return worded


def check_answers(pack: Pack, place: str, entries: list[dict[str, Any]], decisions: Sequence[str]) -> str:
    """Check the answers of a chain, and that each vote that a decision counts is one of them."""
    worded, given = words_of(pack, place, entries), set()
    for entry in (entry for entry in entries if entry["kind"] == "answer.given" and "envelope" in entry["payload"]):
        where, payload = f"{place}, entry {entry['sequence']} (answer.given)", dict(entry["payload"])
        claim = read_json(pack.opened(payload.pop("envelope"), WITNESS_TYPE, where, pack.witnesses), where)
        said = {"kind": "answer.given", "chain": entry["chain"], "at": claim["at"], "what": payload}
        known = payload["question"] in worded.get(payload["task_id"], ())
        near = abs(span(claim["at"], entry["at"])) <= timedelta(minutes=1)
        pack.expect(claim == said and near, f"{where}: expected the answer that was signed, found another")
        pack.expect(known, f"{where}: expected an answer to a question as it was worded, found another text")
        if claim == said and near and known:
            given.add((payload["user"], payload["choice"]))
    if not worded and not given:
        return f"{place}: made before answers were signed"
    for entry in (entry for entry in entries if entry["kind"] in decisions):
        for vote in (vote for vote in entry["payload"]["votes"] if vote["user"]):
            there = (vote["user"], vote["choice"]) in given
            what = f"expected a signed answer of {vote['user']} ({vote['choice']}), as it came in; found none"
            pack.expect(there, f"{place}, entry {entry['sequence']} ({entry['kind']}): {what}")
    return f"{place}: {len(given)} answers, signed as they came in"


def check_asked(pack: Pack, flow: dict[str, Any]) -> None:
    """Check that management and the functional approvers were asked, if the policy's flow asks them."""
    planned, asked = pack.last("plan.made"), {"acceptance.decided": flow.get("acceptance")}
    major = planned["bump"] == "major" and flow.get("plan_approval_for_major")
    asked["plan.decided"] = major or planned["risk"]["score"] >= flow.get("plan_approval_from_risk", 101)
    for kind in (kind for kind, by_policy in asked.items() if by_policy):
        pack.compare(kind, pack.last(kind), required=True)


def check_board(pack: Pack, where: str, decision: dict[str, Any], flow: dict[str, Any]) -> None:
    """Check that the boards of the policy's flow, and whoever else has to decide by the plan, were asked."""
    plan = pack.last("rollout.frozen")
    boards = [f"board.yaml boards.{board}" for board in (flow.get("board"), *flow.get("further_boards", ())) if board]
    if decision["required"]:
        there = [demand["place"] for demand in decision["board"]["demands"]]
        for board in (board for board in boards if board not in there):
            found = ", ".join(there) or "none"
            pack.findings.append(f"{where}: expected a demand of {board}, which the policy asks; found {found}")
        ends = bool(plan["decide_by"] or plan.get("train"))
        pack.expect(ends, f"{where}: expected a plan that says until when there are votes, found none")
    else:
        pack.expect(not boards, f"{where}: expected votes by {', '.join(boards)}, which the policy asks")
        end = plan["decide_by"]  # of what rules on top of the flow ask, this is all that the chain has
        pack.expect(not end, f"{where}: expected votes until {end}, as the plan says; nobody was asked")


def seat_of(rule: dict[str, Any], vote: dict[str, Any]) -> str | None:
    """Return in whose seat somebody voted: their own, else that of the first member they stood in for on that day."""
    seats, user = [seat["user"] for seat in rule["seats"]], vote["user"]
    day = vote["at"][:10]
    held = [one["for"] for one in rule["delegations"] if one["to"] == user and one["from"] <= day <= one["until"]]
    return user if user in seats else min(held, default=None)


def recount(pack: Pack, where: str, decision: dict[str, Any], plan: dict[str, Any]) -> tuple[bool, str]:
    """Count again: one vote a seat, in time, by none who asked for the release or made it; the most careful stands.

    Of who made it and has a veto, a rejection counts: an author's name in a commit is no proof.
    """
    stored, digest, terms = cast(pack, decision, plan)
    rule, order = decision["board"], ("Reject", "Abstain", "Approve")
    asked_by, made = set(terms["asked_by"]), set(terms["excluded"])
    vetoes = {user for demand in rule["demands"] for user in demand["veto"]}
    about = {(row["user"], row["at"], row["choice"]) for row in stored if digest in row["body"]}
    gone = not plan.get("train") and read_json(pack.file(RUN), RUN).get("known") is False
    if gone:
        pack.notes.append(f"WARNING: by {RUN} Airflow had lost the run: the votes are those of the chain alone.")
    said: dict[str, tuple[str, str]] = {}
    for vote in (vote for vote in decision["votes"] if vote["at"] and vote["choice"] in order):
        known = gone or (vote["user"], vote["at"], vote["choice"]) in about
        pack.expect(known, f"{where}: expected the vote of {vote['user']} ({vote['choice']}) in {BALLOTS}, found none")
        seat = seat_of(rule, vote)
        in_time = not terms["decide_by"] or instant(vote["at"]) <= instant(terms["decide_by"])
        voted = {seat, vote["user"]}
        careful = vote["choice"] == "Reject" and seat in made & vetoes
        valid = not voted & asked_by and (careful or not voted & made)
        counts = known and in_time and vote["assigned"] in (seat, vote["user"]) and valid
        if seat and counts:
            answers = (vote["choice"], vote["user"]), said.get(seat, ("Approve", vote["user"]))
            said[seat] = min(answers, key=lambda answer: order.index(answer[0]))
    approving = [seat for seat in rule["seats"] if said.get(seat["user"], ("", ""))[0] == "Approve"]
    person = {said[seat["user"]][1]: seat for seat in reversed(approving)}  # who sits in two seats approves in one
    yes = {seat["user"]: seat["role"] for seat in person.values()}
    approved, texts = bool(yes), []
    for demand in rule["demands"]:
        roles = [role for user, role in yes.items() if user in demand["members"]]
        veto = [user for user in demand["veto"] if said.get(user, ("", ""))[0] == "Reject"]
        enough = all(roles.count(role) >= number for role, number in demand["require"].items())
        approved = approved and len(roles) >= demand["approvals"] and enough and not veto
        texts.append(f"{demand['title']}, {len(roles)} of {demand['approvals']} approvals")
        texts += [f"{roles.count(role)} of {number} of {role}" for role, number in demand["require"].items()]
        texts += [f"veto of {user}" for user in veto]
    voters = ", ".join(f"{user} {choice}" for choice, user in said.values()) or "nobody voted"
    return approved, f"{', '.join(texts)} ({voters}): {'approved' if approved else 'not approved'}"


def check_permits(pack: Pack) -> str:
    """Follow decision, permit, use and effect: nothing was changed but under a permit for it, by the approved plan."""
    permits: dict[str, dict[str, Any]] = {}
    used: dict[str, dict[str, Any]] = {}
    spent: set[str] = set()  # what a permit was used for is one report; the next needs another
    approved, shares = "no plan", dict[str, int]()
    for entry in pack.entries:
        where, kind, payload = named(entry), entry["kind"], entry["payload"]
        if kind == "board.decided":
            approved = payload["digest"] if payload["approved"] else "no plan"
        elif kind == "permit.issued":
            permit = payload["permit"]
            signed = pack.opened(payload["envelope"], PERMIT_TYPE, where)
            pack.expect(signed == canonical(permit), f"{where}: expected the permit that was signed, found another")
            pack.expect(permit["id"] not in permits, f"{where}: expected a new permit, found {permit['id']} again")
            permits[permit["id"]] = permit
            check_permit(pack, where, entry, approved)
        elif kind == "permit.used":
            check_use(pack, where, entry, permits, used)
            check_token(pack, where, payload["permit"], used)
            used[payload["permit"]["id"]] = payload["permit"]
        elif kind in EFFECTS and (kind not in MOVES or payload["weights"] != shares):
            purpose, shares = EFFECTS[kind], payload.get("weights", shares)
            wave = payload["number"] if purpose == "deploy" else None
            own = [one for one in used.values() if (one["purpose"], one["wave"]) == (purpose, wave)]
            fresh = [one for one in own if one["id"] not in spent]
            (check_move if kind in MOVES else check_effect)(pack, where, entry, fresh)
            tokens = [one.get("entered") for one in own]
            known = rehearsed(pack.last("rollout.frozen")) or payload.get("entered") in (None, *tokens)
            pack.expect(known, f"{where}: expected the token of a permit used before, found {payload.get('entered')}")
            spent |= {one["id"] for one in fresh}
    return f"{len(permits)} issued, {len(used)} used"


def check_permit(pack: Pack, where: str, entry: dict[str, Any], approved: str) -> None:
    """Check that a permit is of this release, and one that changes something of the approved plan and its hosts."""
    permit, plan = entry["payload"]["permit"], pack.last("rollout.frozen")
    pack.compare(where, permit, chain=entry["chain"])
    at, issued, length = entry["at"], permit["issued_at"], span(permit["issued_at"], permit["expires_at"])
    pack.expect(instant(issued) <= instant(at), f"{where}: expected a permit of before {at}, found one of {issued}")
    pack.expect(length <= MAX_PERMIT_AGE, f"{where}: expected a permit for {MAX_PERMIT_AGE} at most, found {length}")
    if permit["purpose"] != "inspect":
        part = plan["waves"][permit["wave"] - 1 : permit["wave"]] if permit["wave"] else plan["waves"]
        if permit["purpose"] == "restart":
            part = [(plan.get("canary") or {}).get("baseline", [])]
        elif permit["purpose"] == "return":  # after the release: some of its hosts
            part = [[host for wave in part for host in wave if host["address"] in permit["hosts"]]]
        hosts = [host["address"] for wave in part for host in wave]
        pack.compare(where, permit, environment=plan["environment"], plan=approved, bundle=plan["bundle"]["sha256"])
        pack.compare(where, permit, hosts=hosts)
    if permit["purpose"] in ("deploy", "restart"):  # the way back is open although the catalogue was changed
        pack.compare(where, permit, catalogue=plan["policy_digest"])


def check_use(
    pack: Pack, where: str, entry: dict[str, Any], permits: dict[str, dict[str, Any]], used: dict[str, dict[str, Any]]
) -> None:
    """Check that a permit was used as it was issued, once, and before it ran out."""
    permit = entry["payload"]["permit"]
    pack.expect(permits.get(permit["id"]) == permit, f"{where}: expected a permit issued before, found another")
    pack.expect(permit["id"] not in used, f"{where}: the permit {permit['id']} was used before")
    in_time = instant(entry["at"]) <= instant(permit["expires_at"])
    pack.expect(in_time, f"{where}: expected its use until {permit['expires_at']}, found {entry['at']}")


def check_token(pack: Pack, where: str, permit: dict[str, Any], used: dict[str, dict[str, Any]]) -> None:
    """Check that whoever used a permit came after all who did before; permits of before there were tokens have none."""
    entered = permit.get("entered")
    before = [one["entered"]["token"] for one in used.values() if one.get("entered")]
    if entered is None:
        changes = permit["purpose"] != "inspect" and bool(before)
        pack.expect(not changes, f"{where}: expected a token, as permits before it have, found none")
    else:
        grown = entered["token"] >= max(before, default=1)
        pack.expect(grown, f"{where}: expected a token of {max(before, default=1)} or higher, found {entered['token']}")


def check_effect(pack: Pack, where: str, entry: dict[str, Any], permits: list[dict[str, Any]]) -> None:
    """Check that only the artifact, or what was there before, came to hosts, and only under permits used before."""
    plan, report, purpose = pack.last("rollout.frozen"), entry["payload"], EFFECTS[entry["kind"]]
    digest, granted = plan["bundle"]["sha256"], {host for permit in permits for host in permit["hosts"]}
    forward, release = purpose in ("deploy", "return"), f"{plan['version']}-{digest[:12]}"
    if forward:
        pack.compare(where, {"digest": digest, **report}, digest=digest, release=release)
    for result in report["results"]:
        host, ended = f"{where}, host {result['host']}", result["outcome"]
        well = ended in ("deployed", "unchanged", "backed_out")
        if well:
            pack.compare(host, result, after=release if forward else plan["back_out"]["releases"].get(result["host"]))
        # Only a wave has its permit before the first host: elsewhere, none is given and no host reached, or both.
        reached = purpose == "deploy" or well or result["before"] or result["after"]
        allowed = rehearsed(plan) or result["host"] in granted or not reached
        pack.expect(allowed, f"{host}: expected a permit to {purpose} used before, found none")


def check_move(pack: Pack, where: str, entry: dict[str, Any], permits: list[dict[str, Any]]) -> None:
    """Check that traffic was given other shares under a permit used since the last time, and by the plan's rules."""
    plan = pack.last("rollout.frozen")
    allowed = rehearsed(plan) or bool(permits)
    pack.expect(allowed, f"{where}: expected a permit to move traffic used since it was moved last, found none")
    if entry["kind"] != "traffic.restored":  # the way back is open although the catalogue was changed
        for permit in permits[-1:]:
            pack.compare(f"{where}, permit {permit['id']}", permit, catalogue=plan["policy_digest"])


def check_outcome(pack: Pack) -> str:
    """Check that the release was closed as what its entries bear out; tell what an auditor should look at."""
    outcome, plan = pack.last("release.closed").get("outcome"), pack.last("rollout.frozen")
    waves = [wave for _, wave in pack.of("wave.deployed")]
    last = {one["instance_id"]: (wave["number"], one) for wave in waves for one in wave["results"]}
    reached = {instance for instance, (_, one) in last.items() if one["outcome"] in ("deployed", "unchanged")}
    if outcome in ("deployed", "rehearsed"):
        check_arrival(pack, plan, reached, tolerated(plan, last))
    if outcome == "backed_out":
        back = pack.last("back_out.done")
        pack.compare("back_out.done", back, verified=True)
        returned = {
            one["instance_id"] for one in back.get("results", ()) if one["outcome"] in ("backed_out", "unchanged")
        }
        for host in (host for wave in plan["waves"] for host in wave):
            there = host["instance_id"] in returned
            pack.expect(there, f"release.closed: expected a back-out that took {host['name']} back; found none")
    if outcome in ("rejected", "expired"):
        for where, _ in pack.of(*EFFECTS):
            pack.findings.append(f"release.closed: expected no change by a release that was {outcome}, found {where}")
    for where, payload in pack.of("finding", "quality.waived"):
        pack.notes.append(f"{where}: {payload.get('what') or payload.get('reason')}")
    if not outcome:
        pack.notes.append("The release was not closed when this pack was made.")
    return f"closed as {outcome}; {len(reached)} hosts were brought to the release" if outcome else "not closed"


def tolerated(plan: dict[str, Any], last: dict[str, tuple[int, dict[str, Any]]]) -> set[str]:
    """Return the hosts that failed, if the plan bears so many: it bears none that was held back, and no canary."""
    failed = {instance: (number, one) for instance, (number, one) in last.items() if one["outcome"] == "failed"}
    held = any(words in one["error"] for _, one in failed.values() for words in HELD_BACK)
    untried = bool(plan.get("canary")) and any(number == 1 for number, _ in failed.values())
    most = (plan.get("strategy") or {}).get("max_failed", 0)
    return set() if held or untried or len(failed) > most else set(failed)


def check_arrival(pack: Pack, plan: dict[str, Any], reached: set[str], borne: set[str]) -> None:
    """Check that a release that went well was approved, came to every host, was verified, and was not taken back."""
    closed = pack.last("release.closed")
    pack.compare("release.closed", closed, outcome="rehearsed" if rehearsed(plan) else "deployed")
    for where, decision in (one for kind in DECISIONS for one in pack.of(kind)[-1:]):
        pack.compare(where, decision, approved=True)
    for host in (host for wave in plan["waves"] for host in wave):
        if host["instance_id"] in borne:
            pack.notes.append(f"release.closed: {host['name']} failed, which the plan's error budget bears")
            continue
        here = host["instance_id"] in reached
        pack.expect(here, f"release.closed: expected a wave that brought {host['name']} to the release; found none")
    pack.compare("verification.judged", pack.last("verification.judged"), success=True)
    for where, _ in pack.of("back_out.done"):
        pack.findings.append(f"release.closed: expected no back-out of a release that was deployed, found {where}")


# --- The report ------------------------------------------------------------------------------------------------------

CHECKS: dict[str, Callable[..., str]] = {
    "archive": check_archive,
    "keys": check_keys,
    "manifest": check_manifest,
    "chain": check_chain,
    "seals": check_heads,
    "artifact": check_artifact,
    "plan": check_plan,
    "quality": check_quality,
    "votes": check_votes,
    "witness": check_witness,
    "permits": check_permits,
    "outcome": check_outcome,
}


def verify(
    data: bytes,
    keys: list[bytes],
    say: Callable[[str], None],
    fingerprints: Sequence[str] = (),
    witnesses: Sequence[bytes] = (),
) -> bool:
    """Check a pack's bytes, say what was found, and return whether nothing speaks against it.

    It is proven only if keys or fingerprints were given: else anybody may have signed it.
    """
    pack, total = Pack(), 0
    for title, check in CHECKS.items():
        try:
            text = check(pack, *{"archive": (data,), "keys": (keys, fingerprints, witnesses)}.get(title, ()))
        except Refused as error:
            pack.findings.append(str(error))
        except Exception as error:  # whatever breaks a check is a pack that does not prove what it should
            pack.findings.append(f"{title}: cannot be checked: {type(error).__name__}: {error}")
        say(f"FAILED  {title}" if pack.findings else f"ok      {title:9} {text}")
        for finding in pack.findings[:SHOWN]:
            say(f"        - {finding}")
        if len(pack.findings) > SHOWN:
            say(f"        - and {len(pack.findings) - SHOWN} more")
        total += len(pack.findings)
        pack.findings.clear()
    for note in pack.notes:
        say(f"note    {note}")
    if total:
        say(f"NOT PROVEN: {total} findings.")
    elif keys or fingerprints:
        say("PROVEN.")
    else:
        own = f"CONSISTENT, and signed by a key that nobody vouches for: {shown(pack.trusted)}."
        say(f"{own} With --key or --fingerprint of one that you trust it can be proven.")
    return not total


def printed(line: str) -> None:
    """Print a line in which nothing steers the terminal or turns the text."""
    print("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line))


def main() -> int:
    """Read the command line, verify the pack, and return the exit status."""
    parser = argparse.ArgumentParser(description="Prove an evidence pack of Interlock, offline.")
    parser.add_argument("pack", help="the pack (.zip)")
    parser.add_argument("--key", action="append", default=[], help="a public key that you trust (PEM); may be repeated")
    parser.add_argument(
        "--fingerprint", action="append", default=[], help="the SHA-256 of a public key that you trust (its DER)"
    )
    parser.add_argument(
        "--witness",
        action="append",
        default=[],
        help="the public key with which Airflow's API server signs answers (PEM); none: the keys in the pack",
    )
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    contents = {}
    try:
        for path in (arguments.pack, *arguments.key, *arguments.witness):
            with open(path, "rb") as file:
                contents[path] = file.read()
        keys = [read_pem(contents[path], path) for path in arguments.key]
        witnesses = [read_pem(contents[path], path) for path in arguments.witness]
        fingerprints = [read_fingerprint(text) for text in arguments.fingerprint]
    except (OSError, ValueError, Refused) as error:
        printed(f"Cannot begin: {error}")
        return 2
    if not verify(contents[arguments.pack], keys, printed, fingerprints, witnesses):
        return 1
    return 0 if keys or fingerprints else 3


if __name__ == "__main__":
    sys.exit(main())
