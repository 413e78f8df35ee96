"""Questions to people: ballots, waivers and reminders, and the answers."""
