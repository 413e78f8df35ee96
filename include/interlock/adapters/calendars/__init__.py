"""Calendars as YAML and iCalendar files and feeds, the conflicts in them, and the schedule.

What a closed calendar means for a release is in :mod:`interlock.domain.calendars`.
"""
