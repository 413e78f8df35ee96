"""Permits for the running release: the checks just before a wave, and the admission to hosts.

Everything is read from its primary record: the votes from Airflow's record of them, the plan and the quality report
from the ledger, the bundle's bytes from the store, the catalogue from its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from time import sleep
from typing import Any

from interlock.adapters.aws import ec2
from interlock.adapters.permits.issuer import Admission, Closing, PermitIssuer
from interlock.domain.calendars import stops
from interlock.domain.calendars.stops import STOPS, EmergencyStop, refuse_halted, stops_in_force
from interlock.domain.catalogue import PRODUCTION, Service, ServiceCatalogue
from interlock.domain.change.amended import amendments_of, as_begun, began_with, digest_bound_to, tightened_thresholds
from interlock.domain.dag_names import RECONCILE
from interlock.domain.errors import PolicyViolation, ReleaseError
from interlock.domain.ledger import interventions
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.findings import findings_about
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.kinds import (
    ATTEMPT_REFUSED,
    BASELINE_MEASURED,
    FINDING,
    MANIFEST_FROZEN,
    PERMIT_REFUSED,
    ROLLOUT_FROZEN,
    SUITES_RUN,
    WAVE_DEPLOYED,
)
from interlock.domain.ledger.reading import last_in, plan_in
from interlock.domain.ledger.runs import run_of
from interlock.domain.permits import ended_releases, permit
from interlock.domain.permits import objections as permits_objections
from interlock.domain.permits.connections import changes
from interlock.domain.permits.found import by_its_chain
from interlock.domain.permits.hosts import host_changes
from interlock.domain.permits.objections import Circumstances
from interlock.domain.permits.permit import Purpose
from interlock.domain.permits.production import Production
from interlock.domain.permits.withdrawal import refuse_called_off
from interlock.domain.records import (
    Decision,
    Host,
    ReleasePlan,
    RolloutPlan,
    SuiteRuns,
)
from interlock.stages.approvals import amended
from interlock.stages.approvals.authorities import read_for_permit
from interlock.stages.approvals.sign_offs import count_sign_off
from interlock.stages.environments.again import judge_again, reports_again

from . import bookings, calendars, installation, resources
from .evidence import chain_entries, record, this_chain, this_task, this_try
from .taskflow import this_run
from .versions import overtaken, standing

Envelope = dict[str, Any]
Count = Callable[[ServiceCatalogue, RolloutPlan], Decision | None]
"""Counts the votes on a plan, from Airflow's record of them."""
GUARD_TIMEOUT_SECONDS = 8
"""Seconds that the guard may take to record a refused attempt. Until then the attempt looks like a manual change."""


@contextmanager
def admission_to_inspect(catalogue: ServiceCatalogue, environment: str, hosts: Sequence[Host]) -> Iterator[Admission]:
    """Admit to hosts to ask what they run. A sandbox needs no permit."""
    with _office() as office:

        def ask() -> Envelope:
            return office.issue(
                purpose="inspect",
                chain=this_chain(),
                environment=environment,
                hosts=_addresses(hosts),
                catalogue=catalogue.digest,
            )

        if catalogue.service.is_sandbox(environment):
            yield Admission.sandbox(environment, production=_production(catalogue.service, environment))
        else:
            yield Admission.by_permit(environment, office, ask, "inspect")


@contextmanager
def admission_to_watch(environment: str, hosts: Sequence[Host], catalogue: str) -> Iterator[Admission]:
    """Admit to hosts of any services to ask what they run, outside of a release. Each day's permits have a chain.

    Hosts of a sandbox also get a permit, so that it does not matter whether they belong to production as well.

    :param catalogue: digest of the catalogue of these services.
    """
    with _office() as office:

        def ask() -> Envelope:
            return office.issue(
                purpose="inspect",
                chain=f"{RECONCILE}/{datetime.now(UTC):%Y-%m-%d}",
                environment=environment,
                hosts=_addresses(hosts),
                catalogue=catalogue,
            )

        yield Admission.by_permit(environment, office, ask, "inspect")


@contextmanager
def admission_to_close(plan: RolloutPlan) -> Iterator[tuple[Admission, Closing] | None]:
    """Admit to the hosts of a plan whose release is closed, to tell them so; none: it never had a permit for them."""
    catalogue = _catalogue(plan).digest
    with _office() as office:
        closing = office.closing(
            environment=plan.environment, service=plan.service, chain=this_chain(), hosts=_addresses(plan.hosts)
        )
        if closing is None or plan.environment in permit.SANDBOXES:
            yield None
        else:
            with admission_to_watch(plan.environment, plan.hosts, catalogue) as admission:
                yield admission, closing


