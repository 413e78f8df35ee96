"""Which rules hold for a release: the enterprise's, tightened by its business unit and by the service itself.

A lower level may only tighten. ``min_`` thresholds go up, ``max_`` thresholds go down, lists of what is allowed shrink;
anything else is refused with both places and both values named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .canonical import sha256_of
from .catalogue import ChangeType, Policy, Service, Thresholds, Tightening
from .errors import PolicyViolation
from .records import PolicyInForce

ENTERPRISE = "policy.yaml"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A threshold of a lower level that does not hold, and why.

    :param place: who asks for it: a file, and the part of it.
    :param found: what it says.
    :param allowed: what it could say.
    """

    place: str
    key: str
    found: object
    allowed: str

    def __str__(self) -> str:
        return f"{self.place} sets {self.key} to {shown(self.found)}; allowed is {self.allowed}"


def resolve_policy(policy: Policy, service: Service, change_type: ChangeType) -> PolicyInForce:
    """Resolve the policy for a release of a service: the flow of its change type, and the tightest thresholds.

    Its digest is of what holds (change type, flow, thresholds), not of where that is written.

    :raises PolicyViolation: a lower level loosens a threshold, or names one that the enterprise does not have.
    """
    thresholds, sources, refusals = _tighten(policy.thresholds, _levels(policy, service))
    if refusals:
        raise PolicyViolation(
            f"The policy of {service.name} cannot be resolved: {'; '.join(map(str, refusals))}.",
            rule="a lower level may only tighten",
            who=f"{service.owner} for the service, {policy.owner} for {ENTERPRISE}",
            next_step="tighten the threshold or leave it out, and trigger the release again",
        )
    flow = policy.change_types[change_type]
    holds = {
        "change_type": change_type.value,
        "flow": flow.model_dump(mode="json"),
        "thresholds": thresholds.model_dump(mode="json"),
    }
    return PolicyInForce(
        change_type=change_type, flow=flow, thresholds=thresholds, sources=sources, digest=sha256_of(holds)
    )


def refusals_of_unit(policy: Policy, unit: str) -> list[Refusal]:
    """Return what is wrong with the thresholds of a business unit."""
    return _tighten(policy.thresholds, [(place_of_unit(unit), policy.business_units[unit])])[2]


def refusals_of_service(policy: Policy, service: Service) -> list[Refusal]:
    """Return what is wrong with the thresholds of a service, held against those of the levels above it."""
    place = place_of_service(service.name)
    return [refusal for refusal in _tighten(policy.thresholds, _levels(policy, service))[2] if refusal.place == place]


def place_of_unit(unit: str) -> str:
    """Return how messages name the place of a business unit's policy."""
    return f"{ENTERPRISE} business_units.{unit}"


def place_of_service(name: str) -> str:
    """Return how messages name the place of a service's policy."""
    return f"services/{name}.yaml"


def shown(value: object) -> str:
    """Return a threshold as people write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "an empty list"
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _levels(policy: Policy, service: Service) -> Iterator[tuple[str, Tightening]]:
    if service.business_unit is not None:
        if service.business_unit not in policy.business_units:
            raise PolicyViolation(
                f"{service.name} belongs to the business unit {service.business_unit}, which has no policy.",
                rule=f"{ENTERPRISE} has an entry in business_units for every business unit that a service names",
                who=f"{service.owner} for the service, {policy.owner} for {ENTERPRISE}",
                next_step=f"name one of {', '.join(sorted(policy.business_units)) or 'them, once there are any'}",
            )
        yield place_of_unit(service.business_unit), policy.business_units[service.business_unit]
    yield place_of_service(service.name), service.policy


def _tighten(
    enterprise: Thresholds, levels: Iterable[tuple[str, Tightening]]
) -> tuple[Thresholds, dict[str, str], list[Refusal]]:
    """Return the thresholds after each level, whose value each is, and what was refused on the way."""
    values: dict[str, Any] = {key: getattr(enterprise, key) for key in Thresholds.model_fields}
    sources = dict.fromkeys(values, ENTERPRISE)
    refusals: list[Refusal] = []
    for place, level in levels:
        for key, found in sorted(level.thresholds.items()):
            value, problem = _read(key, found)
            problem = problem or _loosened(key, value, values[key], sources[key])
            if problem:
                refusals.append(Refusal(place, key, found, problem))
            elif (tightened := _tightened(values[key], value)) != values[key]:
                values[key], sources[key] = tightened, place
    return Thresholds.model_validate(values), sources, refusals


def _read(key: str, found: Any) -> tuple[Any, str]:
    """Return a threshold as the enterprise's has it, or what it should have been."""
    if key not in Thresholds.model_fields:
        return None, f"one of {', '.join(Thresholds.model_fields)}"
    try:
        return getattr(Thresholds.model_validate({key: found}), key), ""
    except ValidationError as error:
        return None, " and ".join(sorted({_allowed(detail) for detail in error.errors()}))


def _allowed(error: ErrorDetails) -> str:
    known = {"int_from_float": "a whole number", "int_type": "a whole number", "tuple_type": "a list"}
    return known.get(error["type"], error["msg"].removeprefix("Input should be "))


def _loosened(key: str, value: Any, above: Any, source: str) -> str:
    if key.startswith("min_") and value < above:
        return f"{shown(above)} or more, as {source} has it"
    if key.startswith("max_") and value > above:
        return f"{shown(above)} or less, as {source} has it"
    if isinstance(above, tuple) and not set(value) <= set(above):
        return f"some of {shown(above)}, as {source} has it"
    return ""


def _tightened(above: Any, value: Any) -> Any:
    """Return the tighter value, a list in the order of the level above, so that levels may come in any order."""
    return tuple(item for item in above if item in value) if isinstance(above, tuple) else value
