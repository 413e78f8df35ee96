"""Who votes on the departure of a train."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from interlock.domain.board import voting
from interlock.domain.board.voting import VotingRule
from interlock.domain.catalogue import Catalogue
from interlock.domain.catalogue.runbook_file import irreversible_of
from interlock.domain.catalogue.train_file import Train

from .manifest import Boarded


def train_rule(catalogue: Catalogue, train: Train, boarded: Sequence[Boarded]) -> VotingRule | None:
    """Return the merged rule of the boards of all passengers and of the train; None if it needs no vote."""
    policy, book = catalogue.policy, catalogue.board
    rules: list[VotingRule] = [voting.board_rule(book, train.board)] if train.board else []
    if train.change_type in policy.trains.one_decision:
        each = (
            voting.voting_rule(
                policy,
                book,
                catalogue.services[one.service],
                change_type=train.change_type,
                risk=one.risk,
                irreversible=bool(irreversible_of(catalogue.services[one.service].runbook)),
            )
            for one in boarded
        )
        rules += [rule for rule in each if rule is not None]
    return reduce(voting.merge, rules) if rules else None
