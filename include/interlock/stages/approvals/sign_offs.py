"""The sign-off of an environment before production: its people vote on what its tests came to, by its digest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from interlock.adapters.airflow.rest_api import Answer
from interlock.domain.board import decision as boards
from interlock.domain.board import voting
from interlock.domain.board.questions import ASK_SIGN_OFF, of_environment
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.change.amended import as_begun
from interlock.domain.records import Decision, EnvironmentTested
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, refuse_void

from .ballots import AwaitBallots
from .decisions import settled
from .people import votes_on
from .reminders import remind_in_time


def count_sign_off(catalogue: ServiceCatalogue, tested: EnvironmentTested, *, expired: bool = True) -> Decision | None:
    """Count the ballots of a sign-off from Airflow's record of them; None: it is open, or nobody is asked.

    :param catalogue: with the people as they were when the release began.
    :param expired: no further vote counts.
    """
    rule = voting.sign_off_rule(catalogue.board, catalogue.service, tested.environment)
    if rule is None or tested.decide_by is None:
        return None
    in_time = [
        vote
        for vote in votes_on(of_environment(ASK_SIGN_OFF, tested.environment), tested.digest)
        if vote.at is not None and vote.at <= tested.decide_by
    ]
    return boards.count_votes(
        rule,
        in_time,
        digest=tested.digest,
        requester=tested.requested_by,
        excluded=tested.excluded,
        expired=expired,
        subject="sign_off",
    )


class AwaitSignOff(AwaitBallots):
    """Wait until the environment is signed off or its deadline has passed, then close the open ballots.

    Uses no worker slot. A rejection, or too few approvals in time, ends the release. People who have not voted get one
    reminder by e-mail before the deadline.

    :param service: the service's name.
    :param environment: the environment that is signed off.
    :param tested: what its tests came to.
    :param ballots: the prepared ballots.
    """

    template_fields: Sequence[str] = ("tested", "ballots")

    def __init__(self, *, service: str, environment: str, tested: Any, ballots: Any, **kwargs: Any) -> None:
        super().__init__(ballots=ballots, **kwargs)
        self.service = service
        self.environment = environment
        self.tested = tested
        self.asks = of_environment(ASK_SIGN_OFF, environment)

    @property
    def record(self) -> EnvironmentTested:
        """What the tests came to."""
        return EnvironmentTested.from_xcom(self.tested)

    @property
    def decide_by(self) -> datetime | None:
        """The deadline of the sign-off."""
        return self.record.decide_by

    def count(self, *, expired: bool) -> Decision | None:
        """Count the votes on the recorded tests; None while the sign-off is still open."""
        tested = self.record
        refuse_void([tested])
        return count_sign_off(self._catalogue(), tested, expired=expired)

    def next_look(self, cast: Sequence[Answer]) -> datetime | None:
        """Send the reminders if they are due; return when to check next."""
        catalogue = self._catalogue()
        rule = voting.sign_off_rule(catalogue.board, catalogue.service, self.environment)
        return remind_in_time(catalogue, rule, self.record, cast) if rule else self.decide_by

    def _catalogue(self) -> ServiceCatalogue:
        return as_begun(resources.catalogue_of(self.service), chain_entries())

    def settled(self, decision: Decision) -> dict[str, Any]:
        """Record the decision with the rule by which it was made; raise GateRejected if it is a rejection."""
        catalogue = self._catalogue()
        rule = voting.sign_off_rule(catalogue.board, catalogue.service, self.environment)
        about = {"board": rule and rule.model_dump(mode="json"), "environment": self.environment}
        return settled(decision, **about).to_xcom()
