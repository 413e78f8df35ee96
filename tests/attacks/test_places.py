"""Production by another name: what a sandbox is given, without a permit, is not production's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.end_to_end.stack import Stack

from .people import BROKEN
from .suite import ADMIN, attack

PLACE = "what belongs to a production environment of any service is reached with a permit only, whatever it is called"


@contextmanager
def edited(stack: Stack, connection: str, extra: dict[str, Any]) -> Iterator[None]:
    """Have an administrator change a connection for as long as this lasts."""
    admin = stack.person("admin")
    path = f"connections/{connection}"
    before = admin.get(path)["extra"]

    def write(text: str) -> None:
        about = {"connection_id": connection, "conn_type": "ssh", "extra": text}
        assert admin.send("PATCH", f"{path}?update_mask=extra", about).status_code == 200

    write(json.dumps({**json.loads(before), **extra}))
    try:
        yield
    finally:
        write(before)


@attack("give the test environment production's login, and rehearse there", by=ADMIN, way="API", stopped=PLACE)
def test_no_rehearsal_has_productions_login(stack: Stack) -> None:
    settings = stack.settings
    theirs = {
        "key_file": str(settings.deployer_key("production")),
        "known_hosts": str(settings.known_hosts("production")),
    }
    with edited(stack, "interlock_test_hosts", theirs):
        release = stack.person("rita").release(BROKEN, rehearsal=True)
        assert release.finish() == "failed"
        reason = release.outcome()["reason"]
        assert "the key of the login belongs to production of bike-shop" in reason
