"""What an API server says of itself, for ``interlock doctor``.

Like Airflow's own ``/api/v2/version`` it needs no token: it names versions, and nothing that must stay secret.
"""

from __future__ import annotations

import logging

from cachetools import TTLCache, cached

import interlock
from interlock.adapters.catalogue.catalogue import version_of
from interlock.adapters.ledger.ledger import open_as_witness
from interlock.adapters.signing.witness import witness_signer
from interlock.domain.errors import ReleaseError
from interlock.locations import catalogue_folder

log = logging.getLogger(__name__)

REMEMBERED = 5
"""Seconds for which it is not worked out again, however often it is asked."""


@cached(TTLCache(maxsize=1, ttl=REMEMBERED))
def about_this_server() -> dict[str, str]:
    """Return the version of Interlock and of the catalogue, and the id of the key that signs answers; empty: none."""
    return {
        "version": interlock.__version__,
        "catalogue": version_of(catalogue_folder()),
        "witness_key": _witness_key(),
    }


def _witness_key() -> str:
    try:
        return witness_signer().key_id if open_as_witness() else ""
    except (ReleaseError, OSError) as error:
        log.warning("Answers cannot be signed: %s", error)
        return ""
