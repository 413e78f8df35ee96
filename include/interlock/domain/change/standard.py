"""Standard changes: pre-authorised by a template, which a release must match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from interlock.domain.board.voting import listed
from interlock.domain.catalogue import Policy, Service, StandardChange
from interlock.domain.errors import PolicyViolation


def template_for(
    policy: Policy, service: Service, *, bump: str, risk: int, answers: Mapping[str, bool], now: datetime
) -> StandardChange:
    """Return the first template that a release matches, in the order of the policy.

    :param bump: how far the version goes, as :func:`interlock.domain.change.semver.bump` says it.
    :param answers: of the risk questions.
    :raises PolicyViolation: it matches no template, so it is not pre-authorised; with the reason for each template.
    """
    against = {}
    for template in policy.standard_changes:
        reasons = list(_against(template, service, bump, risk, answers, now))
        if not reasons:
            return template
        against[template.name] = reasons
    why = " ".join(f"Template {name}: {'; '.join(reasons)}." for name, reasons in against.items())
    raise PolicyViolation(
        f"The release is not a standard change of {service.name}. {why or 'The policy has no template.'}",
        rule="a standard change matches a template in standard_changes of policy.yaml; a board decides on any other "
        "change",
        who=policy.owner,
        next_step="release it as a normal change",
    )


def _against(
    template: StandardChange, service: Service, bump: str, risk: int, answers: Mapping[str, bool], now: datetime
) -> Iterator[str]:
    """Yield how a release differs from a template."""
    if template.services and service.name not in template.services:
        yield f"allows only {listed(template.services, 'or')}"
    if template.tiers and service.tier not in template.tiers:
        yield f"does not allow services of tier {service.tier}"
    if bump not in template.steps:
        yield f"allows only steps of the kind {listed(template.steps, 'or')}, but this step is {bump}"
    if risk > template.risk_up_to:
        yield f"allows a risk of {template.risk_up_to} at most, but the risk is {risk}"
    for key in template.answered_no:
        if answers.get(key, True):
            yield f"{key} was answered with yes" if key in answers else f"{key} was not answered"
    if template.until is not None and now.astimezone(UTC).date().isoformat() > template.until:
        yield f"expired on {template.until}"
