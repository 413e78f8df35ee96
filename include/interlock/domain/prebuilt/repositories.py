"""Whether two addresses name the same repository: provenance writes them in other ways than git."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SCP_FORM = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?([A-Za-z0-9][A-Za-z0-9.-]*):(?!//)([^:].*)")
_USUAL_PORTS = {"https": 443, "ssh": 22}


def place_of(address: str) -> str:
    """Return what of a repository's address says which one it is: host and path, or the path of a folder.

    ``https`` and ``ssh`` lead to the same repository; the login, ``git+``, ``.git`` and a ref after ``@`` do not count.
    """
    text = address.strip().removeprefix("git+")
    if "://" not in text and (scp := _SCP_FORM.fullmatch(text)):
        return _joined(scp[1], "", scp[2])
    if text.startswith("/"):
        return _joined("", "", text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return text
    if parts.scheme not in ("https", "ssh", "git", "file") or parts.query or parts.fragment:
        return text  # compared as it is written
    host = (parts.hostname or "") if parts.scheme != "file" else ""
    other = f":{port}" if port and port != _USUAL_PORTS.get(parts.scheme) else ""
    return _joined(host, other, parts.path)


def _joined(host: str, port: str, path: str) -> str:
    kept = re.sub(r"@[^@/][^@]*$", "", path).rstrip("/").removesuffix(".git").strip("/")
    return f"{host.lower()}{port}/{kept}"
