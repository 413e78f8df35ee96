"""iCalendar files, which come from outside: read and worked out in a process that can be ended."""
