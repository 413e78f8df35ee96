"""The form of a question: its fields beside the answer, and what an answer given in it must not lack.

Airflow's form sends every field that it shows. A program that answers through the API chooses its fields itself, so
only what it sends is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from interlock.domain.testing.results import FAILED, PASSED
from interlock.domain.trigger_form import MULTILINE, Form

from .decision import ABSTAIN

COMMENT, CONDITIONS, CONFIRMED, EVIDENCE = "comment", "conditions", "confirmed", "evidence"
STEP, DEFECT = "step", "defect"
"""The names of the fields."""
ACKNOWLEDGE, NOT_READY = "Acknowledge", "Not ready"
NOT_DECISIVE = frozenset({ABSTAIN, ACKNOWLEDGE})
"""Answers that need no confirmation: none of them ends a release or lets it go on by itself."""
NEEDS_NO_REASON = frozenset({PASSED})
"""Answers that need no comment: there is nothing to explain."""
MAX_LENGTHS = {COMMENT: 4000, CONDITIONS: 4000, EVIDENCE: 2000, STEP: 3, DEFECT: 100}
"""Characters of each text of a form."""
_COMMENT_TITLE, _CONFIRMED_TITLE, _STEP_TITLE = "Comment (required)", "Final answer", "Failed at step"


class AnswerForm(Form):
    """The fields of a question beside its answer."""

    # Airflow's form takes an empty comment, so that the title of the question is not red from the beginning; the
    # answer is refused without a comment (below).
    comment: str = Field(
        "",
        max_length=MAX_LENGTHS[COMMENT],
        title=_COMMENT_TITLE,
        description="The reason for your answer. It is recorded in the ledger together with your answer.",
        json_schema_extra=MULTILINE,
    )
    conditions: str = Field(
        "",
        max_length=MAX_LENGTHS[CONDITIONS],
        description="Conditions of your approval, if any.",
        json_schema_extra=MULTILINE,
    )
    confirmed: bool = Field(
        False,
        title=_CONFIRMED_TITLE,
        description="An answer cannot be changed. Switch this on, then choose your answer below. "
        f"Not needed for {' and '.join(sorted(NOT_DECISIVE))}.",
    )


class CaseForm(Form):
    """The fields of a test case beside its result."""

    comment: str = Field(
        "",
        max_length=MAX_LENGTHS[COMMENT],
        title="Comment (required unless it passed)",
        description="What you saw. It is recorded in the ledger together with your result.",
        json_schema_extra=MULTILINE,
    )
    evidence: str = Field(
        "",
        max_length=MAX_LENGTHS[EVIDENCE],
        description="What shows the result: an address or a text. Files are attached on the tab Test matrix.",
        json_schema_extra=MULTILINE,
    )
    step: str = Field(
        "",
        max_length=MAX_LENGTHS[STEP],
        title=_STEP_TITLE,
        description="If it failed: the number of the step, as in the table above.",
    )
    defect: str = Field(
        "",
        max_length=MAX_LENGTHS[DEFECT],
        title="Known defect",
        description="If it failed, and exactly what an open defect above describes happened again: its id.",
    )


def incomplete(choice: str, form: Mapping[str, Any]) -> str:
    """Say what an answer lacks that was given in the form of a question; empty: nothing.

    :param form: the fields as they were sent.
    """
    missing = []
    if COMMENT in form and not str(form[COMMENT] or "").strip() and choice not in NEEDS_NO_REASON:
        missing.append(f"write your reason into the field “{_COMMENT_TITLE}”")
    if STEP in form and choice == FAILED and not re.fullmatch(r"[1-9][0-9]{0,2}", str(form[STEP] or "").strip()):
        missing.append(f"write the number of the step that failed into the field “{_STEP_TITLE}”")
    if form.get(CONFIRMED) is False and choice not in NOT_DECISIVE:
        missing.append(f"switch on “{_CONFIRMED_TITLE}”")
    missing += [
        f"shorten the field “{name}” to {longest:,} characters"
        for name, longest in MAX_LENGTHS.items()
        if len(str(form.get(name) or "")) > longest
    ]
    if not missing:
        return ""
    return (
        f"Your answer “{choice}” was not recorded. Next: {' and '.join(missing)}, then choose “{choice}” again. "
        "Rule: an answer has a reason, no text is too long, and a decisive answer is confirmed, because it cannot be "
        "changed."
    )
