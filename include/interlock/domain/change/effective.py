"""The rules that concern one release, worked out from a version of the catalogue, and how two versions differ.

A release is bound to these rules, and not to the files. What the catalogue says about other services, other change
types and other people changes nothing. If the rules themselves change, the decisions on the release do not hold, and
the difference is named: file, key, before and after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interlock.domain.board.voting import BOOK, matches, rules_of, signers
from interlock.domain.canonical import Sha256, sha256_of
from interlock.domain.catalogue import (
    BoardBook,
    BoardRule,
    ChangeType,
    Flow,
    Person,
    Policy,
    Prebuilt,
    Service,
    ServiceCatalogue,
)
from interlock.domain.catalogue.policy_file import TIERS, StandardChange
from interlock.domain.catalogue.runbook_file import irreversible_of
from interlock.domain.records import PolicyInForce, Rules

from .environments import steps_of
from .policy import build_rules_of, resolve_policy
from .tightening import ENTERPRISE

CONCERNS_NO_RELEASE = frozenset({"name", "owner", "findings", "bookings", "pipelines", "chat", "events"})
"""Keys of policy.yaml that decide nothing about a release: who is named in refusals, who is told, how long a booking is
expected to last, which pipelines may request releases, which chat rooms are told, which events declare
emergency stops. Every other key is part of its rules.
"""
ALWAYS = 100
"""The highest risk: a rule that applies from some risk on may concern a release whose risk is not known yet."""
_NOT_IN_RULES = ("description", "policy")
"""Parts of a service's file: the first is for readers, and the second is worked out with the policy."""
THE_FILES = "policy.yaml, board.yaml or the file of the service"
MAX_SHOWN = 100
"""Characters of a value in a sentence about a difference."""


def bound_to(catalogue: ServiceCatalogue, change_type: ChangeType) -> PolicyInForce:
    """Return the policy in force for a release, bound to the rules that concern it.

    :raises PolicyViolation: a level of the policy loosens another.
    """
    path = steps_of(catalogue.service)
    in_force = resolve_policy(catalogue.policy, catalogue.service, change_type, path)
    rules = rules_for(catalogue, change_type)
    return in_force.model_copy(
        update={"rules": rules, "digest": sha256_of(rules), "may_waive": _waivers(in_force, catalogue.board.people)}
    )


def digest_now(began_with: Sha256, catalogue: ServiceCatalogue, change_type: ChangeType) -> Sha256:
    """Return the digest of the rules of a release as they are now.

    :param began_with: the digest when the release began; that of an older release is of the whole files.
    """
    if began_with == catalogue.digest:
        return began_with
    return sha256_of(rules_for(catalogue, change_type))


def what_differs(in_force: PolicyInForce, catalogue: ServiceCatalogue) -> tuple[str, ...]:
    """Say which rules of a release have changed since it began, a sentence each; nothing: none has."""
    if digest_now(in_force.digest, catalogue, in_force.change_type) == in_force.digest:
        return ()
    if in_force.rules is None:
        return (THE_FILES,)
    return differences(in_force.rules, rules_for(catalogue, in_force.change_type))


def digests_by_type(catalogue: ServiceCatalogue) -> dict[str, Sha256]:
    """Return the digest of the rules of a service's releases, by change type.

    :raises PolicyViolation: a level of the policy loosens another.
    """
    return {kind.value: sha256_of(rules_for(catalogue, kind)) for kind in ChangeType}


def marks_of(catalogue: ServiceCatalogue) -> str:
    """Return lines of Markdown that name the rules from which the Dags of a service are made; readers do not see them.

    Airflow keeps them with the Dag, so that a release finds whether the Dag processor had the rules of its worker.
    """
    return "".join(f"\n[rules of {kind} releases]: # ({digest})" for kind, digest in digests_by_type(catalogue).items())


def marked(text: str) -> dict[str, Sha256]:
    """Return the rules that :func:`marks_of` named in the documentation of a Dag, by change type."""
    return dict(_MARK.findall(text))


_MARK = re.compile(r"^\[rules of ([a-z]+) releases\]: # \(([0-9a-f]{64})\)$", re.MULTILINE)


def rules_for(catalogue: ServiceCatalogue, change_type: ChangeType) -> Rules:
    """Return the rules that concern releases of a service by a change type, by file and key."""
    policy, book, service = catalogue
    in_force = resolve_policy(policy, service, change_type)
    return {
        ENTERPRISE: _of_policy(policy, service, in_force),
        BOOK: _of_book(policy, book, service, in_force),
        f"services/{service.name}.yaml": service.model_dump(mode="json", exclude=set(_NOT_IN_RULES)),
    }


