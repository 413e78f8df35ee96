"""Permits for the running release: what is found just before a wave, and the admission to hosts.

Everything is read from its primary record: the votes from Airflow's record of them, the plan and the quality report
from the ledger, the bundle's bytes from the store, the catalogue from its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from include.interlock.adapters.permits import Admission, PermitOffice
from include.interlock.domain import permit as permits
from include.interlock.domain.errors import PolicyViolation
from include.interlock.domain.ledger import INSTALLATION
from include.interlock.domain.permit import Circumstances, Purpose
from include.interlock.domain.records import Decision, Host, QualityReport, RolloutPlan, Waiver
from include.interlock.domain.stops import freezes_in_force, stops_in_force

from . import resources
from .evidence import chain_entries, plan_in, this_chain, this_task
from .policy import catalogue_digest

Envelope = dict[str, Any]


@contextmanager
def admission_to_inspect(service: str, environment: str, hosts: Sequence[Host]) -> Iterator[Admission]:
    """Admit to hosts to ask what they run; a sandbox asks for no permit."""
    with _office() as office:

        def ask() -> Envelope:
            return office.issue(
                purpose="inspect",
                chain=this_chain(),
                environment=environment,
                hosts=_addresses(hosts),
                catalogue=catalogue_digest(service),
            )

        yield _admission(environment, office, ask, "inspect")


@contextmanager
def admission_to_deploy(
    service: str, plan: RolloutPlan, wave: int, count: Callable[[], Decision | None]
) -> Iterator[Admission]:
    """Admit to the hosts of a wave, if all that was approved holds now.

    :param count: counts the votes on the plan from Airflow's record.
    :raises PolicyViolation: no permit can be given, and why.
    """
    with _office() as office:

        def ask() -> Envelope:
            refuse_unproven(service, plan, count())
            return _issue(office, service, "deploy", plan, plan.waves[wave - 1], wave)

        if plan.environment in permits.SANDBOXES:
            refuse_unproven(service, plan, count())
        yield _admission(plan.environment, office, ask, "deploy")


@contextmanager
def admission_to_back_out(service: str, plan: RolloutPlan) -> Iterator[Admission]:
    """Admit to the hosts of a frozen plan in order to take them back to what it says they had.

    A back-out is not stopped by what stops a release: it needs the plan that was frozen, and a permit to deploy by it.
    """
    with _office() as office:

        def ask() -> Envelope:
            _refuse_other_plan(plan)
            return _issue(office, service, "back_out", plan, plan.hosts, None)

        yield _admission(plan.environment, office, ask, "back_out")


def refuse_unproven(service: str, plan: RolloutPlan, decision: Decision | None) -> None:
    """Raise a PolicyViolation with every reason against changing an environment by this plan now.

    :param decision: the votes on the plan, counted just now.
    """
    permits.refuse(permits.objections(plan, circumstances(service, plan, decision), datetime.now(UTC)))


def frozen_plan() -> RolloutPlan | None:
    """Return the plan that was frozen, as the ledger has it; none: none was."""
    return plan_in(chain_entries())


def circumstances(service: str, plan: RolloutPlan, decision: Decision | None) -> Circumstances:
    """Find out, from the primary records, what matters to whether a wave may begin."""
    now = datetime.now(UTC)
    policy, _, described = resources.catalogue_of(service)
    with resources.ledger() as ledger:
        broken = ledger.check(this_chain(), [resources.signer().public_key])
        entries = () if broken else ledger.entries(this_chain())
        stops = stops_in_force(ledger.entries(INSTALLATION, kind="emergency_stop.*"), described, now)
    frozen = plan_in(entries)
    quality = [entry for entry in entries if entry.kind == "quality.judged"]
    return Circumstances(
        frozen=frozen.digest if frozen else None,
        decision=decision,
        catalogue=catalogue_digest(service),
        bundle=resources.store().digest_of(plan.bundle),
        quality=QualityReport.from_xcom(quality[-1].payload) if quality else None,
        waivers=tuple(Waiver.from_xcom(entry.payload) for entry in entries if entry.kind == "quality.waived"),
        closed=any(entry.kind == "release.closed" for entry in entries),
        stops=tuple(map(str, stops)),
        freezes=tuple(freezes_in_force(policy.freezes, described, now)),
        findings=(
            *([broken.sentence] if broken else ()),
            *(str(entry.payload.get("what")) for entry in entries if entry.kind == "finding"),
        ),
    )


def _refuse_other_plan(plan: RolloutPlan) -> None:
    frozen = frozen_plan()
    if frozen is None or frozen.digest != plan.digest:
        raise PolicyViolation(
            f"This is the plan {plan.digest[:12]}, and by the ledger it is not the one that was frozen.",
            rule="a back-out goes where the frozen plan says",
            who="the release manager",
        )


def _issue(
    office: PermitOffice, service: str, purpose: Purpose, plan: RolloutPlan, hosts: Sequence[Host], wave: int | None
) -> Envelope:
    return office.issue(
        purpose=purpose,
        chain=this_chain(),
        environment=plan.environment,
        hosts=_addresses(hosts),
        catalogue=catalogue_digest(service),
        wave=wave,
        plan=plan.digest,
        bundle=plan.bundle.sha256,
    )


def _addresses(hosts: Sequence[Host]) -> list[str]:
    return [host.address for host in hosts]


def _admission(environment: str, office: PermitOffice, ask: Callable[[], Envelope], purpose: Purpose) -> Admission:
    if environment in permits.SANDBOXES:
        return Admission.sandbox(environment)
    return Admission.by_permit(environment, office, ask, purpose)


@contextmanager
def _office() -> Iterator[PermitOffice]:
    with resources.ledger() as ledger:
        yield PermitOffice(resources.signer(), ledger, actor=this_task())
