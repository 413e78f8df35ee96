"""Questions to people: ballots, waivers, reminders, and what was answered."""
