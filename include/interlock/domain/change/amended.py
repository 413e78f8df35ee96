"""What an edit of the catalogue means for a release that is under way.

What tightens its rules is asked of it: more approvals, another board, a lower threshold. What loosens them does not
help it: votes and results are judged by what was asked when it began and by what is asked now. Everything else makes it
void: where it is deployed to, who votes, and whatever cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import not_
from typing import Any, Literal

from pydantic import Field

from interlock.domain.board import voting
from interlock.domain.board.voting import BOOK
from interlock.domain.canonical import Model, Sha256
from interlock.domain.catalogue import ServiceCatalogue, Thresholds
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import POLICY_RESOLVED
from interlock.domain.ledger.reading import last_in
from interlock.domain.records import PolicyInForce, ReleasePlan, RolloutPlan, Rules

from .effective import NOTHING, compared, digest_now, rules_for, said, shown_value, what_differs
from .tightening import ENTERPRISE, tighter

Effect = Literal["asked", "ignored", "voids"]
"""The release must meet it; it makes no difference to the release; the release cannot go on."""


class Amendment(Model):
    """A rule of a release that changed after it began."""

    file: str
    key: str
    before: str
    after: str
    effect: Effect = Field(description="asked: the release must meet it; ignored: it does not help; voids: it ends it")

    def __str__(self) -> str:
        return said(self.file, self.key, self.before, self.after)


class Amended(Model):
    """A version of the catalogue that a release saw, and how its rules differ from those with which it began."""

    digest: Sha256 = Field(description="Of the rules of the release in this version")
    catalogue: str = Field(description="What names the content of the catalogue")
    commit: str = Field("", exclude_if=not_, description="Of the catalogue's repository; empty: it has none")
    amendments: tuple[Amendment, ...]


def amendments(before: Rules, now: Rules) -> tuple[Amendment, ...]:
    """Return what changed, in the order of files and keys."""
    return tuple(
        Amendment(
            file=file,
            key=".".join(path) or "all of it",
            before=shown_value(old),
            after=shown_value(new),
            effect=_effect(file, path, old, new),
        )
        for file in sorted({*before, *now})
        for path, old, new in compared(before.get(file, {}), now.get(file, {}))
    )


def amendments_of(in_force: PolicyInForce, catalogue: ServiceCatalogue) -> tuple[Amendment, ...]:
    """Return what changed of the rules of a release since it began; of one that began with files, nothing is known."""
    return amendments(in_force.rules, rules_for(catalogue, in_force.change_type)) if in_force.rules is not None else ()


def strictest(thresholds: Thresholds, now: Thresholds) -> Thresholds:
    """Return the tighter one of each two thresholds."""
    held = {key: tighter(("thresholds", key), getattr(now, key), then) for key, then in thresholds}
    return Thresholds.model_validate(held)


def _effect(file: str, path: tuple[str, ...], old: Any, new: Any) -> Effect:
    if file == ENTERPRISE:
        return _of_policy(path, old, new)
    return _of_book(path, old, new) if file == BOOK else _of_service(path, old, new)


def _of_service(path: tuple[str, ...], old: Any, new: Any) -> Effect:
    match path:
        case ("environments", _, "thresholds") if old is NOTHING:
            return "asked"  # the service's own, made stricter there
        case ("environments", _, "thresholds", key) if new is not NOTHING:
            now = Thresholds.model_validate({key: new})
            was = Thresholds.model_validate({key: old}) if old is not NOTHING else None
            # One that was loosened is not kept anywhere, so it could not be asked any more.
            return "asked" if was is None or strictest(was, now) == now else "voids"
    return "voids"


def _of_policy(path: tuple[str, ...], old: Any, new: Any) -> Effect:
    match path:
        case ("thresholds", key) if NOTHING not in (old, new):
            was = Thresholds.model_validate({key: old})
            return _asked(strictest(was, Thresholds.model_validate({key: new})) != was)
        case ("change_types", _, "board") if None in (old, new):
            return _asked(old is None)
        case ("change_types", _, "further_boards"):
            return _asked(bool({*new} - {*old}))
    return "voids"


def _of_book(path: tuple[str, ...], old: Any, new: Any) -> Effect:
    match path:
        case ("people", _) if NOTHING in (old, new):
            return "ignored"  # of those who vote, the board or the rule changed as well
        case ("people", _, "name") | ("boards", _, "title"):
            return "ignored"
        case ("boards" | "rules", _) if NOTHING in (old, new):
            return _asked(old is NOTHING)
        case ("rules", _, "risk_from"):
            return _asked(new < old)
        case ("rules", _, "quorum") if None in (old, new):
            return _asked(old is None)
        case ("boards" | "rules", _, "quorum", *rest):
            return _of_quorum(tuple(rest), old, new)
    return "voids"


def _of_quorum(path: tuple[str, ...], old: Any, new: Any) -> Effect:
    match path:
        case ("approvals",):
            return _asked(new > old)
        case ("require", _):
            return _asked(old is NOTHING or (new is not NOTHING and new > old))
        case ("veto" | "veto_roles",):
            return _asked(bool({*new} - {*old}))
        case ("deadline" | "remind_before",):
            return "ignored"  # the deadline of a vote is frozen with the plan
    return "voids"


def _asked(tightens: bool) -> Effect:
    return "asked" if tightens else "ignored"


def voiding(found: tuple[Amendment, ...]) -> tuple[str, ...]:
    """Return, in sentences, what makes a release void."""
    return tuple(str(one) for one in found if one.effect == "voids")


def tightened_thresholds(found: tuple[Amendment, ...]) -> tuple[Amendment, ...]:
    """Return the thresholds that were tightened: those of the policy, and those of environments before production."""
    return tuple(one for one in found if one.effect == "asked" and "thresholds" in one.key.split("."))


def what_voids(in_force: PolicyInForce, catalogue: ServiceCatalogue) -> tuple[str, ...]:
    """Say which changes of its rules make a release void, a sentence each; nothing: it can go on.

    A release that began with an older Interlock was bound to whole files: any difference makes it void.
    """
    if in_force.rules is None:
        return what_differs(in_force, catalogue)
    return voiding(amendments_of(in_force, catalogue))


def began_with(entries: Sequence[Entry]) -> PolicyInForce | None:
    """Return the policy with which a release began; None: it has not begun."""
    return last_in(entries, POLICY_RESOLVED, PolicyInForce)


def as_begun(catalogue: ServiceCatalogue, entries: Sequence[Entry]) -> ServiceCatalogue:
    """Return a catalogue with the people, roles and delegations that concerned a release when it began.

    :param entries: the chain of the release; of one that began with files, the catalogue stays as it is.
    """
    began = began_with(entries)
    if began is None or began.rules is None:
        return catalogue
    return catalogue._replace(board=voting.book_on_record(began.rules))


def changes_that_void(entries: Sequence[Entry], catalogue: ServiceCatalogue) -> tuple[str, ...]:
    """Say which rules of a release have changed since it began so that it is void."""
    began = began_with(entries)
    return what_voids(began, catalogue) if began else ()


def digest_bound_to(plan: RolloutPlan, catalogue: ServiceCatalogue, entries: Sequence[Entry]) -> Sha256:
    """Return the digest of the rules of a release: those with which it began, unless a change makes it void."""
    began = began_with(entries)
    if began is not None and began.digest == plan.policy_digest and not what_voids(began, catalogue):
        return plan.policy_digest
    return digest_now(plan.policy_digest, catalogue, plan.change_type)


def rule_in_force(
    catalogue: ServiceCatalogue,
    plan: ReleasePlan | RolloutPlan,
    entries: Sequence[Entry],
    *,
    irreversible: bool | None = None,
) -> voting.VotingRule | None:
    """Return what is asked of the votes on a release: what was asked when it began, and what is asked now.

    What was loosened since is still asked. Of a release that is void, what is asked now: it gets no permit.

    :param entries: the chain of the release.
    :param irreversible: a step of it cannot be taken back; none: the frozen plan says so.
    """
    if plan.rehearsal:
        return None
    risk = plan.risk if isinstance(plan.risk, int) else plan.risk.score
    if irreversible is None:
        irreversible = isinstance(plan, RolloutPlan) and bool(plan.irreversible)
    about: dict[str, Any] = {"change_type": plan.change_type, "risk": risk, "irreversible": irreversible}
    now = voting.voting_rule(*catalogue, **about)
    began = began_with(entries)
    if began is None or began.rules is None or what_voids(began, catalogue):
        return now
    return voting.both(voting.rule_on_record(began.rules, **about), now)
