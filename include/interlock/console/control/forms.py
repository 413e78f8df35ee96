"""What is wrong with a form of Interlock's Dags, said while its reader can still correct it.

The first task of a run reads its form again, and decides. So nothing is refused here because the ledger or the
catalogue cannot be read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interlock.adapters.calendars.copies import CopiesThere, copies_folder, shared_copies
from interlock.adapters.catalogue.catalogue import calendars_of, environments_of, load_rules, load_service
from interlock.adapters.catalogue.systems import load_systems
from interlock.adapters.ledger.past_releases import ended_releases, versions_of
from interlock.adapters.ledger.stops import request_in
from interlock.adapters.ledger.withdrawals import releases_under_way
from interlock.domain.board.accounts import ConfirmationRequest, confirmed, is_doubted
from interlock.domain.calendars.calendar import may_change
from interlock.domain.calendars.overrides import overridden, override, parse_override, person_in
from interlock.domain.calendars.stops import STOPS, refuse_stopped_release, stop_to_lift, stops_in_force
from interlock.domain.catalogue import PRODUCTION, Service
from interlock.domain.change.policy import flows_of
from interlock.domain.change.request import parse_request, refuse_wrong_artifact
from interlock.domain.change.tightening import resolved
from interlock.domain.dag_names import (
    ACCEPT_DEFECT,
    CONFIRM_ACCOUNT,
    EMERGENCY_STOP,
    MARK_VERSION,
    OVERRIDE_FREEZE,
    RELEASES,
    RETRY_DELIVERIES,
    REVIEW_RELEASE,
    ROLLBACKS,
)
from interlock.domain.errors import PolicyViolation, ReleaseError, RequestRefused
from interlock.domain.ledger.chain import INSTALLATION, Chains
from interlock.domain.ledger.kinds import (
    BASELINE_SEEN,
    DEFECT_OPENED,
    FINDING,
    FREEZE_OVERRIDDEN,
    RELEASE_ENDED,
    family,
)
from interlock.domain.outbox.retrying import parse_retry
from interlock.domain.outcome.marks import MARKS, parse_mark, refuse_marked, refuse_never_released
from interlock.domain.outcome.review import find_ended, parse_review, refuse_unreviewed
from interlock.domain.outcome.rollback import parse_rollback, refuse_unknown
from interlock.domain.testing.defects import chain_of_defects, open_defects
from interlock.domain.testing.known_defects import accepted, parse_acceptance
from interlock.domain.trigger_form import read_form

from .break_glass import OpenLedger
from .lookups import configured_store
from .rules import service_of
from .task_requests import Lookups

log = logging.getLogger(__name__)

Form = Mapping[str, Any]
NO_FORM = "The request body has no conf object with the fields of the trigger form."


@dataclass(frozen=True, slots=True)
class Asking:
    """Who sends a form, and where to look up whether it can be done.

    :param user: user name; empty: there is no such user, and Airflow refuses the request next.
    :param folder: the catalogue's.
    """

    user: str
    folder: Path
    open_ledger: OpenLedger
    knows: Lookups


def refused_form(dag_id: str, form: Any, asking: Asking) -> str:
    """Say why a form is refused; empty: it is not.

    :param form: the fields that were sent; Airflow fills in the others.
    """
    name = dag_id.lower()
    judge = next((judge for beginning, judge in _FORMS.items() if name.startswith(beginning)), None)
    if judge is None:
        return ""
    if not isinstance(form, Mapping):
        return NO_FORM
    try:
        judge(name, form, asking)
    except ReleaseError as error:
        return str(error)
    return ""


def _of_a_release(dag_id: str, form: Form, asking: Asking) -> None:
    service = service_of(dag_id)
    try:
        catalogue = load_service(asking.folder, service)
    except ReleaseError as error:
        raise RequestRefused(
            f"The release cannot be requested, because the catalogue of its service is invalid. {error}"
        ) from error
    request, found = parse_request(form, policy=catalogue.policy), catalogue.services[service]
    refuse_wrong_artifact(request, found, catalogue.policy)
    if request.train is not None:  # a train's conductor looks for itself
        return
    with _as_far_as_known():
        _refuse_unknown_ref(found, request.ref, asking)
    if request.rehearsal:
        return
    with _as_far_as_known(), asking.open_ledger() as ledger:
        now = datetime.now(UTC)
        refuse_stopped_release(stops_in_force(ledger.entries(INSTALLATION, kind=STOPS), found, now), request.not_before)
        refuse_marked(ledger.entries(INSTALLATION, kind=MARKS), service, PRODUCTION, request.version)
        refuse_unreviewed(
            ended_releases(ledger, service),
            service=service,
            change_type=request.change_type,
            flows=flows_of(catalogue.policy, found),
            now=now,
        )


def _refuse_unknown_ref(service: Service, ref: str, asking: Asking) -> None:
    if not asking.user or asking.knows.ref(service, ref):  # for strangers, whom Airflow refuses, nothing is looked for
        return
    raise RequestRefused(
        f"The repository of {service.name} has no tag or branch {ref!r}.",
        rule="a release is of a tag, a branch or a commit of the repository that the service's file names",
        who="a person who can push to the repository",
        next_step="push it, or correct the spelling",
    )


def _of_a_rollback(dag_id: str, form: Form, asking: Asking) -> None:
    service, version = service_of(dag_id), parse_rollback(form).version
    if version:
        with asking.open_ledger() as ledger:
            known = [
                one for kind in (RELEASE_ENDED, MARKS, BASELINE_SEEN) for one in ledger.entries(INSTALLATION, kind=kind)
            ]
        refuse_unknown(version, known, service, PRODUCTION)
    with _as_far_as_known(), asking.open_ledger() as ledger:
        found = load_service(asking.folder, service).services[service]
        refuse_stopped_release(stops_in_force(ledger.entries(INSTALLATION, kind=STOPS), found, datetime.now(UTC)), None)


def _of_a_stop(dag_id: str, form: Form, asking: Asking) -> None:
    request = request_in(form, asking.folder)
    if request.lift:
        with _as_far_as_known(), asking.open_ledger() as ledger:
            stop_to_lift(ledger.entries(INSTALLATION, kind=STOPS), request.lift, datetime.now(UTC))


def _of_a_mark(dag_id: str, form: Form, asking: Asking) -> None:
    mark = parse_mark(form, "", environments_of(asking.folder))
    with _as_far_as_known(), asking.open_ledger() as ledger:
        refuse_never_released(mark, versions_of(ledger, mark.service))


def _of_an_override(dag_id: str, form: Form, asking: Asking) -> None:
    request = parse_override(form, environments_of(asking.folder))
    with _as_far_as_known(), asking.open_ledger() as ledger:
        catalogue, now = load_service(asking.folder, request.service), datetime.now(UTC)
        person, service = person_in(catalogue.board, asking.user), catalogue.services[request.service]
        entries = ledger.entries(INSTALLATION, kind=FREEZE_OVERRIDDEN)
        lifted = overridden(entries, request.service, request.environment, now)
        known = calendars_of(
            asking.folder,
            catalogue.policy,
            CopiesThere(copies_folder(), now=now, shared=shared_copies(configured_store)),
        )
        answer = may_change(known, service, request.environment, now, overridden=lifted)
        if not answer.open and answer.by is None:
            return  # here they cannot be read; the machine of the task may have them
        requester = asking.user if asking.user in _requesters(request.service, ledger, asking) else ""
        override(answer, person, reason=request.reason, lasts=request.lasts, requester=requester, now=now)


def _requesters(service: str, ledger: Chains, asking: Asking) -> set[str]:
    """Return who requested the releases of a service that are under way."""
    runs = asking.knows.runs_under_way()
    return {one.requested_by for one in releases_under_way(ledger, service, lambda *run: "/".join(run) in runs)}


def _of_an_acceptance(dag_id: str, form: Form, asking: Asking) -> None:
    request = parse_acceptance(form, environments_of(asking.folder))
    with _as_far_as_known(), asking.open_ledger() as ledger:
        catalogue = load_service(asking.folder, request.service)
        accepted(
            request,
            open_defects(ledger.entries(chain_of_defects(request.service), kind=family(DEFECT_OPENED))),
            resolved(catalogue.policy, catalogue.services[request.service]).waivers.get("defects"),
            catalogue.board,
            asking.user,
            requesters=_requesters(request.service, ledger, asking),
            now=datetime.now(UTC),
        )


def _of_a_review(dag_id: str, form: Form, asking: Asking) -> None:
    review = parse_review(form, "")
    with _as_far_as_known(), asking.open_ledger() as ledger:
        find_ended(ended_releases(ledger, review.service), review.service, review.run)


def _of_a_confirmation(dag_id: str, form: Form, asking: Asking) -> None:
    request = read_form(ConfirmationRequest, form, "the confirmation")
    with _as_far_as_known(), asking.open_ledger() as ledger:
        book, findings = load_rules(asking.folder)[1], ledger.entries(INSTALLATION, kind=FINDING)
        if request.user == asking.user and is_doubted(asking.user, findings):
            return  # the auth manager refuses that, and puts the attempt on record
        confirmed(request, asking.user, book, findings)


def _of_a_retry(dag_id: str, form: Form, asking: Asking) -> None:
    parse_retry(form, load_systems(asking.folder).systems)


_FORMS: dict[str, Callable[[str, Form, Asking], None]] = {
    RELEASES: _of_a_release,
    ROLLBACKS: _of_a_rollback,
    ACCEPT_DEFECT: _of_an_acceptance,
    CONFIRM_ACCOUNT: _of_a_confirmation,
    EMERGENCY_STOP: _of_a_stop,
    MARK_VERSION: _of_a_mark,
    OVERRIDE_FREEZE: _of_an_override,
    RETRY_DELIVERIES: _of_a_retry,
    REVIEW_RELEASE: _of_a_review,
}


@contextmanager
def _as_far_as_known() -> Iterator[None]:
    """Refuse for a rule that is broken, and not because something cannot be read."""
    try:
        yield
    except (RequestRefused, PolicyViolation):
        raise
    except Exception:
        log.exception("A form could not be checked against the ledger. Its run checks it again")
