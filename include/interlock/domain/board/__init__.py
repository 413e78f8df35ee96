"""Who decides: boards and their votes, waivers, and whose account may answer."""
