"""What an API server says of itself, for ``interlock doctor`` and for the permits of releases.

Like Airflow's own ``/api/v2/version`` it needs no token: it names versions and digests, and nothing that must stay
secret.
"""

from __future__ import annotations

import logging
from typing import Any

from cachetools import TTLCache, cached

import interlock
from interlock.adapters.catalogue.catalogue import load_service, version_of
from interlock.adapters.ledger.ledger import open_as_witness
from interlock.adapters.signing.witness import witness_signer
from interlock.domain.change.effective import digests_by_type
from interlock.domain.errors import ReleaseError
from interlock.domain.permits.installation import BY_NAME, BY_NUMBER
from interlock.locations import catalogue_folder

log = logging.getLogger(__name__)

REMEMBERED = 5
"""Seconds for which it is not worked out again, however often it is asked."""
MAX_SERVICES = 256


def about_this_server(app: Any, service: str = "") -> dict[str, Any]:
    """Return the version of Interlock and of the catalogue, the id of the key that signs answers, and what guards it.

    :param app: the server's; its middlewares say whether the guard is among them.
    :param service: whose rules are to be named, by change type, as digests; empty: none.
    """
    from airflow.api_fastapi.app import get_auth_manager_cls

    rules = {"rules": _rules(service)} if service else {}
    return {"detail": "guarded", **_about(), **kept_by(get_auth_manager_cls(), app), **rules}


@cached(TTLCache(maxsize=1, ttl=REMEMBERED))
def _about() -> dict[str, str]:
    return {
        "version": interlock.__version__,
        "catalogue": version_of(catalogue_folder()),
        "witness_key": _witness_key(),
    }


@cached(TTLCache(maxsize=MAX_SERVICES, ttl=REMEMBERED))
def _rules(service: str) -> dict[str, str]:
    try:
        return digests_by_type(load_service(catalogue_folder(), service).of(service))
    except ReleaseError as error:
        log.warning("The rules of %s cannot be read: %s", service, error)
        return {}


def kept_by(auth_manager: type, app: Any) -> dict[str, str]:
    """Return what keeps people from editing releases here, and how the auth manager knows people.

    :param app: the server's; its middlewares say whether the guard is among them.
    """
    from interlock.console.control.guard import ReleaseGuard, is_needed, knows_by_number

    if not is_needed(auth_manager):
        return {"guard": "auth manager", "people": BY_NAME}
    guarded = any(one.cls is ReleaseGuard for one in getattr(app, "user_middleware", ()))
    return {"guard": "plugin" if guarded else "", "people": BY_NUMBER if knows_by_number(auth_manager) else BY_NAME}


def _witness_key() -> str:
    try:
        return witness_signer().key_id if open_as_witness() else ""
    except (ReleaseError, OSError) as error:
        log.warning("Answers cannot be signed: %s", error)
        return ""
