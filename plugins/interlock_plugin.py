"""Tell Airflow of Interlock's plugin where the package was not installed, and so has no entry point."""

from __future__ import annotations

from interlock.plugin import InterlockPlugin

__all__ = ["InterlockPlugin"]
