"""The records of a canary: its measurements, the question about it, and its judgement.

Light to import, for Dag files: the statistics are in :mod:`judge`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from interlock.domain.calendars.bookings import Entered
from interlock.domain.canonical import Later, Model
from interlock.domain.records import Blob, HostResult, LoadResult, Record

Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Classification = Literal["pass", "high", "low", "no_data", "no_data_failed"]
Verdict = Literal["pass", "marginal", "fail"]
MIN_ROUNDS = 6
"""With fewer rounds a test at 98 % cannot see any difference."""


class EffectSize(Model):
    """How large a difference has to be to count."""

    measure: Literal["mean_ratio", "cles"] = Field(
        "mean_ratio",
        description="The canary's mean as a multiple of the baseline's; or the share of pairs in which the canary is "
        "higher (common language effect size)",
    )
    allowed_increase: float | None = Field(None, ge=0, description="From here on it is high; none: any difference")
    allowed_decrease: float | None = Field(None, ge=0, description="Down to here it is low; none: any difference")
    critical_increase: float | None = Field(None, ge=0, description="Of a critical metric: from here on all fails")
    critical_decrease: float | None = Field(None, ge=0, description="Of a critical metric: down to here all fails")

    @property
    def indifferent(self) -> float:
        """The measure of no difference."""
        return 0.5 if self.measure == "cles" else 1.0

    def bounds(self, *, critical: bool = False) -> tuple[float, float]:
        """Return what is low and what is high."""
        low, high = (
            (self.critical_decrease, self.critical_increase)
            if critical
            else (self.allowed_decrease, self.allowed_increase)
        )
        return self.indifferent if low is None else low, self.indifferent if high is None else high


class Metric(Model):
    """What is measured, and how it is judged."""

    name: Name
    groups: tuple[Name, ...] = Field(min_length=1)
    direction: Literal["increase", "decrease", "either"] = Field("either", description="Which change is for the worse")
    nan: Literal["remove", "replace"] = Field(
        "remove", description="A measurement that is missing is left out, or is 0: an error count without errors"
    )
    outliers: Literal["keep", "remove"] = "keep"
    outlier_factor: float = Field(3.0, gt=0, description="Interquartile ranges beyond the quartiles")
    critical: bool = Field(False, description="If it fails, the canary fails")
    must_have_data: bool = Field(False, description="Without data it fails; a critical one does in any case")
    muted: bool = Field(False, description="It is shown, and does not count")
    counts: bool = Field(
        False,
        description="A share of requests that failed: judged by their numbers, over all, by host and in time",
        exclude_if=lambda counts: not counts,
    )
    effect: EffectSize = EffectSize()


class Question(Model):
    """The metrics of a canary, and what makes it pass."""

    metrics: tuple[Metric, ...] = Field(min_length=1)
    weights: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(
        {}, description="Group: its percentage of the score; groups that are not named share the rest"
    )
    pass_from: float = Field(95, ge=0, le=100)
    marginal_from: float = Field(75, ge=0, le=100)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [metric.name for metric in self.metrics]
        groups = {group for metric in self.metrics for group in metric.groups}
        total = sum(self.weights.values())
        if len(set(names)) < len(names):
            raise ValueError("metrics: a metric is named twice")
        if unknown := sorted(self.weights.keys() - groups):
            raise ValueError(f"weights: no metric is of {', '.join(unknown)}")
        if total > 100 or (groups == self.weights.keys() and total != 100):
            raise ValueError(f"weights: they are {total:g} in sum, and the whole is 100")
        if self.marginal_from > self.pass_from:
            raise ValueError("marginal_from: must not be above pass_from")
        return self


class Summary(Model):
    """A series in numbers; none of no measurement."""

    count: int
    mean: float | None
    minimum: float | None
    median: float | None
    maximum: float | None


class Judged(Model):
    """The result of one metric."""

    name: str
    groups: tuple[str, ...]
    classification: Classification
    reason: str
    critical: bool = Field(description="It fails the canary")
    muted: bool
    ratio: float | None = Field(description="The canary's mean as a multiple of the baseline's; none: one is 0")
    effect: float | None = Field(None, description="By the metric's own measure; none: it cannot be computed")
    difference: tuple[float, float, float] | None = Field(
        None, description="Canary less baseline: lower bound at 98 %, Hodges-Lehmann estimate, upper bound"
    )
    canary: Summary
    baseline: Summary
    failed: Later[tuple[float, float, float, float]] = Field(
        None, description="Of requests: failed and made of the canary, failed and made of the baseline"
    )


class GroupScore(Model):
    """The result of one group."""

    name: str
    score: float = Field(description="Percent of its metrics that pass")
    weight: float
    no_data: bool = Field(description="It had no data; then it counts as 100")


class CanaryReport(Record):
    """The result of a canary."""

    verdict: Verdict
    score: float
    reason: str = Field(description="Why all of it failed; empty: the score decided")
    metrics: tuple[Judged, ...]
    groups: tuple[GroupScore, ...]
    pass_from: float
    marginal_from: float
    docs: str = Field("", description="URI of the report's page in the artifact store; empty: it was not written")

    def sentence(self) -> str:
        """Describe the result in a sentence or two."""
        worse = [one.reason for one in self.metrics if one.classification != "pass" and one.reason and not one.muted]
        why = " ".join([self.reason] if self.reason else worse)
        return f"{self.score:g} of 100 points, {self.pass_from:g} pass.{f' {why}' if why else ''}"


class RestartReport(Record):
    """What became of the hosts of the old version that were restarted to be compared with."""

    results: tuple[HostResult, ...]
    entered: Later[Entered] = None


class CanaryRound(Model):
    """What was measured of canary and baseline at one moment."""

    number: int
    at: datetime
    loads: tuple[LoadResult, ...] = Field(description="Of each path of each host")
    told: dict[str, dict[str, float | None]] = Field({}, description="Host: the numbers that it told; none: it did not")


class CanaryMeasured(Record):
    """One round, as the ledger names it."""

    number: int
    at: datetime
    requests: int = Field(description="Of the host that got fewest")
    measured: Blob = Field(description="A CanaryRound, as JSON")
    failed: Later[dict[str, dict[str, tuple[int, int]]]] = Field(
        None,
        description="Host: path: requests that failed, and that were made; the verdict on errors follows from them",
    )


class CanaryWatch(Record):
    """A canary that was watched long enough."""

    rounds: int
    requests: int = Field(description="That each host was sent at least, over all rounds")
    since: datetime | None
    until: datetime | None


class TrafficReport(Record):
    """Where the load balancer sends the traffic now."""

    weights: dict[str, int] = Field(description="ARN of a target group: its weight")
    changed: bool = Field(description="This changed it")
    entered: Later[Entered] = None
