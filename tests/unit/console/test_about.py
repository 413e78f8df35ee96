"""What an API server says of what guards it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from interlock.console.about import kept_by
from interlock.console.control.guard import ReleaseGuard
from interlock.domain.permits.installation import BY_NAME, BY_NUMBER

WITH_PLUGIN = SimpleNamespace(user_middleware=[SimpleNamespace(cls=ReleaseGuard)])
OURS = type("InterlockFabAuthManager", (), {"__module__": "interlock.console.auth.manager"})
SIMPLE, FAB = type("SimpleAuthManager", (), {}), type("FabAuthManager", (), {})
BARE = SimpleNamespace(user_middleware=[])


@pytest.mark.parametrize(
    ("manager", "app", "guard", "people"),
    [
        pytest.param(OURS, BARE, "auth manager", BY_NAME, id="Interlock's auth manager"),
        pytest.param(SIMPLE, WITH_PLUGIN, "plugin", BY_NAME, id="another one and the plugin"),
        pytest.param(SIMPLE, BARE, "", BY_NAME, id="another one alone"),
        pytest.param(FAB, WITH_PLUGIN, "plugin", BY_NUMBER, id="FAB's and the plugin"),
        pytest.param(SIMPLE, None, "", BY_NAME, id="no app"),
    ],
)
def test_what_keeps_people_from_editing_releases_is_named(manager: type, app: Any, guard: str, people: str) -> None:
    assert kept_by(manager, app) == {"guard": guard, "people": people}
