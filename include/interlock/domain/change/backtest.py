"""The effect of a policy change on past releases: which it would have stopped, and who would have been asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydantic import Field

from interlock.domain.board.voting import voting_rule
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Catalogue, Flow, RiskLevel, Tightening
from interlock.domain.errors import PolicyViolation
from interlock.domain.outcome.review import refuse_unreviewed
from interlock.domain.quality.rows import licence_allowed
from interlock.domain.records import PastRelease, PolicyInForce

from .policy import flows_of, resolve_policy
from .risk import assess
from .tightening import Governed, shown


class ReleaseFacts(PastRelease):
    """What is known of a past release that a policy judges by."""

    requested_by: str = ""
    tier: int = Field(3, ge=1, le=4)
    business_unit: str | None = Field(None, description="Of a service that the catalogue has no more")
    answers: dict[str, bool] = Field({}, description="Risk question: yes or no; one that was not asked is a no")
    declared_risk: RiskLevel | None = None
    commits: int = Field(0, ge=0)
    bump: str = "minor"
    quality: dict[str, float | tuple[str, ...]] = Field(
        {}, description="Threshold: what was observed, such as min_tests: 48, allowed_licences: [MIT]"
    )


class BacktestResult(Model):
    """The effect of a policy on a release."""

    risk: int
    stopped: tuple[str, ...] = Field(description="Why it is stopped; empty: it is not")
    asked: tuple[str, ...] = Field(description="Whom it asks, and for what")


class Comparison(Model):
    """A past release by two policies."""

    release: ReleaseFacts
    old: BacktestResult
    new: BacktestResult

    @property
    def newly_stopped(self) -> bool:
        """Say whether only the new policy stops it."""
        return bool(self.new.stopped) and not self.old.stopped

    @property
    def no_longer_stopped(self) -> bool:
        """Say whether only the old policy stops it."""
        return bool(self.old.stopped) and not self.new.stopped

    @property
    def asked_more(self) -> tuple[str, ...]:
        """Whom only the new policy asks."""
        return tuple(who for who in self.new.asked if who not in self.old.asked)

    @property
    def asked_less(self) -> tuple[str, ...]:
        """Whom only the old policy asks."""
        return tuple(who for who in self.old.asked if who not in self.new.asked)

    @property
    def differs(self) -> bool:
        """Say whether the policies do not treat it alike."""
        return self.newly_stopped or self.no_longer_stopped or bool(self.asked_more or self.asked_less)


def backtest(old: Catalogue, new: Catalogue, releases: Sequence[ReleaseFacts]) -> tuple[Comparison, ...]:
    """Judge past releases by two catalogues, each with the service's record as it was then; the oldest first."""
    in_order = sorted(releases, key=lambda release: (release.at, release.service, release.run))
    return tuple(
        Comparison(
            release=release,
            old=judge(old, release, in_order[:index]),
            new=judge(new, release, in_order[:index]),
        )
        for index, release in enumerate(in_order)
    )


def judge(catalogue: Catalogue, release: ReleaseFacts, before: Sequence[PastRelease]) -> BacktestResult:
    """Return the effect of a catalogue on a release.

    :param before: the releases that had ended then, of any service.
    """
    subject = _subject(catalogue, release)
    own = [earlier for earlier in before if earlier.service == release.service]
    formula = catalogue.policy.risk
    risk = assess(
        formula,
        answers={question.key: release.answers.get(question.key, False) for question in formula.questions},
        commits=release.commits,
        tier=release.tier,
        bump=release.bump,
        history=own,
        declared=release.declared_risk,
    ).score
    try:
        in_force = resolve_policy(catalogue.policy, subject, release.change_type)
        refuse_unreviewed(
            own,
            service=release.service,
            change_type=release.change_type,
            flows=flows_of(catalogue.policy, subject),
            now=release.at,
        )
    except PolicyViolation as refused:
        return BacktestResult(risk=risk, stopped=(refused.what,), asked=())
    asked = (*_asked(in_force.flow, release, risk), *_voting(catalogue, subject, release, risk))
    return BacktestResult(risk=risk, stopped=tuple(_broken(in_force, release.quality)), asked=asked)


class _Subject(Model):
    """What is known of the service of a past release."""

    name: str
    owner: str = "the service's team"
    tier: int
    business_unit: str | None = None
    policy: Tightening = Tightening()


def _subject(catalogue: Catalogue, release: ReleaseFacts) -> Governed:
    """Return the service as the catalogue has it, in the tier that it had."""
    known = catalogue.services.get(release.service)
    if known is not None:
        return known.model_copy(update={"tier": release.tier})
    unit = release.business_unit if release.business_unit in catalogue.policy.business_units else None
    return _Subject(name=release.service, tier=release.tier, business_unit=unit)


def _asked(flow: Flow, release: ReleaseFacts, risk: int) -> Iterator[str]:
    if (release.bump == "major" and flow.plan_approval_for_major) or risk >= flow.plan_approval_from_risk:
        yield "senior management approves the plan"
    if flow.acceptance:
        yield "a functional approver accepts the release"


def _voting(catalogue: Catalogue, subject: Governed, release: ReleaseFacts, risk: int) -> Iterator[str]:
    rule = voting_rule(catalogue.policy, catalogue.board, subject, change_type=release.change_type, risk=risk)
    yield from (f"{demand.title}: {demand}" for demand in (rule.demands if rule else ()))


def _broken(in_force: PolicyInForce, observed: dict[str, float | tuple[str, ...]]) -> Iterator[str]:
    """Return which thresholds the observed values miss; a threshold without an observed value counts as met."""
    thresholds = in_force.thresholds
    for key, found in sorted(observed.items()):
        limit = getattr(thresholds, key, None)
        if limit is None or _is_excused(key, in_force, observed):
            continue
        if key.startswith("min_"):
            met = found >= limit
        elif key.startswith("max_"):
            met = found <= limit
        else:
            met = all(licence_allowed(one, limit) for one in (found if isinstance(found, tuple) else ()))
        if not met:
            yield f"{key} is {shown(limit)}, found was {shown(found)}"


def _is_excused(key: str, in_force: PolicyInForce, observed: dict[str, float | tuple[str, ...]]) -> bool:
    """Say whether a rise of p95 is too small to count, or coverage of each file is not demanded."""
    if key == "min_line_coverage_percent":
        return "each_file" not in in_force.demanded.coverage
    if key != "max_p95_ratio":
        return key == "max_p95_rise_ms"
    rise = observed.get("max_p95_rise_ms")
    return isinstance(rise, float) and rise <= in_force.thresholds.max_p95_rise_ms


def endings(comparisons: Iterable[Comparison]) -> dict[str, int]:
    """Count how releases ended: outcome to number, the most frequent first."""
    found = [comparison.release.outcome for comparison in comparisons]
    return dict(sorted(((how, found.count(how)) for how in set(found)), key=lambda each: (-each[1], each[0])))
