"""When production may change: calendars, bookings, conflicts, overrides and emergency stops."""