@contextmanager
def admission_to_sandbox(service: Service, environment: str) -> Iterator[Admission]:
    """Admit to the hosts of a sandbox, to deploy the release that is tested there."""
    with _office() as office:
        yield _sandbox(office, service, environment, "deploy")


@contextmanager
def admission_to_deploy(plan: RolloutPlan, wave: int, count: Count) -> Iterator[Admission]:
    """Admit to the hosts of a wave, if all that was approved holds now.

    :raises PolicyViolation: no permit can be given, and why.
    """
    with _office() as office:
        under_way = False

        def ask() -> Envelope:
            nonlocal under_way
            catalogue = _proven(plan, count, under_way=under_way)
            under_way = True
            return _issue(office, catalogue, "deploy", plan, plan.waves[wave - 1], wave)

        if plan.environment in permit.SANDBOXES:
            _proven(plan, count, under_way=False)
        yield _admission(plan, office, ask, "deploy", halt=_halt(plan))


@contextmanager
def admission_to_step(plan: RolloutPlan, hosts: Sequence[Host], step: str, count: Count) -> Iterator[Admission]:
    """Get and use a permit for a step of the runbook, if all that was approved holds now.

    :param hosts: those that it changes; ``step``: its id.
    :raises PolicyViolation: no permit can be given, and why.
    """
    with _office() as office:
        under_way = any(entry.kind == WAVE_DEPLOYED for entry in chain_entries())

        def ask() -> Envelope:
            return _issue(office, _proven(plan, count, under_way=under_way), "step", plan, hosts, None, step=step)

        if plan.environment in permit.SANDBOXES:
            _proven(plan, count, under_way=under_way)
        admission = _admission(plan, office, ask, "step", halt=_halt(plan))
        admission.begin()
        yield admission


@contextmanager
def admission_to_step_back(plan: RolloutPlan, hosts: Sequence[Host], step: str) -> Iterator[Admission]:
    """Get and use a permit to take a step of the runbook back. Emergency stops and freezes do not prevent that.

    :raises PolicyViolation: the release changed nothing, or has ended.
    """
    with _office() as office:

        def ask() -> Envelope:
            _refuse_way_back(plan)
            return _issue(office, _catalogue(plan), "step", plan, hosts, None, way_back=True, step=step)

        admission = _admission(plan, office, ask, "step", way_back=True)
        admission.begin()
        yield admission


@contextmanager
def admission_to_restart(plan: RolloutPlan, hosts: Sequence[Host], count: Count) -> Iterator[Admission]:
    """Admit to hosts in order to restart what they run, if all that was approved holds now."""
    with _office() as office:

        def ask() -> Envelope:
            return _issue(office, _proven(plan, count, under_way=True), "restart", plan, hosts, None)

        yield _admission(plan, office, ask, "restart", halt=_halt(plan))


@contextmanager
def admission_to_traffic(plan: RolloutPlan, count: Count) -> Iterator[Admission]:
    """Get and use a permit to let the load balancer send the hosts of a plan another share of the traffic.

    :raises PolicyViolation: no permit can be given, and why.
    """
    with _office() as office:

        def ask() -> Envelope:
            return _issue(office, _proven(plan, count, under_way=True), "traffic", plan, plan.hosts, None)

        admission = _admission(plan, office, ask, "traffic")
        admission.begin()
        yield admission


@contextmanager
def admission_to_way_back(plan: RolloutPlan) -> Iterator[Admission]:
    """Get and use a permit to restore the traffic. Emergency stops and freezes do not prevent that.

    :raises PolicyViolation: the release changed nothing, or has ended.
    """
    with _office() as office:

        def ask() -> Envelope:
            _refuse_way_back(plan)
            return _issue(office, _catalogue(plan), "traffic", plan, plan.hosts, None, way_back=True)

        admission = _admission(plan, office, ask, "traffic", way_back=True)
        admission.begin()
        yield admission


def _refuse_way_back(plan: RolloutPlan) -> None:
    with resources.ledger() as ledger:
        entries = ledger.entries(this_chain())
        unsigned = unsigned_since(this_chain(), entries, ledger.heads(this_chain()))
        passed = overtaken(ledger, plan, this_chain(), entries)
    ended_releases.refuse_back_out(plan, entries, unsigned=unsigned.sentence if unsigned else "", overtaken=passed)


