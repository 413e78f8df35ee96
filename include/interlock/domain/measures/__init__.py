"""How well releases go: DORA's and ITIL's measures, and how long people take. No page and no database is known here."""
