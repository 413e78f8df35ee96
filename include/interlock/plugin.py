"""What Airflow is told of Interlock: the door in front of its API, and the pages of a release.

An installed wheel is found by its entry point ``airflow.plugins``, the project by ``plugins/interlock_plugin.py``.
Airflow loads this module in every process, each task's too; what only its API server needs is imported there alone.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin


class InterlockPlugin(AirflowPlugin):
    """Release management on Airflow."""

    name = "interlock"

    react_apps: ClassVar[list[dict[str, Any]]] = [
        *(
            {
                "name": name,
                "bundle_url": "interlock/static/pages.js",
                "destination": "dag_run",
                "url_route": name.lower().replace(" ", "-"),
            }
            for name in ("Release", "Quality report", "Test matrix")
        ),
        {
            "name": "Release calendar",
            "bundle_url": "interlock/static/calendar.js",
            "destination": "nav",
            "url_route": "release-calendar",
        },
        {
            "name": "Board",
            "bundle_url": "interlock/static/pages.js",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "board",
            "icon": "interlock/static/board.svg",
            "icon_dark_mode": "interlock/static/board-dark.svg",
        },
        {
            "name": "Needs me",
            "bundle_url": "interlock/static/pages.js",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "needs-me",
            "icon": "interlock/static/needs-me.svg",
            "icon_dark_mode": "interlock/static/needs-me-dark.svg",
        },
        {
            "name": "Timeline",
            "bundle_url": "interlock/static/pages.js",
            "destination": "nav",
            "url_route": "timeline",
        },
        {
            "name": "CAB",
            "bundle_url": "interlock/static/pages.js",
            "destination": "nav",
            "url_route": "cab",
        },
        {
            "name": "Measures",
            "bundle_url": "interlock/static/pages.js",
            "destination": "nav",
            "url_route": "measures",
        },
        {
            "name": "Deliveries",
            "bundle_url": "interlock/static/pages.js",
            "destination": "nav",
            "url_route": "deliveries",
        },
        {
            "name": "InterlockHome",
            "bundle_url": "interlock/static/pages.js",
            "destination": "dashboard",
            "url_route": "interlock-home",
        },
        {
            "name": "InterlockNext",
            "bundle_url": "interlock/static/pages.js",
            "destination": "base",
            "url_route": "interlock-next",
        },
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The pages, mounted into Airflow's API server."""
        from interlock.console.pages.pages import PREFIX, create_app

        return [{"app": create_app(), "url_prefix": PREFIX, "name": "Interlock"}]

    @cached_property
    def timetables(self) -> list[type]:
        """The timetable of trains."""
        from interlock.stages.trains.timetables import TrainTimetable

        return [TrainTimetable]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:
        """The door, around Airflow's API server, and within it the choices of forms, and the guard if it is needed."""
        from airflow.api_fastapi.app import get_auth_manager_cls

        from interlock.console.control.guard import ReleaseGuard, is_needed
        from interlock.console.control.middleware import ReleaseControl
        from interlock.console.pages.choices import FormChoices

        guard = [ReleaseGuard] if is_needed(get_auth_manager_cls()) else []
        # Airflow puts each around those before it.
        return [
            {"middleware": one, "args": [], "kwargs": {}, "name": one.__name__}
            for one in (*guard, FormChoices, ReleaseControl)
        ]
