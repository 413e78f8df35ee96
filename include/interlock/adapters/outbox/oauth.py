"""OAuth with client credentials, for systems that are told of releases."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from threading import Lock

import httpx


class ClientCredentials(httpx.Auth):
    """OAuth with client credentials: a token is fetched before it is needed, and again when it is refused."""

    requires_response_body = True

    def __init__(self, client_id: str, client_secret: str, token_url: str, audience: str = "") -> None:
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        if audience:
            self._form["audience"] = audience
        self._url, self._token, self._until, self._lock = token_url, "", datetime.now(UTC), Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with a token; with a new one if it was refused."""
        with self._lock:
            if not self._token or datetime.now(UTC) >= self._until:
                self._read((yield httpx.Request("POST", self._url, data=self._form)))
            token = self._token
        request.headers["Authorization"] = f"Bearer {token or 'none'}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            with self._lock:
                self._read((yield httpx.Request("POST", self._url, data=self._form)))
                request.headers["Authorization"] = f"Bearer {self._token or 'none'}"
            yield request

    def _read(self, response: httpx.Response) -> None:
        response.read()
        try:
            found = response.json()
            self._token = str(found["access_token"])
            self._until = datetime.now(UTC) + timedelta(seconds=int(found.get("expires_in", 300)) * 0.9)
        except (ValueError, KeyError, TypeError):
            # Without a token the request itself is refused, which says more.
            self._token, self._until = "", datetime.now(UTC)
