"""From which places a service may take artifacts."""

from __future__ import annotations

from interlock.domain.catalogue import Policy, Prebuilt, Service
from interlock.domain.errors import PolicyViolation


def refuse_unlisted_place(service: Service, spec: Prebuilt, policy: Policy) -> None:
    """Refuse a place that the policy does not allow.

    :raises PolicyViolation: so it is.
    """
    if spec.connection not in policy.prebuilt.stores:
        raise PolicyViolation(
            f"{service.name} takes its artifacts from {spec.connection}, which the policy does not allow.",
            rule="prebuilt.stores, in policy.yaml",
            who=policy.owner,
            next_step=f"name one of {', '.join(policy.prebuilt.stores) or 'these places, once there are some'}",
        )
