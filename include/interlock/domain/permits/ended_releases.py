"""What a release may still do after its end: nothing, or go back if it failed."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import END, Entry
from interlock.domain.ledger.kinds import PERMIT_USED, RELEASE_CLOSED, ROLLOUT_FROZEN
from interlock.domain.records import RolloutPlan

from .permit import BEGINS, RELEASE_MANAGER


def refuse_ended(task: str, entries: Sequence[Entry], *, way_back: bool = False) -> None:
    """Raise a PolicyViolation if a release or a train has ended: its tasks change nothing and record nothing.

    :param task: that is to run.
    :param entries: of the chain.
    :param way_back: the task belongs to the back-out, which a failed release still has to complete.
    """
    end = next((entry for entry in reversed(entries) if entry.kind in END), None)
    if end is None or (way_back and end.payload.get("outcome") == "failed"):
        return
    outcome = end.payload.get("outcome")
    how = f" as {str(outcome).replace('_', ' ')}" if outcome else ""
    raise PolicyViolation(
        f"{task} was not run: the release is closed{how}."
        if end.kind == END[0]
        else f"{task} was not run: the train has arrived.",
        rule="a closed run changes nothing and gets no new entries",
        who="no user",
        next_step="to make further changes, trigger a new run",
    )


def had_permit(plan: RolloutPlan, entries: Sequence[Entry]) -> bool:
    """Tell whether a permit to begin with a plan was used, by its release's chain: something may have been changed."""
    permits = [entry.payload.get("permit", {}) for entry in entries if entry.kind == PERMIT_USED]
    return any(one.get("purpose") in BEGINS and one.get("plan") == plan.digest for one in permits)


def refuse_back_out(plan: RolloutPlan, entries: Sequence[Entry], *, unsigned: str = "", overtaken: str = "") -> None:
    """Raise a PolicyViolation unless a release may back out its hosts: stops and freezes do not prevent that.

    :param entries: the release's chain. It froze this plan, had a permit to deploy by it, and did not end since; a
        release that failed is not at its end while its back-out is not done.
    :param unsigned: what was decided in it and is not signed.
    :param overtaken: which other release changed its hosts since its plan was frozen: they are that one's now.
    """
    frozen = [entry.payload.get("digest") for entry in entries if entry.kind == ROLLOUT_FROZEN]
    closed = [entry.payload.get("outcome") for entry in entries if entry.kind == RELEASE_CLOSED]
    if not frozen or frozen[-1] != plan.digest:
        problem, rule = "according to the ledger, its plan is not the frozen plan", "a back-out follows the frozen plan"
    elif not had_permit(plan, entries):
        problem, rule = "according to the ledger, it never had a permit to deploy", "only a deployment is backed out"
    elif closed and closed[-1] != "failed":
        problem, rule = (
            f"according to the ledger, it is closed as {closed[-1]}",
            "a closed release cannot change anything",
        )
    elif unsigned:
        problem, rule = unsigned.rstrip("."), "frozen plans and decisions are signed with the key of the installation"
    elif overtaken:
        problem, rule = overtaken.rstrip("."), "only the release that changed the hosts last can back them out"
    else:
        return
    raise PolicyViolation(
        f"No permit for a back-out of {plan.service} {plan.version}: {problem}.",
        rule=rule,
        who=RELEASE_MANAGER,
        next_step="to go back to another version, release that version",
    )
