"""The form of a question: its fields beside the answer, and what an answer given in it must not lack.

Airflow's form sends every field that it shows. A program that answers through the API chooses its fields itself, so
only what it sends is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .decision import ABSTAIN

COMMENT, CONDITIONS, CONFIRMED = "comment", "conditions", "confirmed"
"""The names of the fields."""
COMMENT_TITLE, CONDITIONS_TITLE, CONFIRMED_TITLE = "Comment (required)", "Conditions", "Final answer"
ACKNOWLEDGE, NOT_READY = "Acknowledge", "Not ready"
NOT_DECISIVE = frozenset({ABSTAIN, ACKNOWLEDGE})
"""Answers that need no confirmation: none of them ends a release or lets it go on by itself."""


def incomplete(choice: str, form: Mapping[str, Any]) -> str:
    """Say what an answer lacks that was given in the form of a question; empty: nothing.

    :param form: the fields as they were sent.
    """
    missing = []
    if COMMENT in form and not str(form[COMMENT] or "").strip():
        missing.append(f"write your reason into the field “{COMMENT_TITLE}”")
    if form.get(CONFIRMED) is False and choice not in NOT_DECISIVE:
        missing.append(f"switch on “{CONFIRMED_TITLE}”")
    if not missing:
        return ""
    return (
        f"Your answer “{choice}” was not recorded. Next: {' and '.join(missing)}, then choose “{choice}” again. "
        "Rule: an answer has a reason, and a decisive answer is confirmed, because it cannot be changed."
    )
