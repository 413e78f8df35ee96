"""The Dag ``confirm_account``: a second person vouches for an account that is doubted; on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param, get_current_context

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.domain.board.accounts import CONFIRMED, confirmed
from interlock.domain.errors import AlreadyRecorded, CatalogueError, RequestRefused
from interlock.domain.ledger.chain import INSTALLATION
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.requests import requester
from interlock.stages.runtime.taskflow import stage_task, this_run


def confirm_params(folder: Path) -> dict[str, Param]:
    """Return the form of a confirmation; while board.yaml is broken, with a field for any name."""
    try:
        people = {"enum": sorted(person.user for person in load_rules(folder)[1].people)}
    except CatalogueError:
        people = {}
    return {
        "user": Param(type="string", title="Account", description="Whose account is as its owner left it.", **people),
        "reason": Param(
            type="string",
            minLength=5,
            maxLength=1000,
            title="How you know",
            description="How its owner told you that they set the password, or have a new account. It goes on record.",
        ),
    }


@stage_task(task_display_name="Record the confirmation")
def record_confirmation() -> dict[str, Any]:
    """Put into the installation's chain that somebody's account, as it was doubted last, is as its owner left it.

    Only another person of board.yaml may. What changes about the account later is doubted again.
    """
    key = f"{CONFIRMED}/{'/'.join(this_run())}"
    with resources.ledger() as ledger:
        if known := ledger.find(INSTALLATION, key):
            return known.payload  # by an earlier try of this task
        form, by = dict(get_current_context()["params"]), requester()
        user, reason = form.get("user"), form.get("reason")
        if not isinstance(user, str) or not isinstance(reason, str) or not 5 <= len(reason.strip()) <= 1000:
            raise RequestRefused(
                "The form lacks the account, or how you know, in 5 to 1000 characters.",
                who="whoever triggered it",
                next_step="trigger it again",
            )
        book = load_rules(catalogue_folder())[1]
        said = confirmed(user, by, reason.strip(), book, ledger.entries(INSTALLATION, kind="finding"))
        try:
            entry = ledger.append_once(INSTALLATION, CONFIRMED, said, actor=by, key=key)
        except AlreadyRecorded as error:
            entry = error.entry
        ledger.sign_head(INSTALLATION, resources.signer())
    return entry.payload
