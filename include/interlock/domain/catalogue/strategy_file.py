"""``environments.*`` of ``services/*.yaml``: the strategy that changes a fleet, and what happens if a host fails."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from interlock.domain.canonical import Model

from .values import Duration, TagName, TagValue, UrlPath

StrategyName = Literal["rolling", "canary", "blue_green"]
OnFailure = Literal["exclude", "back_out", "ask"]
TargetGroupName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}$"), Field(description="Name of an ELBv2 target group")
]
MAX_TRAFFIC_PERCENT = 45
"""Percent: canary and baseline each get this share, and the rest of the fleet keeps some traffic."""
_PERCENT = r"^([1-9]|[1-3][0-9]|4[0-5]) ?%$"
MIN_BAKE_TIME = timedelta(seconds=10)


def _percent(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(_PERCENT, value, re.ASCII):
        return int(value.rstrip("% "))
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TRAFFIC_PERCENT:
        return value
    raise ValueError(f"must be a percentage from 1% to {MAX_TRAFFIC_PERCENT}%: the baseline gets the same share")


TrafficShare = Annotated[
    int,
    BeforeValidator(_percent),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_TRAFFIC_PERCENT},
                {"type": "string", "pattern": _PERCENT},
            ],
            "description": "A percentage, such as 10%",
        }
    ),
]


def _long_enough(value: timedelta) -> timedelta:
    if value < MIN_BAKE_TIME:
        raise ValueError(f"must be at least {MIN_BAKE_TIME.seconds} seconds, so that the canary can be evaluated")
    return value


class OwnMetric(Model):
    """A number that the service itself tells of each host."""

    worse: Literal["higher", "lower", "either"] = Field("higher", description="Which change counts as worse")
    by: float = Field(
        1.25, gt=1, le=100, description="Ratio to the mean of the baseline from which a difference counts"
    )
    critical: bool = Field(False, description="If it fails, the canary fails")


MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,99}$")]


class Canary(Model):
    """The first wave is tried before the others: it is compared with hosts of the old version that were restarted."""

    bake: Annotated[Duration, AfterValidator(_long_enough)] = Field(
        timedelta(minutes=10), description="Observation time of the canary"
    )
    requests: int = Field(
        200,
        ge=20,
        le=1_000_000,
        description="Minimum number of requests to each canary host; extends the observation time",
    )
    traffic: TrafficShare | None = Field(
        None,
        description="Traffic share of the canary; the baseline gets the same share. Default: the usual share of a host",
    )
    target_group: TargetGroupName | None = Field(None, description="Target group of the canary; with traffic")
    baseline_target_group: TargetGroupName | None = Field(
        None, description="Target group of the baseline; with traffic"
    )
    slower: float = Field(
        1.25,
        gt=1,
        le=100,
        description="Ratio to the response time of the baseline from which the canary counts as slower",
    )
    metrics_path: UrlPath | None = Field(
        None, description="Path of the metrics of a host, one JSON object; requires metrics"
    )
    metrics: dict[MetricName, OwnMetric] = Field({}, description="Metrics to evaluate, and how")
    pass_from: float = Field(95, ge=1, le=100, description="Minimum score with which the release continues")
    marginal_from: float = Field(75, ge=0, le=100, description="Scores below this back the release out")
    marginal: Literal["ask", "fail"] = Field(
        "ask", description="For scores in between: ask the release manager, or back the release out"
    )
    answer_within: Duration = Field(
        timedelta(hours=1), description="Time for the answer; without an answer, the release is backed out"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        given = [one is not None for one in (self.traffic, self.target_group, self.baseline_target_group)]
        if any(given) and not all(given):
            raise ValueError("traffic, target_group and baseline_target_group go together: give all of them, or none")
        if self.target_group is not None and self.target_group == self.baseline_target_group:
            raise ValueError("target_group and baseline_target_group: two groups are needed")
        if bool(self.metrics) != (self.metrics_path is not None):
            raise ValueError("metrics and metrics_path go together")
        if self.marginal_from > self.pass_from:
            raise ValueError("marginal_from: must not be above pass_from")
        return self


class BlueGreen(Model):
    """A second fleet of the same size: a release is deployed to the idle fleet, which then gets all traffic."""

    hosts: dict[TagName, TagValue] = Field(min_length=1, description="EC2 tags that its instances have")
    target_group: TargetGroupName
    keep: Duration = Field(
        timedelta(hours=1),
        description="Time for which the previous fleet stays unchanged after a switch, so that it can be reverted",
    )


class Guidance(Model):
    """Who decides about a host that failed."""

    answer_within: Duration = Field(timedelta(minutes=30), description="Time for the answer of the release manager")
    unanswered: Literal["exclude", "back_out"] = Field("back_out", description="Action without an answer in time")
