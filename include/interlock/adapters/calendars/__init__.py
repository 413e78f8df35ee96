"""Calendars as YAML and iCalendar files and feeds, conflicts found in them, and the schedule that people see.

What a closed calendar means for a release is in :mod:`interlock.domain.calendars`.
"""