def _of_policy(policy: Policy, service: Service, in_force: PolicyInForce) -> dict[str, Any]:
    risk = policy.risk.model_dump(mode="json")
    tier = TIERS[service.tier - 1]
    return {
        "thresholds": in_force.thresholds.model_dump(mode="json"),
        "demanded": in_force.demanded.model_dump(mode="json"),
        "change_types": {in_force.change_type.value: in_force.flow.model_dump(mode="json")},
        "time_limits": in_force.time_limits.model_dump(mode="json"),
        "waivers": {suite: rule.model_dump(mode="json") for suite, rule in in_force.waivers.items()},
        "builds": build_rules_of(policy, service).model_dump(mode="json"),
        "risk": {**risk, "points_by_tier": {tier: risk["points_by_tier"][tier]}},
        "standard_changes": {
            one.name: one.model_dump(mode="json", exclude={"services", "tiers"})
            for one in policy.standard_changes
            if in_force.change_type is ChangeType.STANDARD and _may_be_like(one, service)
        },
        "trains": policy.trains.model_dump(mode="json"),
        "permits": policy.permits.model_dump(mode="json"),
        **({"prebuilt": policy.prebuilt.model_dump(mode="json")} if isinstance(service.build, Prebuilt) else {}),
        **(
            {"tickets": own.model_dump(mode="json")}
            if (own := policy.tickets.concerning(service.name)).projects
            else {}
        ),
    }


def _may_be_like(template: StandardChange, service: Service) -> bool:
    return (not template.services or service.name in template.services) and (
        not template.tiers or service.tier in template.tiers
    )


def _of_book(policy: Policy, book: BoardBook, service: Service, in_force: PolicyInForce) -> dict[str, Any]:
    flow, kind = in_force.flow, in_force.change_type
    irreversible = bool(irreversible_of(service.runbook))
    rules = {
        place: rule
        for place, rule in rules_of(policy, book, service)
        if matches(rule.when, service, change_type=kind, risk=ALWAYS, irreversible=irreversible)
    }
    names = [*filter(None, (flow.board, *flow.further_boards)), *(rule.board for rule in rules.values() if rule.board)]
    boards = {name: book.boards[name] for name in dict.fromkeys(names)}
    members = {user for board in boards.values() for user in board.members}
    members |= {user for rule in rules.values() for user in rule.members}
    members |= {
        user for one in service.stations.values() if one.sign_off for user in signers(one.sign_off, book.people)
    }
    delegates = [one for one in book.delegates if one.for_ in members]
    management = book.senior_management if _asks_management(flow) else ()
    concerned = {*members, *(one.to for one in delegates), *management, *_named_by(service)}
    return {
        "people": {one.user: one.model_dump(mode="json") for one in book.people if one.user in concerned},
        "boards": {name: board.model_dump(mode="json") for name, board in boards.items()},
        "rules": {place: _as_applied(rule) for place, rule in rules.items()},
        "delegates": {f"{one.for_} from {one.from_}": one.model_dump(mode="json") for one in delegates},
        "senior_management": list(management),
    }


def _as_applied(rule: BoardRule) -> dict[str, Any]:
    """Return a rule on who votes without the other releases that it applies to."""
    only = {"irreversible": True} if rule.when.irreversible else {}
    return {**rule.model_dump(mode="json", exclude={"when"}), "risk_from": rule.when.risk_from, **only}


def _asks_management(flow: Flow) -> bool:
    return flow.plan_approval_for_major or flow.plan_approval_from_risk <= ALWAYS


def _named_by(service: Service) -> Iterator[str]:
    """Yield everybody whom the file of a service names."""
    yield from service.functional_approvers
    asked = [service.training.acknowledge] if service.training else []
    asked += [service.cases.testers] if service.cases else []
    yield from (user for of_roles in asked for users in of_roles.values() for user in users)
    for step in service.runbook:
        yield from (user for _, action in step.actions if action.question for user in action.question.who)


def _waivers(in_force: PolicyInForce, people: Sequence[Person]) -> dict[str, tuple[str, ...]]:
    """Return who may waive failures of each suite: people who get a role later do not, for this release."""
    return {
        suite: tuple(sorted(person.user for person in people if person.role in rule.roles))
        for suite, rule in in_force.waivers.items()
    }


def differences(before: Rules, after: Rules) -> tuple[str, ...]:
    """Say in which file which key has which other value, a sentence each."""
    return tuple(
        said(file, ".".join(path) or "all of it", shown_value(old), shown_value(new))
        for file in sorted({*before, *after})
        for path, old, new in compared(before.get(file, {}), after.get(file, {}))
    )


def said(file: str, key: str, before: str, after: str) -> str:
    """Return a sentence about a rule that changed."""
    return f"{file}: {key} was {before} and is {after}"


NOTHING = object()
"""The value of a key that is not there."""


def compared(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the keys at which two values differ, and both values there."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from compared(before.get(key, NOTHING), after.get(key, NOTHING), (*path, str(key)))
    elif before != after:
        yield path, before, after


def shown_value(value: Any) -> str:
    """Return a value as sentences have it."""
    if value is NOTHING:
        return "not there"
    if isinstance(value, float):
        return f"{value:g}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…") or "empty"
