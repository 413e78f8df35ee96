"""Accounts of pipelines: each may request releases of the services that the policy names for it, and nothing else."""

from __future__ import annotations

from interlock.domain.catalogue import Policy
from interlock.domain.errors import PolicyViolation

PIPELINE = "pipeline"
"""The role of these accounts in Airflow."""


def foreign_pipeline(policy: Policy, user: str, service: str, *, is_pipeline: bool = False) -> str:
    """Say why an account may not request a release of a service; empty: it may, or it is not a pipeline's.

    :param is_pipeline: its role in Airflow says so, whatever the policy says.
    """
    named = policy.pipelines.get(user)
    if (named is None and not is_pipeline) or service in (named or ()):
        return ""
    return f"{user} is the account of a pipeline and may request releases of {', '.join(named or ()) or 'no service'}"


def refuse_foreign_pipeline(policy: Policy, user: str, service: str) -> None:
    """Refuse a release that the account of another service's pipeline requested.

    :raises PolicyViolation: so it is.
    """
    if why := foreign_pipeline(policy, user, service):
        raise PolicyViolation(
            f"{why}, but it requested one of {service}.",
            rule="pipelines, in policy.yaml",
            who=policy.owner,
            next_step=f"let the pipeline of {service} request it, or have the account named for {service}",
        )
