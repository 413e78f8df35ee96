"""Artifacts that a service's own pipeline built: what the service's file and the policy say about them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from interlock.domain.canonical import Model, Sha256

from .values import Line, RegistryId, RelativePath, each_once, named_twice

StoreKind = Literal["s3", "https", "oci", "python", "npm", "maven"]
"""Where a pipeline leaves artifacts."""

Claim = Literal["provenance", "builder", "source", "commit", "workflow", "entry_point", "tests", "coverage", "bom"]
"""What a pipeline says about an artifact, and what is verified."""

USUAL_CLAIMS: tuple[Claim, ...] = ("provenance", "builder", "source", "commit")
"""What is demanded of a tier of which the policy says nothing."""

PLACEHOLDERS = ("{version}", "{commit}", "{artifact}")
"""What a path in the service's file may leave open: the version, the pinned commit, the artifact's digest."""


def _only_known_placeholders(value: str) -> str:
    left = value
    for known in PLACEHOLDERS:
        left = left.replace(known, "")
    if "{" in left or "}" in left:
        raise ValueError(f"may leave open {', '.join(PLACEHOLDERS)} and nothing else")
    if value.startswith("/") or "://" in value or any(part in (".", "..") for part in value.split("/")):
        raise ValueError("is a path below the address of the connection, without . and ..")
    return value


Place = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_.@:+{}/~%-]{1,1024}$"),
    AfterValidator(_only_known_placeholders),
    Field(description="A path below the address of the connection; {version}, {commit} and {artifact} are filled in"),
]


class Prebuilt(Model):
    """An artifact that the service's own pipeline built and tested. A release takes it by its digest."""

    tool: Literal["prebuilt"]
    store: StoreKind = Field(description="Where the pipeline leaves the artifact")
    connection: RegistryId = Field(
        description="The Airflow connection of this place, one of prebuilt.stores of policy.yaml"
    )
    artifact: Place = Field(
        description="s3: the key; https: the path; oci: the repository; python: the project; npm: the package; maven: "
        "group:artifact:extension, or group:artifact:extension:classifier"
    )
    contents: Literal["bundle", "file"] | None = Field(
        None,
        description="bundle: an archive (tar.gz or zip) whose contents are the release; file: the artifact is one file "
        "of the release, beside the appspec.yml of the commit. Default: file for .jar, .war, .ear and .whl, otherwise "
        "bundle",
    )
    strip: int = Field(
        0, ge=0, le=3, description="Number of folders around the contents of the archive that are left out"
    )
    statements: tuple[Place, ...] = Field(
        (),
        max_length=20,
        description="Signed statements about the artifact: DSSE envelopes or Sigstore bundles, one or one per line",
    )
    junit: tuple[Place, ...] = Field(
        (), max_length=100, description="JUnit reports, which the provenance names as byproducts with their digests"
    )
    coverage: Place | None = Field(None, description="A coverage report: Cobertura, JaCoCo, Clover or LCOV; likewise")
    bom: Place | None = Field(None, description="A CycloneDX JSON file; likewise")
    workflow: Line | None = Field(
        None, description="The workflow that builds releases, as its provenance names it: .github/workflows/release.yml"
    )
    entry_point: Line | None = Field(None, description="The job or target in it, as its provenance names it")
    max_mib: int = Field(1024, ge=1, le=4096, description="Maximum size of the artifact, in MiB")

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.store == "maven" and not 2 <= self.artifact.count(":") <= 3:
            raise ValueError("artifact: maven needs group:artifact:extension, such as org.example:shop:tar.gz")
        if self.store in ("s3", "https") and not any(one in self.artifact for one in PLACEHOLDERS):
            raise ValueError(f"artifact: each release has an artifact of its own; name it with {PLACEHOLDERS[0]}")
        return self


class PinnedKey(Model):
    """A public key with which a pipeline signs its statements."""

    name: Line
    key: str = Field(
        max_length=4096,
        pattern=r"^-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+-----END PUBLIC KEY-----\n?$",
        description="PEM: Ed25519, ECDSA on P-256 or P-384, or RSA with at least 2048 bits",
    )
    builders: tuple[Line, ...] = Field(min_length=1, description="Builder ids that this key may sign for")


class PinnedIdentity(Model):
    """An identity to which a pinned Sigstore issues certificates."""

    name: Line
    issuer: Line = Field(description="The OIDC issuer, such as https://token.actions.githubusercontent.com")
    subjects: tuple[Line, ...] = Field(
        min_length=1,
        description="Subjects of the certificate; * stands for any text without a slash, ** for any text: "
        "https://github.com/spoke-wheel/*/.github/workflows/release.yml@refs/tags/*",
    )
    builders: tuple[Line, ...] = Field(min_length=1, description="Builder ids that it may sign for")


class TrustedRoot(Model):
    """The Sigstore whose certificates and logs count."""

    file: RelativePath = Field(description="A trusted_root.json in the folder of the catalogue")
    sha256: Sha256 = Field(description="Digest of this file: a changed file is refused")


class PrebuiltRules(Model):
    """From where services may take artifacts that were built elsewhere, and who may speak for them."""

    stores: Annotated[tuple[RegistryId, ...], AfterValidator(each_once)] = Field(
        (), description="Airflow connections of places that services may name; empty: no service may take artifacts"
    )
    keys: tuple[PinnedKey, ...] = ()
    identities: tuple[PinnedIdentity, ...] = ()
    trusted_root: TrustedRoot | None = Field(None, description="Of the Sigstore that signs for the identities")

    @property
    def signers(self) -> tuple[str, ...]:
        """The names of the pinned keys and identities."""
        return (*(one.name for one in self.keys), *(one.name for one in self.identities))

    @model_validator(mode="after")
    def _each_signer_is_one(self) -> Self:
        if twice := named_twice(self.signers):
            raise ValueError(f"{twice} is the name of two signers")
        if self.identities and self.trusted_root is None:
            raise ValueError("identities need trusted_root: the certificates of which Sigstore count")
        return self
