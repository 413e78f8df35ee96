"""The changes of a release in authorities: whether they approve it, read there each time that it matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import BaseHook

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.catalogue.systems import load_systems
from interlock.domain.catalogue import ChangeType
from interlock.domain.errors import DeliveryRefused, ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import RECORD_APPROVED, ROLLOUT_FROZEN
from interlock.domain.outbox.authority import RecordRead, why_not_approved
from interlock.domain.outbox.facts import records_of
from interlock.domain.outbox.systems_file import ServiceNow
from interlock.domain.records import RolloutPlan
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import record

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger


class Standing(NamedTuple):
    """What an authority says of a release."""

    system: str
    read: RecordRead | None = None
    """Its change; None: there is none, or it could not be read."""
    why: str = ""
    """Why it does not approve the release, in a sentence; empty: it does."""
    unread: bool = False
    """It did not answer."""


def authorities_of(plan: RolloutPlan, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the systems whose approval a release needs, by its chain.

    A rehearsal has no change, and an emergency change does not wait for one.
    """
    if plan.rehearsal or plan.change_type is ChangeType.EMERGENCY:
        return ()
    return tuple(sorted(system for system, mode in records_of(entries).items() if mode == "authority"))


def read_for_permit(plan: RolloutPlan, entries: Sequence[Entry]) -> tuple[Standing, ...]:
    """Return what each authority says of a plan, just before a permit; what approves it is recorded."""
    found = standings(plan, entries)
    for one in found:
        if one.read is not None and not one.why:
            record(RECORD_APPROVED, one.read)
    return found


def standings(plan: RolloutPlan, entries: Sequence[Entry]) -> tuple[Standing, ...]:
    """Return what each authority says of a frozen plan; what cannot be read approves nothing.

    :param entries: the chain of the release, verified.
    """
    if not authorities_of(plan, entries):
        return ()
    with resources.ledger() as ledger:
        return tuple(standings_by(plan, entries, ledger, BaseHook.get_connection))


def standings_by(
    plan: RolloutPlan, entries: Sequence[Entry], ledger: Ledger, connection_of: Callable[[str], Any]
) -> Iterator[Standing]:
    """Yield what :func:`standings` returns.

    :param connection_of: returns an Airflow connection.
    """
    frozen = next((one for one in reversed(entries) if one.kind == ROLLOUT_FROZEN), None)
    if frozen is None:
        return
    for system in authorities_of(plan, entries):
        try:
            yield _standing(system, plan, frozen, ledger, connection_of)
        except ReleaseError as error:  # fails closed
            why = f"The approval of the release in {system} could not be read: {error.what}"
            yield Standing(system, why=why, unread=not isinstance(error, DeliveryRefused))


def _standing(
    system: str, plan: RolloutPlan, frozen: Entry, ledger: Ledger, connection_of: Callable[[str], Any]
) -> Standing:
    from interlock.adapters.ledger.deliveries import Outbox  # not at the top: brings SQLAlchemy
    from interlock.adapters.servicenow.approvals import read_approvals
    from interlock.adapters.servicenow.instance import open_instance

    described = load_systems(catalogue_folder()).systems.get(system)
    if described is None:
        return Standing(system, why=f"{system} is an authority for this release, but systems.yaml does not have it.")
    if not isinstance(described, ServiceNow):
        what = f"but systems of its kind ({described.kind}) approve nothing."
        return Standing(system, why=f"{system} is an authority for this release, {what}")
    row = next((one for one in Outbox(ledger).all(chain=frozen.chain) if one.system == system), None)
    if row is None or not row.reference:
        why = f": {row.error}" if row is not None and row.error else "."
        return Standing(system, why=f"{system} has no change of this release yet{why}")
    connection = connection_of(described.connection)
    api = open_instance(connection, described.calls_per_second)
    try:
        read = read_approvals(api, system, row.reference, described.states.cancelled[-1])
    finally:
        api.close()
    why = why_not_approved(
        read,
        plan,
        frozen_at=frozen.at.replace(microsecond=0),  # the other system has whole seconds
        service_accounts={*described.service_accounts, *filter(None, [connection.login])},
        people=described.people,
        known=load_rules(catalogue_folder())[1].names,
    )
    return Standing(system, read, f"{why}." if why else "")