def came_to_its_target(plan: RolloutPlan) -> bool:
    """Tell, according to the ledger, whether a plan may have changed hosts."""
    entries = chain_entries()
    if plan.environment in permit.SANDBOXES:
        return any(entry.kind == BASELINE_MEASURED for entry in entries)
    return ended_releases.had_permit(plan, entries)


@contextmanager
def admission_to_back_out(plan: RolloutPlan) -> Iterator[Admission]:
    """Admit to the hosts of a frozen plan, to restore the releases that the plan names.

    Emergency stops and freezes do not prevent a back-out. It needs the frozen plan and a used permit to deploy by it,
    and a release that has not ended and was not overtaken by another release.
    """
    with _office() as office:

        def ask() -> Envelope:
            _refuse_way_back(plan)
            return _issue(office, _catalogue(plan), "back_out", plan, plan.hosts, None, way_back=True)

        yield _admission(plan, office, ask, "back_out", way_back=True)


@contextmanager
def admission_to_return(
    plan: RolloutPlan, chain: str, hosts: Sequence[Host], refuse_now: Callable[[ServiceCatalogue], None]
) -> Iterator[Admission]:
    """Admit to hosts that were unreachable during a release, to deploy it now, in a run of another Dag.

    :param chain: the chain of the release; the deployment is recorded there.
    :param refuse_now: raises the objections, if there are any.
    """
    with _office(this_run()[1]) as office:

        def ask() -> Envelope:
            catalogue = _catalogue(plan)
            refuse_now(catalogue)
            return office.issue(
                purpose="return",
                chain=chain,
                environment=plan.environment,
                hosts=_addresses(hosts),
                catalogue=digest_bound_to(plan, catalogue, _entries_of(chain)),
                service=plan.service,
                plan=plan.digest,
                bundle=plan.bundle.sha256,
                calendar=calendars.answer_now(catalogue, plan.environment),
            )

        yield _admission(plan, office, ask, "return", halt=partial(refuse_stopped, plan.service, plan.environment))


def _entries_of(chain: str) -> tuple[Entry, ...]:
    with resources.ledger() as ledger:
        return ledger.entries(chain)


def _judged_again(entries: Sequence[Entry], catalogue: ServiceCatalogue) -> dict[str, Any]:
    """Return the reports of quality by thresholds that are tighter now, or which thresholds they do not hold."""
    began = began_with(entries)
    if began is None or last_in(entries, SUITES_RUN, SuiteRuns) is None:
        return {}  # of a rollback, the review of the earlier release counts
    if not (found := tightened_thresholds(amendments_of(began, catalogue))):
        return {}
    if reports := reports_again(catalogue, began, entries):
        return {"judged_again": reports}
    return {"unjudged": "; ".join(map(str, found))}


def _catalogue(plan: RolloutPlan) -> ServiceCatalogue:
    return resources.catalogue_of(plan.service)


def _proven(plan: RolloutPlan, count: Count, *, under_way: bool) -> ServiceCatalogue:
    """Return the catalogue as read for one permit, if nothing speaks against the permit."""
    catalogue = _catalogue(plan)
    refuse_unproven(catalogue, plan, count(catalogue, plan), under_way=under_way)
    return catalogue


def _halt(plan: RolloutPlan) -> Callable[[], None]:
    return partial(refuse_halted_release, plan.service, plan.environment)


def refuse_unproven(
    catalogue: ServiceCatalogue, plan: RolloutPlan, decision: Decision | None, *, under_way: bool = False
) -> None:
    """Raise a PolicyViolation with every reason against changing an environment by this plan now.

    :param decision: the votes on the plan, counted just now.
    :param under_way: the wave has begun.
    :raises TransientError: all that speaks against it is that another system does not answer.
    """
    if tightened_thresholds(amended.note(catalogue)):
        judge_again(catalogue)
    found = circumstances(catalogue, plan, decision, under_way=under_way)
    objections = permits_objections.objections(plan, found, datetime.now(UTC))
    if objections and not found.closed:
        with suppress(ReleaseError):  # the permit is refused even if the refusal cannot be recorded
            record(PERMIT_REFUSED, {"because": [one.what for one in objections], "plan": plan.digest})
    if objections and len(objections) == len(found.unread):
        permits_objections.refuse_for_now(objections)
    permits_objections.refuse(objections)


def refuse_stopped(service: str, environment: str = PRODUCTION) -> None:
    """Raise a PolicyViolation if an emergency stop or a freeze that halts waves is in force now."""
    catalogue = resources.catalogue_of(service)
    refuse_halted(stops_now(catalogue.service), calendars.closed_now(catalogue, environment, under_way=True))


