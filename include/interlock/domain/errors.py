"""Every error that a release raises on purpose.

::

    ReleaseError
    ├── CatalogueError        a YAML file of the catalogue is wrong (file, line, key, found, allowed)
    ├── RequestRefused        the request has values that cannot be released
    ├── PolicyViolation       a rule of the policy forbids this
    │   ├── HeldBack          a rollout may not continue now: no permit, an emergency stop, or a freeze
    │   │   └── CalledOff     people withdrew the release, or another one overtook it
    │   └── LostRight         the permission was lost: another process came, or the release has ended
    ├── SourceError           the repository, the ref or the commit is not what it should be
    ├── AssetMissing          a host, load balancer or tool that the release needs is not there
    ├── BuildFailed           the service's own build tool failed, ran too long, or left nothing
    ├── DigestMismatch        bytes are not the bytes that were recorded
    ├── QualityRejected       an expectation failed; carries the rows
    ├── GateRejected          people rejected it, or no answer came in time
    ├── DeployError           a host could not be brought to the release
    │   └── HostUnreachable   no connection: refused, timed out, unknown or changed host key
    ├── StepFailed            a step of the runbook was not done, or it is not known whether it was
    ├── VerificationFailed    production does not behave as it did before
    ├── LedgerError           the ledger refuses an entry, or does not hold
    │   ├── LedgerConflict    the key of an entry stands for something else already
    │   ├── AlreadyRecorded   what may happen once has happened; carries the entry
    │   ├── ClockError        the clock stands where an entry would be out of order
    │   └── LedgerBroken      an entry was changed, removed, moved or slipped in; carries the break
    ├── DeliveryRefused       another system refused what it was told of a release
    └── TransientError        the outside world did not answer; trying again is right
        ├── ConditionUnmet    another system does not allow it yet: people have to do something there
        └── SystemBusy        it says when to ask again; carries the time

All but :class:`TransientError` and :class:`HostUnreachable` are final: asking again gives the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from interlock.domain.ledger.chain import Break, Entry


class ReleaseError(Exception):
    """Base of every error that a release raises on purpose.

    :param what: what happened, and to what, in one sentence.
    :param rule: the rule that decided, with the file it comes from.
    :param who: who can change it.
    :param next_step: what to do next.
    """

    def __init__(self, what: str, *, rule: str = "", who: str = "", next_step: str = "") -> None:
        self.what, self.rule, self.who, self.next_step = what, rule, who, next_step
        parts = [what]
        if rule:
            parts.append(f"Rule: {rule}.")
        if who:
            parts.append(f"Who can change it: {who}.")
        if next_step:
            parts.append(f"Next: {next_step}.")
        super().__init__(" ".join(parts))


def describe_error(error: Exception) -> str:
    """Return what people are told of an error: its message if it was raised on purpose, and else only its type."""
    return str(error) if isinstance(error, ReleaseError) else f"{type(error).__name__}."


class CatalogueError(ReleaseError, ValueError):
    """A file of the catalogue is wrong; nothing of it is used."""


class RequestRefused(ReleaseError, ValueError):
    """A request has values that cannot be released."""


class PolicyViolation(ReleaseError, ValueError):
    """A rule of the policy forbids this."""


class HeldBack(PolicyViolation):
    """A rollout may not continue now: no permit, an emergency stop, a freeze, or it was withdrawn or overtaken."""


class CalledOff(HeldBack):
    """People withdrew the release, or another one overtook it: its tasks only end it."""


class LostRight(PolicyViolation):
    """A process lost its permission: another process came after it, or the release has ended."""


class SourceError(ReleaseError):
    """The repository, the ref or the commit is not what it should be."""


class AssetMissing(ReleaseError):
    """A host, load balancer or tool that the release needs is not there."""


class BuildFailed(ReleaseError):
    """The service's own build tool failed, ran too long, or created no output."""


class DigestMismatch(ReleaseError):
    """Bytes are not the bytes that were recorded."""


class QualityRejected(ReleaseError):
    """A quality expectation failed."""


class GateRejected(ReleaseError):
    """People rejected it, or no answer came in time."""


class DeployError(ReleaseError):
    """A host could not be brought to the release."""


class HostUnreachable(DeployError):
    """No connection to a host: refused, timed out, unknown or changed host key."""


class StepFailed(ReleaseError):
    """A step of the runbook was not done, or it is not known whether it was."""


class VerificationFailed(ReleaseError):
    """Production does not behave as it did before."""


class LedgerError(ReleaseError):
    """The ledger refused an entry, or is not intact."""


class LedgerConflict(LedgerError):
    """The key of an entry already exists with other content."""


class AlreadyRecorded(LedgerError):
    """What may happen once has happened; ``entry`` is the record of it."""

    def __init__(self, what: str, *, entry: Entry, rule: str = "", who: str = "", next_step: str = "") -> None:
        super().__init__(what, rule=rule, who=who, next_step=next_step)
        self.entry = entry


class ClockError(LedgerError):
    """The clock is at a time at which an entry would be out of order."""


class LedgerBroken(LedgerError):
    """An entry was changed, removed, moved or inserted; ``broken`` names the entry."""

    def __init__(self, what: str, *, broken: Break, rule: str = "", who: str = "", next_step: str = "") -> None:
        super().__init__(what, rule=rule, who=who, next_step=next_step)
        self.broken = broken


class TransientError(ReleaseError):
    """The outside world did not answer; trying again is right."""


class ConditionUnmet(TransientError):
    """Another system does not allow it yet: people have to do something there."""


class SystemBusy(TransientError):
    """Another system answers that it has no capacity now; ``until`` is when to ask again."""

    def __init__(self, what: str, *, until: datetime, rule: str = "", who: str = "", next_step: str = "") -> None:
        super().__init__(what, rule=rule, who=who, next_step=next_step)
        self.until = until


class DeliveryRefused(ReleaseError):
    """Another system refused what it was told of a release."""
