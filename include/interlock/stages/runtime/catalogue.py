"""The catalogue as a release began with it: its digest, and the refusal to go on with another."""

from __future__ import annotations

from interlock.domain.canonical import sha256_of
from interlock.domain.errors import PolicyViolation

from . import resources


def catalogue_digest(service: str) -> str:
    """Return the digest of everything that the catalogue says now about a service, its policy and its boards."""
    policy, board, described = resources.catalogue_of(service)
    parts = {"policy": policy, "board": board, "service": described}
    return sha256_of({name: part.model_dump(mode="json") for name, part in parts.items()})


def refuse_changed_catalogue(service: str, digest: str) -> None:
    """Refuse to go on with a release whose catalogue is no longer the one that it was planned and decided with.

    :raises PolicyViolation: the catalogue changed since the release began.
    """
    if catalogue_digest(service) != digest:
        raise PolicyViolation(
            f"The catalogue's policy.yaml, board.yaml or services/{service}.yaml changed after this release started.",
            rule="a release is deployed with the catalogue with which it was approved",
            who="the release manager",
            next_step="trigger the release again, so that it is planned and approved with the current catalogue",
        )