def refuse_halted_release(service: str, environment: str) -> None:
    """Raise a PolicyViolation if the running release was called off, or a wave has to halt now."""
    refuse_called_off(chain_entries())
    refuse_stopped(service, environment)


def refuse_emergency(service: Service) -> None:
    """Raise a PolicyViolation if an emergency stop is in force now, or the running release was called off.

    For a task that changes nothing.
    """
    refuse_called_off(chain_entries())
    refuse_halted(stops_now(service), ())


def refuse_stopped_release(service: Service, plan: ReleasePlan) -> None:
    """Raise a PolicyViolation if a release is stopped, before people are asked about it or told of it."""
    if not plan.rehearsal:
        stops.refuse_stopped_release(stops_now(service), plan.not_before)


def stops_now(service: Service) -> tuple[EmergencyStop, ...]:
    """Return the emergency stops that hold a service back now."""
    with resources.ledger() as ledger:
        return tuple(stops_in_force(ledger.entries(INSTALLATION, kind=STOPS), service, datetime.now(UTC)))


def frozen_plan() -> RolloutPlan | None:
    """Return the frozen plan, according to the ledger; None before the freeze."""
    return plan_in(chain_entries())


def circumstances(
    catalogue: ServiceCatalogue, plan: RolloutPlan, decision: Decision | None, *, under_way: bool = False
) -> Circumstances:
    """Read from the primary records everything that decides whether a wave may begin.

    :raises CalledOff: the release was withdrawn or overtaken, so no wave may begin.
    """
    now, service = datetime.now(UTC), catalogue.service
    with resources.ledger() as ledger:
        broken = ledger.check(this_chain(), [resources.signer().public_key])
        entries = () if broken else ledger.entries(this_chain())
        refuse_called_off(entries)
        unsigned = unsigned_since(this_chain(), entries, ledger.heads(this_chain()))
        in_force = stops_in_force(ledger.entries(INSTALLATION, kind=STOPS), service, now)
        about = findings_about(ledger.entries(INSTALLATION, kind=FINDING), this_chain())
        of_version = standing(ledger, plan, this_chain(), entries)
    read = read_for_permit(plan, entries)
    recorded = by_its_chain(catalogue, plan, entries, partial(count_sign_off, as_begun(catalogue, entries)))
    return Circumstances(
        decision=decision,
        **_judged_again(entries, catalogue),
        bundle=resources.store().digest_of(plan.bundle),
        authorities=tuple(one.why for one in read if one.why and not one.unread),
        unread=tuple(one.why for one in read if one.unread),
        unsigned=unsigned.sentence if unsigned else "",
        stops=tuple(map(str, in_force)),
        freezes=calendars.closed_now(catalogue, plan.environment, under_way=under_way),
        connections=_connections_changed(service, plan),
        hosts=_hosts_changed(service, plan, entries),
        interventions=(*_done_by_hand(service, entries), *_done_to_train(plan)),
        findings=(
            *_of_the_api(),
            *([broken.sentence] if broken else ()),
            *(str(entry.payload.get("what")) for entry in (*entries, *about) if entry.kind == FINDING),
        ),
        installation=installation.faults_now(catalogue, plan.change_type, settle=not recorded["changes"]),
        booked=bookings.taken(plan.service, plan.environment, this_chain()),
        **of_version,
        **recorded,
    )


def _connections_changed(service: Service, plan: RolloutPlan) -> tuple[str, ...]:
    if plan.connections is None:
        return ()
    return changes(plan.connections, resources.connections_now(service, plan.hosts))


