"""What speaks against a permit by the change of a release in an authority: read there again before each permit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow.sdk import BaseHook

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.catalogue.systems import load_systems
from interlock.domain.catalogue import ChangeType
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import RECORD_APPROVED, ROLLOUT_FROZEN
from interlock.domain.outbox.authority import why_not_approved
from interlock.domain.outbox.facts import records_of
from interlock.domain.outbox.systems_file import ServiceNow
from interlock.domain.records import RolloutPlan
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import record


def objections_of_authorities(plan: RolloutPlan, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield in sentences what speaks against a permit: a change that is not approved, or that cannot be read.

    What approves the plan is recorded. A rehearsal has no change, and an emergency change does not wait for one.
    """
    if plan.rehearsal or plan.change_type is ChangeType.EMERGENCY:
        return
    frozen = next((one for one in reversed(entries) if one.kind == ROLLOUT_FROZEN), None)
    for system, mode in sorted(records_of(entries).items()):
        if mode != "authority" or frozen is None:
            continue
        try:
            yield from filter(None, [_objection(system, plan, frozen)])
        except ReleaseError as error:  # fails closed
            yield f"The approval of the release in {system} could not be read: {error.what}"


def _objection(system: str, plan: RolloutPlan, frozen: Entry) -> str:
    from interlock.adapters.ledger.deliveries import Outbox  # not at the top: brings SQLAlchemy
    from interlock.adapters.servicenow.approvals import read_approvals
    from interlock.adapters.servicenow.instance import open_instance

    described = load_systems(catalogue_folder()).systems.get(system)
    if described is None:
        return f"{system} is an authority for this release, but systems.yaml does not have it."
    if not isinstance(described, ServiceNow):
        return f"{system} is an authority for this release, but systems of its kind ({described.kind}) approve nothing."
    with resources.ledger() as ledger:
        row = next((one for one in Outbox(ledger).all(chain=frozen.chain) if one.system == system), None)
    if row is None or not row.reference:
        why = f": {row.error}" if row is not None and row.error else "."
        return f"{system} has no change of this release yet{why}"
    connection = BaseHook.get_connection(described.connection)
    api = open_instance(connection)
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
    if not why:
        record(RECORD_APPROVED, read)
    return f"{why}." if why else ""
