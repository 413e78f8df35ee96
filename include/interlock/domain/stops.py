"""What holds releases back for a time: emergency stops, by the ledger, and freezes, by the policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic import AwareDatetime, Field

from .canonical import Model
from .catalogue import Freeze, Service
from .ledger import Entry

DECLARED, LIFTED = "emergency_stop.declared", "emergency_stop.lifted"
EVERYTHING = "everything"


class EmergencyStop(Model):
    """Nothing in its scope is rolled out while it lasts."""

    id: str
    scope: str = Field(description="everything, or the name of a business unit or of a service")
    reason: str = Field(min_length=5, max_length=1000)
    incident: str = Field("", max_length=100)
    by: str = Field(description="User name of who declared it")
    until: AwareDatetime

    def __str__(self) -> str:
        """Say what is stopped, by whom, why and until when."""
        incident = f" ({self.incident})" if self.incident else ""
        return f"{self.scope}, by {self.by}: {self.reason}{incident}; until {self.until:%Y-%m-%d %H:%M} UTC."


def stops_in_force(entries: Iterable[Entry], service: Service, now: datetime) -> Iterator[EmergencyStop]:
    """Yield the emergency stops that hold a service back: declared, not lifted, not over.

    :param entries: the installation's chain.
    """
    found = list(entries)
    lifted = {entry.payload.get("id") for entry in found if entry.kind == LIFTED}
    for entry in found:
        if entry.kind != DECLARED or entry.payload.get("id") in lifted:
            continue
        stop = EmergencyStop.model_validate(entry.payload)
        if now < stop.until and stop.scope in (EVERYTHING, service.business_unit, service.name):
            yield stop


def freezes_in_force(freezes: Iterable[Freeze], service: Service, now: datetime) -> Iterator[str]:
    """Yield, in words, the freezes that hold a service back; a freeze holds from its beginning to before its end."""
    for freeze in freezes:
        of_all = not freeze.services and not freeze.business_units
        concerned = of_all or service.name in freeze.services or service.business_unit in freeze.business_units
        if concerned and freeze.from_ <= now < freeze.until:
            yield f"{freeze.name}, until {freeze.until:%Y-%m-%d %H:%M %Z} (freezes in policy.yaml)."
