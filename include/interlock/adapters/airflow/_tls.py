"""The certificate authorities that this machine trusts, for clients of Airflow's APIs."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def authorities(trust_env: bool = True) -> ssl.SSLContext:
    """Return what HTTPX trusts by itself, read once in a process: it takes longer than most requests.

    :param trust_env: whether the environment may name other authorities.
    """
    return httpx.create_ssl_context(trust_env=trust_env)
