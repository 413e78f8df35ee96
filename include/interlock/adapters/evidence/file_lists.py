"""The files that a release consists of, proven: by the provenance of its build, or by the bundle's own bytes."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from interlock.adapters.artifacts import bundle
from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.signing.signing import verified_statement
from interlock.domain.errors import DigestMismatch, ReleaseError
from interlock.domain.hosts.released_files import ReleasedFiles
from interlock.domain.records import Artifact

from . import attestation

log = logging.getLogger(__name__)


def released_files(artifact: Artifact, store: ArtifactStore, key: bytes) -> ReleasedFiles:
    """Return the files of an artifact with their digests.

    A bundle whose provenance names no list of them, or was signed with another key, is read itself, as a whole.

    :param key: the installation's public key, PEM: a list counts only in what it signed about this bundle.
    """
    try:
        return _by_provenance(artifact, store, key)
    except (ReleaseError, ValidationError, LookupError) as error:
        log.info("The files of %s are listed from its bundle: %s", artifact.release, error)
    with TemporaryDirectory(prefix="interlock-") as folder:
        return bundle.list_files(store.get_file(artifact.bundle, Path(folder, "bundle.tar.gz")))


def _by_provenance(artifact: Artifact, store: ArtifactStore, key: bytes) -> ReleasedFiles:
    statement = verified_statement(store.get_bytes(artifact.provenance), key)
    if [one["digest"]["sha256"] for one in statement["subject"]] != [artifact.bundle.sha256]:
        raise DigestMismatch(f"The provenance is about another artifact than {artifact.release}.")
    for listed in attestation.named_byproducts(statement, attestation.FILE_LIST):
        return ReleasedFiles.model_validate_json(store.get_bytes(listed))
    raise LookupError("its provenance names no list of files")
