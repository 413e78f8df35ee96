"""Functions for all tasks of a train: the current files, the rule of its boards, and waiting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.catalogue.trains import load_train
from interlock.domain.catalogue import Catalogue
from interlock.domain.catalogue.train_file import Train
from interlock.domain.errors import PolicyViolation, ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.locations import catalogue_folder
from interlock.stages.runtime import calendars

POLL_INTERVAL = timedelta(minutes=1)
"""How often a waiting train checks again."""


def catalogue_now() -> Catalogue:
    """Return the catalogue as it is now."""
    return load_catalogue(catalogue_folder())


def train_now(name: str, catalogue: Catalogue) -> Train:
    """Return a train's file as it is now."""
    return load_train(catalogue_folder(), catalogue.policy, catalogue.board, name)


def refuse_changed(train: Train, digest: str, since: str) -> None:
    """Raise PolicyViolation if a train's file changed since an earlier step of this departure."""
    if train.digest != digest:
        raise PolicyViolation(
            f"trains/{train.name}.yaml changed since {since}.",
            rule="a train departs with the file with which it boarded and that its board saw",
            who=train.owner,
            next_step="trigger the train manually, so that it boards with the current file",
        )


def look_again(why: str, latest: datetime) -> NoReturn:
    """Let the task run again in a minute, or at an instant if that is earlier. It holds no worker meanwhile."""
    calendars.wait(why, min(datetime.now(UTC) + POLL_INTERVAL, latest))


def without_file(who: str, why: str) -> PolicyViolation:
    """Return the refusal of a passenger without a valid file, or of a train with only such passengers."""
    return PolicyViolation(
        f"{who} does not depart: {why}",
        rule="a passenger is released by its file services/<name>.yaml",
        who="the service's team",
        next_step="correct the file, and take the next train",
    )


class PassengerLost(ReleaseError):
    """A passenger did not arrive."""


def of_passenger(entries: Sequence[Entry], kind: str, service: str) -> Entry | None:
    """Return the first entry of a kind about a passenger, in a train's chain."""
    return next((one for one in entries if one.kind == kind and one.payload.get("service") == service), None)


def task_of(service: str) -> str:
    """Return the task that sends a passenger."""
    return f"departure.send_{service.replace('-', '_')}"
