"""The Dag ``return_hosts``: deploys a release to hosts that were unreachable during its rollout."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.domain.calendars.stops import STOPS, stops_in_force
from interlock.domain.catalogue import Service, ServiceCatalogue
from interlock.domain.errors import DeployError, LedgerBroken, PolicyViolation
from interlock.domain.hosts.returning import Found, LeftOut, left_out, objections_to
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.kinds import HOST_RETURNED, RELEASE_ENDED
from interlock.domain.ledger.runs import run_of
from interlock.domain.permits.objections import of_installation, refuse
from interlock.domain.records import Host, WaveReport
from interlock.locations import catalogue_folder
from interlock.stages.runtime import calendars, permits, resources
from interlock.stages.runtime.evidence import this_task, under
from interlock.stages.runtime.history import chains_of
from interlock.stages.runtime.installation import faults_now
from interlock.stages.runtime.taskflow import stage_task, this_run
from interlock.stages.runtime.versions import standing
from interlock.stages.strategies import rolling

log = logging.getLogger(__name__)


@stage_task(task_display_name="Deploy to returned hosts")
def bring_hosts_back() -> list[str]:
    """Deploy the last release of a service to hosts that were unreachable during its rollout and answer now.

    Needs a permit for that release: plan, decision, artifact and chain are verified again, and no other release may
    have changed its hosts since. Each host is tried once; a person handles failures. Returns the hosts that succeeded.
    """
    came: list[str] = []
    refused: list[str] = []
    catalogue = load_catalogue(catalogue_folder())
    for name, service in catalogue.services.items():
        missed = _missed(name)
        if missed is None:
            continue
        back = [host for host in missed.hosts if _answers(catalogue.of(name), missed, host)]
        try:
            came += _bring(service, missed, back) if back else []
        except PolicyViolation as error:
            refused.append(f"{name}: {error}")
    if refused:
        raise PolicyViolation(
            f"Some hosts are reachable again, but may not get the release now. {' '.join(refused)}",
            rule="a host that returns gets the last release only with a permit of its own",
            who="the release manager",
            next_step="release the version again as a standard change, or wait until the environment is open",
        )
    return came


def _missed(service: str) -> LeftOut | None:
    """Return the hosts that the newest deployment of a service left out; None while a release is under way."""
    with resources.ledger() as ledger:
        ended = {str(entry.payload["run"]): entry for entry in ledger.entries(INSTALLATION, kind=RELEASE_ENDED)}
        runs = chains_of(ledger, service)
        under_way = set(runs) - set(ended)
        deployed = [run for run, entry in ended.items() if run in runs and entry.payload["outcome"] == "deployed"]
        if under_way or not deployed:
            return None
        try:
            return left_out(ledger.entries(runs[max(deployed, key=lambda run: ended[run].at)]))
        except LedgerBroken:  # reconcile reports it
            return None


def _answers(catalogue: ServiceCatalogue, missed: LeftOut, host: Host) -> bool:
    """Say whether a host can be asked what it runs."""
    from interlock.adapters.hosts import fleet as ssh_hosts  # not at the top: see rolling.py

    described = catalogue.service.environments[missed.plan.environment]
    try:
        with permits.admission_to_watch(missed.plan.environment, [host], catalogue.digest) as admission:
            login = resources.login(described)
            asyncio.run(ssh_hosts.read_running([host], described.deploy_root, login=login, admission=admission))
    except DeployError as error:
        log.info("%s is still unreachable: %s", host.name, error)
        return False
    return True


def _bring(service: Service, missed: LeftOut, hosts: list[Host]) -> list[str]:
    plan = missed.plan

    def refuse_now(catalogue: ServiceCatalogue) -> None:
        with resources.ledger() as ledger:
            against = objections_to(missed, ledger.entries(missed.chain), _found(catalogue, missed))
        dag_id, _ = run_of(missed.chain) or this_run()
        refuse([*of_installation(faults_now(catalogue, plan.change_type, dag_id)), *against])

    with permits.admission_to_return(plan, missed.chain, hosts, refuse_now) as admission:
        results = rolling.deploy(
            hosts, service, plan.environment, plan, target_group=plan.target_group, admission=admission
        )
    report = WaveReport(number=len(plan.waves), of=len(plan.waves), release=plan.release, results=results)
    with resources.ledger() as ledger:
        payload = {**report.to_xcom(), "digest": plan.bundle.sha256, **under(admission)}
        key = f"{HOST_RETURNED}/{'/'.join(this_run())}/{service.name}"
        entry = ledger.append(missed.chain, HOST_RETURNED, payload, actor=this_task(), key=key)
        ledger.sign_head(missed.chain, resources.signer(), seals=entry)
    return [one.host for one in results if one.after == plan.release]


def _found(catalogue: ServiceCatalogue, missed: LeftOut) -> Found:
    plan, now = missed.plan, datetime.now(UTC)
    with resources.ledger() as ledger:
        broken = ledger.check(missed.chain, [resources.signer().public_key])
        entries = () if broken else ledger.entries(missed.chain)
        broken = broken or unsigned_since(missed.chain, entries, ledger.heads(missed.chain))
        of_version = standing(ledger, plan, missed.chain, entries)
        stops = stops_in_force(ledger.entries(INSTALLATION, kind=STOPS), catalogue.service, now)
    return Found(
        broken=broken.sentence if broken else "",
        bundle=resources.store().digest_of(plan.bundle),
        marked=of_version["marked"],
        overtaken=of_version["overtaken"],
        stops=tuple(map(str, stops)),
        freezes=calendars.closed_now(catalogue, plan.environment),
    )
