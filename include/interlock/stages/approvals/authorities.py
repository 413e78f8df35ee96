"""The changes of a release in authorities: whether they approve it, read there each time that it matters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import BaseHook

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.catalogue.systems import load_systems
from interlock.adapters.signing.witness import only_witnessed
from interlock.domain.catalogue import ChangeType
from interlock.domain.catalogue.outside.events import approving
from interlock.domain.errors import DeliveryRefused, ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import RECORD_APPROVED, ROLLOUT_FROZEN
from interlock.domain.outbox.authority import RecordRead, read_in_events, why_not_approved
from interlock.domain.outbox.facts import records_of
from interlock.domain.outbox.systems_file import Approving, ServiceNow, Webhook
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
            yield _standing(system, plan, frozen, entries, ledger, connection_of)
        except ReleaseError as error:  # fails closed
            why = f"The approval of the release in {system} could not be read: {error.what}"
            yield Standing(system, why=why, unread=not isinstance(error, DeliveryRefused))


def _standing(
    system: str,
    plan: RolloutPlan,
    frozen: Entry,
    entries: Sequence[Entry],
    ledger: Ledger,
    connection_of: Callable[[str], Any],
) -> Standing:
    described = load_systems(catalogue_folder()).systems.get(system)
    if described is None:
        return Standing(system, why=f"{system} is an authority for this release, but systems.yaml does not have it.")
    if isinstance(described, Webhook):
        return _in_events(system, described, plan, frozen, entries)
    if isinstance(described, ServiceNow):
        return _in_service_now(system, described, plan, frozen, ledger, connection_of)
    what = f"but systems of its kind ({described.kind}) approve nothing."
    return Standing(system, why=f"{system} is an authority for this release, {what}")


def _in_events(system: str, described: Webhook, plan: RolloutPlan, frozen: Entry, entries: Sequence[Entry]) -> Standing:
    """Return what a system said in signed events, which the API server took and signed."""
    sources = approving(load_rules(catalogue_folder())[0].events, system)
    if not sources:
        what = "but no source under events of policy.yaml approves for it."
        return Standing(system, why=f"{system} is an authority for this release, {what}")
    read = read_in_events(system, only_witnessed(entries, resources.witness_key()), sources, plan.digest)
    return _judged(read, described, plan, frozen, described.service_accounts)


def _in_service_now(
    system: str,
    described: ServiceNow,
    plan: RolloutPlan,
    frozen: Entry,
    ledger: Ledger,
    connection_of: Callable[[str], Any],
) -> Standing:
    from interlock.adapters.ledger.deliveries import Outbox  # not at the top: brings SQLAlchemy
    from interlock.adapters.servicenow.approvals import read_approvals
    from interlock.adapters.servicenow.instance import open_instance

    row = next((one for one in Outbox(ledger).all(chains=[frozen.chain]) if one.system == system), None)
    if row is None or not row.reference:
        why = f": {row.error}" if row is not None and row.error else "."
        return Standing(system, why=f"{system} has no change of this release yet{why}")
    connection = connection_of(described.connection)
    api = open_instance(connection, described.calls_per_second)
    try:
        read = read_approvals(api, system, row.reference, described.states.cancelled[-1])
    finally:
        api.close()
    return _judged(read, described, plan, frozen, {*described.service_accounts, *filter(None, [connection.login])})


def _judged(
    read: RecordRead, described: Approving, plan: RolloutPlan, frozen: Entry, service_accounts: Collection[str]
) -> Standing:
    why = why_not_approved(
        read,
        plan,
        frozen_at=frozen.at.replace(microsecond=0),  # the other system has whole seconds
        service_accounts=service_accounts,
        people=described.people,
        known=load_rules(catalogue_folder())[1].names,
    )
    return Standing(read.system, read, f"{why}." if why else "")
