"""The form of ``retry_deliveries``: which deliveries a person wants to be tried again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import Field

from interlock.domain.errors import RequestRefused
from interlock.domain.trigger_form import Form, Reason, read_form


class RetryRequest(Form):
    """The form."""

    system: str = Field(min_length=1, max_length=100, description="The system that refused, or did not answer.")
    run: str = Field(
        "",
        max_length=600,
        title="Release",
        description="The run id of the release. Leave empty for all that failed.",
    )
    replay: bool = Field(
        False,
        title="Send all events again",
        description="For receivers of webhooks: sends all events of the release again, with the ids that they had. "
        "Enter the release above.",
    )
    reason: Reason = Field(description="What was corrected, and by whom.")


def parse_retry(form: Mapping[str, Any], systems: Collection[str]) -> RetryRequest:
    """Read the form; RequestRefused with every field that is wrong.

    :param systems: those of systems.yaml.
    """
    request = read_form(RetryRequest, form, "the retry")
    if request.system not in systems:
        raise RequestRefused(
            f"The catalogue has no system {request.system!r}. Available: {', '.join(sorted(systems)) or 'none'}.",
            rule="systems are in systems.yaml",
            next_step="correct the system",
        )
    if request.replay and not request.run:
        raise RequestRefused(
            "All events of which release are to be sent again?",
            rule="events are sent again for one release at a time",
            next_step="enter the run id of the release",
        )
    return request


def chain_named(run: str, chains: Iterable[str]) -> str:
    """Return the chain of a release by its run id, or by Dag and run; empty for no run.

    :param chains: of the deliveries that failed.
    :raises RequestRefused: none of them is of this run, or several are.
    """
    if not run:
        return ""
    found = [chain for chain in chains if chain.endswith(f"/{run}")]
    if len(found) != 1:
        what = "no delivery of this release failed" if not found else "several releases have this run id"
        raise RequestRefused(
            f"{run!r} cannot be tried again: {what}.",
            rule="a delivery is tried again by the run id of its release",
            next_step="run interlock deliveries, which lists them; or leave the field empty for all",
        )
    return found[0]
