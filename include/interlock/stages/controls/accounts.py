"""The Dag ``confirm_account``: a second person confirms an account that changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.domain.board.accounts import ConfirmationRequest, confirmed
from interlock.domain.errors import CatalogueError
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import ACCOUNT_CONFIRMED, FINDING
from interlock.domain.trigger_form import fields_of, read_form
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.history import append_once
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import stage_task, this_run


def confirm_params(folder: Path) -> dict[str, Param]:
    """Return the form of a confirmation. While board.yaml is broken, it accepts any name."""
    try:
        people = {"enum": sorted(person.user for person in load_rules(folder)[1].people)}
    except CatalogueError:
        people = {}
    return form_params(fields_of(ConfirmationRequest, user=people))


@stage_task(task_display_name="Record the confirmation")
def record_confirmation() -> dict[str, Any]:
    """Record in the ledger that an account is controlled by its owner, in the state in which it last tried to answer.

    Only another person listed in board.yaml may confirm it. Later changes to the account need a new confirmation.
    """
    key = f"{ACCOUNT_CONFIRMED}/{'/'.join(this_run())}"
    with resources.ledger() as ledger:
        if known := ledger.find(INSTALLATION, key):
            return known.payload  # recorded by an earlier try of this task
        request, by = read_form(ConfirmationRequest, entered(), "the confirmation"), requester()
        book = load_rules(catalogue_folder())[1]
        said = confirmed(request, by, book, ledger.entries(INSTALLATION, kind=FINDING))
        entry = append_once(ledger, ACCOUNT_CONFIRMED, said, actor=by, key=key)
        ledger.sign_head(INSTALLATION, resources.signer())
    return entry.payload
