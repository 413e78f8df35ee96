"""The form of a question: its fields beside the answer, and what an answer given in it must not lack.

Airflow's form sends every field that it shows. A program that answers through the API chooses its fields itself, so
only what it sends is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from interlock.domain.trigger_form import MULTILINE, Form

from .decision import ABSTAIN

COMMENT, CONDITIONS, CONFIRMED = "comment", "conditions", "confirmed"
"""The names of the fields."""
ACKNOWLEDGE, NOT_READY = "Acknowledge", "Not ready"
NOT_DECISIVE = frozenset({ABSTAIN, ACKNOWLEDGE})
"""Answers that need no confirmation: none of them ends a release or lets it go on by itself."""
_COMMENT_TITLE, _CONFIRMED_TITLE = "Comment (required)", "Final answer"


class AnswerForm(Form):
    """The fields of a question beside its answer."""

    # Airflow's form takes an empty comment, so that the title of the question is not red from the beginning; the
    # answer is refused without a comment (below).
    comment: str = Field(
        "",
        max_length=4000,
        title=_COMMENT_TITLE,
        description="The reason for your answer. It is recorded in the ledger together with your answer.",
        json_schema_extra=MULTILINE,
    )
    conditions: str = Field(
        "", max_length=4000, description="Conditions of your approval, if any.", json_schema_extra=MULTILINE
    )
    confirmed: bool = Field(
        False,
        title=_CONFIRMED_TITLE,
        description="An answer cannot be changed. Switch this on, then choose your answer below. "
        f"Not needed for {' and '.join(sorted(NOT_DECISIVE))}.",
    )


def incomplete(choice: str, form: Mapping[str, Any]) -> str:
    """Say what an answer lacks that was given in the form of a question; empty: nothing.

    :param form: the fields as they were sent.
    """
    missing = []
    if COMMENT in form and not str(form[COMMENT] or "").strip():
        missing.append(f"write your reason into the field “{_COMMENT_TITLE}”")
    if form.get(CONFIRMED) is False and choice not in NOT_DECISIVE:
        missing.append(f"switch on “{_CONFIRMED_TITLE}”")
    if not missing:
        return ""
    return (
        f"Your answer “{choice}” was not recorded. Next: {' and '.join(missing)}, then choose “{choice}” again. "
        "Rule: an answer has a reason, and a decisive answer is confirmed, because it cannot be changed."
    )
