"""Addresses of repositories: which transports are allowed, and how git gets a password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from interlock.domain.errors import SourceError

SCHEMES = ("https", "ssh", "file", "git")
"""The transports that a repository may be fetched by."""
_SCP_FORM = re.compile(
    r"(?!(?:https?|ssh|file|git|ext|fd|ftps?):)([A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:[^:].*"
)


def public_url(url: str) -> str:
    """Return a repository's URL without any password, to be shown and recorded."""
    parts = _parse_url(url)
    if parts is None or "@" not in parts.netloc:
        return url
    login, host = parts.netloc.rpartition("@")[::2]
    # In https the login alone may be a token; in ssh it is part of the address.
    kept = "" if parts.scheme in ("http", "https") else login.partition(":")[0] + "@"
    return urlunsplit(parts._replace(netloc=kept + host))


def _parse_url(url: str) -> SplitResult | None:
    """Parse a URL; None if it is not a URL, or has invalid characters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    plain = not re.search(r"[\x00-\x20]", url) and url.startswith(f"{parts.scheme}://")
    return parts if plain and not (parts.hostname or "").startswith("-") else None


def fetch_address(url: str, login: str | None, password: str | None) -> tuple[str, str | None, str | None]:
    """Return what git is given, and the credentials that were in the URL or beside it; refuse other transports."""
    if re.fullmatch(r"/[^\x00-\x1f]*", url):
        return f"file://{url}", None, None
    parts = _parse_url(url)
    if parts and parts.scheme in SCHEMES and (parts.netloc or parts.scheme == "file"):
        given = [unquote(text) if text else None for text in (parts.username, parts.password)]
        return public_url(url), login or given[0], password or given[1]
    if "://" not in url and _SCP_FORM.fullmatch(url) and not re.search(r"[\x00-\x20]", url):
        return url, None, None
    raise SourceError(
        f"{public_url(url)!r} is not the address of a repository.",
        rule=f"a repository is fetched by {', '.join(SCHEMES)} only",
        who="the platform engineer",
        next_step="correct the host of the source's connection",
    )


def credential_settings(address: str, login: str | None, password: str | None) -> dict[str, str]:
    """Return settings that give git the password for this one host."""
    if not password or not address.startswith("https://"):
        return {}
    parts = urlsplit(address)
    # The password is in the environment, which only this user's processes can read.
    helper = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$SOURCE_LOGIN" "$SOURCE_PASSWORD"; }; f'
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"credential.{parts.scheme}://{parts.netloc}.helper",
        "GIT_CONFIG_VALUE_0": helper,
        "SOURCE_LOGIN": login or "",
        "SOURCE_PASSWORD": password,
    }
