"""How a release ended: its outcome, its review, release notes, and the history of versions."""