def _hosts_changed(service: Service, plan: RolloutPlan, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return, in sentences, which hosts of production are not those of the plan."""
    environment = service.environments.get(plan.environment)
    if environment is None or plan.environment in permit.SANDBOXES:
        return ()
    client = resources.aws(environment, "ec2")
    fleets = [
        [
            Host(instance_id=one.instance_id, name=one.name, address=one.address or "", zone=one.zone)
            for one in ec2.find_instances(client, tags)
        ]
        for tags in environment.fleets
    ]
    return host_changes(plan, fleets, has_begun=ended_releases.had_permit(plan, entries))


def _of_the_api() -> tuple[str, ...]:
    """Return a sentence if tasks of other Dags could interfere with this release."""
    try:
        resources.refuse_unguarded()
    except PolicyViolation as error:
        return (str(error),)
    return ()


def _done_by_hand(service: Service, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return, in words, the manual changes to this run since its plan was frozen, and to its connections."""
    frozen = next((entry.at for entry in reversed(entries) if entry.kind == ROLLOUT_FROZEN), None)
    if frozen is None:
        return ()
    with resources.airflow_api() as api:
        rows = api.audit_log(frozen - interventions.MAX_CLOCK_SKEW, dag_id=this_run()[0])
        edits = api.audit_log(entries[0].at, event_pattern="connection")
    done = _not_refused(rows)
    return tuple(map(str, (*done, *interventions.connections_edited(edits, resources.connections_of(service)))))


def _done_to_train(plan: RolloutPlan) -> tuple[str, ...]:
    """Return, in words, the manual changes to the run of a passenger's train since its manifest was frozen."""
    run = run_of(plan.train.chain) if plan.train is not None else None
    if plan.train is None or run is None:
        return ()
    with resources.ledger() as ledger:
        frozen = ledger.entries(plan.train.chain, kind=MANIFEST_FROZEN)
    with resources.airflow_api() as api:
        rows = api.audit_log(frozen[-1].at - interventions.MAX_CLOCK_SKEW, dag_id=run[0]) if frozen else ()
    return tuple(map(str, _not_refused(rows, run)))


def _not_refused(
    rows: Sequence[interventions.AuditRow], run: tuple[str, str] | None = None
) -> tuple[interventions.AuditRow, ...]:
    """Return the manual changes that the guard did not refuse. It may record a refusal some seconds later."""
    dag_id, run_id = run or this_run()
    if not interventions.done_by_hand(rows, (), dag_id=dag_id, run_id=run_id):
        return ()  # without a look at all that was ever refused, which is much after some years
    for _ in range(GUARD_TIMEOUT_SECONDS):
        with resources.ledger() as ledger:
            refused = [interventions.refusal(one.payload) for one in ledger.entries(INSTALLATION, kind=ATTEMPT_REFUSED)]
        done = interventions.done_by_hand(rows, refused, dag_id=dag_id, run_id=run_id)
        if not interventions.may_be_refused_yet(done, datetime.now(UTC)):
            break
        sleep(1)
    return done


def _issue(
    office: PermitIssuer,
    catalogue: ServiceCatalogue,
    purpose: Purpose,
    plan: RolloutPlan,
    hosts: Sequence[Host],
    wave: int | None,
    *,
    way_back: bool = False,
    step: str | None = None,
) -> Envelope:
    bookings.make_way(plan.service, plan.environment)
    return office.issue(
        purpose=purpose,
        chain=this_chain(),
        environment=plan.environment,
        hosts=_addresses(hosts),
        catalogue=digest_bound_to(plan, catalogue, chain_entries()),
        service=plan.service,
        way_back=way_back,
        wave=wave,
        step=step,
        plan=plan.digest,
        bundle=plan.bundle.sha256,
        calendar=calendars.answer_now(catalogue, plan.environment) if purpose != "back_out" else None,
    )


def _addresses(hosts: Sequence[Host]) -> list[str]:
    return [host.address for host in hosts]


def _admission(
    plan: RolloutPlan,
    office: PermitIssuer,
    ask: Callable[[], Envelope],
    purpose: Purpose,
    *,
    halt: Callable[[], None] | None = None,
    way_back: bool = False,
) -> Admission:
    if plan.environment in permit.SANDBOXES:
        return _sandbox(office, _catalogue(plan).service, plan.environment, purpose, way_back=way_back)
    # What stops a release does not stop its way back.
    must_verify = not way_back and _catalogue(plan).policy.permits.hosts_without_keys == "refuse"
    return Admission.by_permit(plan.environment, office, ask, purpose, halt=halt, must_verify=must_verify)


def _sandbox(
    office: PermitIssuer, service: Service, environment: str, purpose: Purpose, *, way_back: bool = False
) -> Admission:
    """Admit to a sandbox without a permit. As in production, only the task that entered last may change it.

    :raises PolicyViolation: the environment is not before production.
    """
    if not service.is_sandbox(environment):
        raise PolicyViolation(
            f"{environment} of {service.name} is not a sandbox: its hosts are accessed only with a permit."
        )
    enter = partial(
        office.enter,
        environment=environment,
        service=service.name,
        chain=this_chain(),
        purpose=purpose,
        way_back=way_back,
        permit=None,
    )
    return Admission.sandbox(environment, office, enter, production=_production(service, environment))


def _production(service: Service, environment: str) -> Production:
    return resources.production(service.environments[environment], service.name, environment)


@contextmanager
def _office(run: str = "") -> Iterator[PermitIssuer]:
    with resources.ledger() as ledger:
        yield PermitIssuer(resources.signer(), ledger, actor=this_task(), attempt=this_try(), run=run)
