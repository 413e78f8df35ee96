"""What an organisation writes in ``include/catalogue/``: its policy, its board, its services.

Every model refuses unknown keys. Durations are ISO 8601 (``PT48H``, ``P2D``). A module for each kind of file.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from interlock.domain.canonical import Model, sha256_of

from .board_file import (
    DEFAULT_DEADLINE,
    Board,
    BoardBook,
    BoardRule,
    Condition,
    Delegation,
    Demands,
    Person,
    Quorum,
    RuleQuorum,
)
from .policy_file import (
    Bookings,
    BuildRules,
    CoverageOf,
    Demanded,
    Findings,
    Flow,
    FlowTightening,
    Licence,
    Policy,
    QualitySuite,
    RiskFormula,
    RiskLevel,
    RiskQuestion,
    StandardChange,
    Thresholds,
    Tightening,
    TimeLimits,
    TimeLimitsTightening,
    TrainRules,
    VersionStep,
    WaiverRule,
    WaiverTightening,
)
from .prebuilt_file import Claim, PinnedIdentity, PinnedKey, Prebuilt, PrebuiltRules, StoreKind
from .runbook_file import Action
from .service_file import (
    MAX_WAVES,
    PLATFORM_PREFIXES,
    Audience,
    Build,
    Environment,
    Health,
    Launch,
    Load,
    Service,
    SignOff,
    SmokeCheck,
    Source,
    Suite,
    TestData,
    Training,
    Wave,
)
from .strategy_file import BlueGreen, Canary, Guidance, OnFailure, OwnMetric, StrategyName
from .values import (
    MAX_DURATION,
    PRODUCTION,
    Argument,
    ChangeType,
    ConnectionId,
    Duration,
    Email,
    EnvironmentVariable,
    Identifier,
    Line,
    People,
    RelativePath,
    Roles,
    TagName,
    TagValue,
    UrlPath,
    UserName,
)

__all__ = [
    "DEFAULT_DEADLINE",
    "MAX_DURATION",
    "MAX_WAVES",
    "PLATFORM_PREFIXES",
    "PRODUCTION",
    "Action",
    "Argument",
    "Audience",
    "BlueGreen",
    "Board",
    "BoardBook",
    "BoardRule",
    "Bookings",
    "Build",
    "BuildRules",
    "Canary",
    "Catalogue",
    "ChangeType",
    "Claim",
    "Condition",
    "ConnectionId",
    "CoverageOf",
    "Delegation",
    "Demanded",
    "Demands",
    "Duration",
    "Email",
    "Environment",
    "EnvironmentVariable",
    "Findings",
    "Flow",
    "FlowTightening",
    "Guidance",
    "Health",
    "Identifier",
    "Launch",
    "Licence",
    "Line",
    "Load",
    "OnFailure",
    "OwnMetric",
    "People",
    "Person",
    "PinnedIdentity",
    "PinnedKey",
    "Policy",
    "Prebuilt",
    "PrebuiltRules",
    "QualitySuite",
    "Quorum",
    "RelativePath",
    "RiskFormula",
    "RiskLevel",
    "RiskQuestion",
    "Roles",
    "RuleQuorum",
    "Service",
    "ServiceCatalogue",
    "SignOff",
    "SmokeCheck",
    "Source",
    "StandardChange",
    "StoreKind",
    "StrategyName",
    "Suite",
    "TagName",
    "TagValue",
    "TestData",
    "Thresholds",
    "Tightening",
    "TimeLimits",
    "TimeLimitsTightening",
    "TrainRules",
    "Training",
    "UrlPath",
    "UserName",
    "VersionStep",
    "WaiverRule",
    "WaiverTightening",
    "Wave",
]


class ServiceCatalogue(NamedTuple):
    """What the catalogue says about one service, read at one moment: a task reads it once, and hands it on."""

    policy: Policy
    board: BoardBook
    service: Service

    @property
    def digest(self) -> str:
        """SHA-256 of policy, board and service: a release is bound to it."""
        return sha256_of({name: part.model_dump(mode="json") for name, part in self._asdict().items()})


class Catalogue(Model):
    """The whole catalogue, as read: a broken service file is in ``broken`` and nowhere else."""

    policy: Policy
    board: BoardBook
    services: dict[str, Service]
    broken: dict[str, str] = Field({}, description="Service file name: the error that keeps it out")

    def of(self, service: str) -> ServiceCatalogue:
        """Return what concerns one service."""
        return ServiceCatalogue(self.policy, self.board, self.services[service])

    @property
    def voters(self) -> tuple[UserName, ...]:
        """All people who may get a ballot, by the rules of every level."""
        levels = (*self.policy.business_units.values(), *(service.policy for service in self.services.values()))
        further = (user for level in levels for rule in level.board_rules for user in rule.members)
        return tuple(dict.fromkeys((*self.board.voters, *further)))
