"""Release trains: boarding, a frozen manifest, one decision, departure in the order of what depends on what, arrival.

What a train leaves is in its own chain of the ledger. Its passengers' releases are runs of their own Dags; a train only
asks for them, under the account of its conductor, and waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import BaseOperator, Param, TriggerRule, XComArg, chain, get_current_context, task_group
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRescheduleException, AirflowSkipException

from include.interlock.adapters.boarding import Platform, unusable
from include.interlock.adapters.catalogue import load_catalogue
from include.interlock.adapters.templates import render
from include.interlock.adapters.trains import load_train
from include.interlock.domain import board as boards
from include.interlock.domain import voting
from include.interlock.domain.calendar import Answer
from include.interlock.domain.canonical import sha256_of
from include.interlock.domain.catalogue import Catalogue
from include.interlock.domain.catalogue.train_file import Train
from include.interlock.domain.catalogue.values import in_words
from include.interlock.domain.errors import (
    GateRejected,
    HostUnreachable,
    PolicyViolation,
    ReleaseError,
    RequestRefused,
    TransientError,
)
from include.interlock.domain.ledger import ENDED, INSTALLATION, Entry, release_chain
from include.interlock.domain.overrides import OVERRIDDEN, overridden
from include.interlock.domain.policy import flows_of
from include.interlock.domain.reconcile import dag_of
from include.interlock.domain.records import Decision, Outcome
from include.interlock.domain.stops import stops_in_force
from include.interlock.domain.train_manifest import (
    ARRIVED,
    BACK,
    CONDUCTOR,
    DEPARTED,
    FROZEN,
    LEFT,
    OPENED,
    STOPPED,
    Arrival,
    Boarded,
    Found,
    LeftBehind,
    Manifest,
    Voyage,
    arrival,
    boarding,
    manifest_in,
    passenger_form,
    passenger_run,
    when_late,
)
from include.interlock.domain.trains import closed_for, planned
from include.interlock.domain.voting import VotingRule
from include.interlock.domain.witness import ASKED

from . import calendars, resources
from .ballots import AwaitBallots
from .conflicts import note_of_train, noted
from .evidence import chain_entries, record, refuse_void, this_chain
from .passengers import ASK, refuse_replaced, running
from .people import ABSTAIN, APPROVE, REJECT, ask, persons, question, votes_on
from .planning import settled
from .policy import REQUESTED, requester
from .taskflow import REASON, keep_result, reasons_kept, stage_task
from .triggers import RunTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.interlock.adapters.airflow_api import Answer as Cast

AGAIN = timedelta(minutes=1)
"""So often a train looks again for somebody it waits for."""
LONGEST_VOTE = timedelta(days=30)


def train_params() -> dict[str, Param]:
    """Return the form of a train that somebody sends by hand."""
    return {
        "departure": Param(
            None,
            type=["string", "null"],
            format="date-time",
            title="Departure",
            description="When it departs, such as 2026-12-01T20:00:00Z; empty: as soon as its board has decided.",
        )
    }


def catalogue_now() -> Catalogue:
    """Return the catalogue as it is now."""
    return load_catalogue(resources.catalogue_folder())


def train_now(name: str, catalogue: Catalogue) -> Train:
    """Return a train's file as it is now."""
    return load_train(resources.catalogue_folder(), catalogue.policy, catalogue.board, name)


# --- boarding --------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Open boarding")
def open_train(name: str) -> Voyage:
    """Say when this departure is, and when its manifest is frozen."""
    known = next((one.payload for one in chain_entries() if one.kind == OPENED), None)
    if known is not None:
        return Voyage.from_xcom(known)  # by an earlier try of this task
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    now = datetime.now(UTC)
    dag_run: Any = get_current_context()["dag_run"]
    by_hand = _is_by_hand(name, dag_run.run_type)
    departure = _asked_departure(now) if by_hand else dag_run.data_interval_end
    voyage = Voyage(
        train=name,
        departure=departure,
        cut_off=max(now, departure - train.boarding.cut_off),
        asked_by=requester() if by_hand else "",
        file=sha256_of(train),
    )
    rule = _likely_rule(catalogue, train)
    found = note_of_train(train, voyage, rule, _likely_authors(catalogue, train) if rule else ())
    voyage = voyage.model_copy(update={"conflicts": tuple(map(str, found))})
    record(OPENED, voyage)
    return voyage


def _is_by_hand(name: str, run_type: Any) -> bool:
    """Tell whether somebody sent the train at its form; refuse a run that neither they nor its timetable made."""
    if run_type not in ("scheduled", "manual"):  # it is one of an enumeration, whose text is another
        raise RequestRefused(
            f"The train {name} is not sent by a {run_type.value}.",
            rule="a train departs by its timetable, or somebody sends it at its form",
            who="nobody",
            next_step="send it at its form, with a departure",
        )
    return bool(run_type == "manual")


def _likely_rule(catalogue: Catalogue, train: Train) -> VotingRule | None:
    """Return what the boards would ask if everybody boarded, without any risk."""
    services = [catalogue.services[name] for name in train.services if name in catalogue.services]
    each = [
        voting.voting_rule(catalogue.policy, catalogue.board, service, change_type=train.change_type, risk=0)
        for service in services
        if train.change_type in catalogue.policy.trains.one_decision
    ]
    rules = [voting.board_rule(catalogue.board, train.board)] if train.board else []
    rules += [rule for rule in each if rule is not None]
    return reduce(voting.merge, rules) if rules else None


def _likely_authors(catalogue: Catalogue, train: Train) -> tuple[str, ...]:
    """Return the authors who would not vote if the manifest were frozen now, as far as repositories can be reached."""
    found = _look(catalogue, train, until=datetime.now(UTC)).values()
    return _authors(catalogue, train, [one for one in found if isinstance(one, Boarded)])


def _asked_departure(now: datetime) -> datetime:
    asked = get_current_context()["params"].get("departure")
    if not asked:
        return now
    try:
        at = datetime.fromisoformat(str(asked))
        if at.tzinfo is None or not now - timedelta(days=1) <= at <= now + timedelta(days=366):
            raise ValueError("it has no time zone, or is not within a year")
    except ValueError as error:
        raise RequestRefused(
            f"{str(asked)[:40]!r} is no departure: {error}.",
            rule="an instant with its time zone, at most a year ahead",
            who="whoever sends the train",
            next_step="trigger the train again",
        ) from error
    return at


@stage_task(task_display_name="Freeze the manifest", evidence=FROZEN, seal=True)
def freeze_manifest(name: str, voyage: Voyage) -> Manifest:
    """Say who is on board: exactly which commit of which service; the digest of this is what the board decides on.

    Waits, without a worker, for passengers that the train waits for, and for repositories that do not answer.
    """
    if frozen := manifest_in(chain_entries()):
        return frozen  # by an earlier try of this task
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    if voyage.file is not None:
        _refuse_changed(train, voyage.file, "boarding opened")
    found = _look(catalogue, train, until=voyage.cut_off + train.patience)
    _wait_for_late(train, found, voyage)
    found = _open_at(catalogue, train, found, voyage.departure)
    boarded, left = boarding(train, found)
    one_decision = train.change_type in catalogue.policy.trains.one_decision
    rule = train_rule(catalogue, train, boarded) if boarded else None
    now = datetime.now(UTC)
    named = (one.by for one in boarded)
    return Manifest(
        train=name,
        title=train.title,
        departure=voyage.departure,
        environment=train.environment,
        change_type=train.change_type,
        passengers=boarded,
        left=left,
        requested_by=tuple(dict.fromkeys(filter(None, (*named, voyage.asked_by)))),
        excluded=_authors(catalogue, train, boarded),
        one_decision=one_decision,
        decide_by=_decide_by(rule, voyage.departure, now),
        file=sha256_of(train),
    )


def _refuse_changed(train: Train, digest: str, since: str) -> None:
    if sha256_of(train) != digest:
        raise PolicyViolation(
            f"trains/{train.name}.yaml changed since {since}.",
            rule="a train boards and departs by one file, as its board saw it",
            who=train.owner,
            next_step="send the train by hand, so that it boards by the file as it is now",
        )


def _look(catalogue: Catalogue, train: Train, *, until: datetime) -> dict[str, Found]:
    """Say of each service which version would board now, or why none would.

    A repository that does not answer is looked at again, until an instant; then its passenger stays behind.
    """
    found: dict[str, Found] = {}
    with resources.ledger() as ledger:
        platform = Platform(catalogue, ledger, resources.repository)
        for one in train.passengers:
            try:
                found[one.service] = platform.look_for(train, one)
            except (TransientError, HostUnreachable) as error:
                if datetime.now(UTC) < until:
                    _look_again(str(error), until)
                found[one.service] = LeftBehind(service=one.service, late=True, why=error.what.rstrip("."))
            except AirflowNotFoundException as error:  # its repository's connection
                found[one.service] = LeftBehind(service=one.service, late=True, why=str(error))
    return found


def _look_again(why: str, latest: datetime) -> NoReturn:
    calendars.wait(why, min(datetime.now(UTC) + AGAIN, latest))


def _open_at(catalogue: Catalogue, train: Train, found: Mapping[str, Found], at: datetime) -> dict[str, Found]:
    """Leave behind who may not change the environment at departure, unless nobody may: then the train waits."""
    boarded = [catalogue.services[name] for name, one in found.items() if isinstance(one, Boarded)]
    with resources.ledger() as ledger:
        entries = ledger.entries(INSTALLATION, kind=OVERRIDDEN)

    def lifted(service: str) -> frozenset[str]:
        return overridden(entries, service, train.environment, at)

    closed = closed_for(calendars.calendars_now(catalogue.policy), boarded, train.environment, at, lifted)
    if len(closed) == len(boarded):
        return dict(found)
    behind = {name: LeftBehind(service=name, late=True, why=str(answer)) for name, answer in closed.items()}
    return {**found, **behind}


def _wait_for_late(train: Train, found: Mapping[str, Found], voyage: Voyage) -> None:
    """Go on, look again in a minute, or fail, as the rules of those who are late say."""
    late = when_late(train, tuple(found.values()))
    said = "; ".join(f"{one.service}: {one.why}" for one in late.because)
    if late.then == "stop":
        raise PolicyViolation(
            f"{train.title} does not depart without {said}.",
            rule=f"late: stop of trains/{train.name}.yaml",
            who=train.owner,
            next_step="make ready who is late, and send the train by hand, or let the next one take them",
        )
    latest = voyage.cut_off + train.patience
    if late.then == "wait" and datetime.now(UTC) < latest:
        _look_again(said, latest)


def _authors(catalogue: Catalogue, train: Train, boarded: Sequence[Boarded]) -> tuple[str, ...]:
    """Return the authors who do not vote: of passengers whose flow says so."""
    policy = catalogue.policy
    concerned = (
        one for one in boarded if flows_of(policy, catalogue.services[one.service])[train.change_type].exclude_authors
    )
    return tuple(sorted({author for one in concerned for author in one.authors}))


def train_rule(catalogue: Catalogue, train: Train, boarded: Sequence[Boarded]) -> VotingRule | None:
    """Return what the boards of all passengers ask, and the train's own, merged; None: nobody votes."""
    policy, book = catalogue.policy, catalogue.board
    rules: list[VotingRule] = [voting.board_rule(book, train.board)] if train.board else []
    if train.change_type in policy.trains.one_decision:
        each = (
            voting.voting_rule(
                policy, book, catalogue.services[one.service], change_type=train.change_type, risk=one.risk
            )
            for one in boarded
        )
        rules += [rule for rule in each if rule is not None]
    return reduce(voting.merge, rules) if rules else None


def _decide_by(rule: VotingRule | None, departure: datetime, now: datetime) -> datetime | None:
    """Return when silence becomes a rejection: the board's deadline, or departure if that comes first."""
    if rule is None:
        return None
    return min(now + rule.deadline, departure) if departure > now + AGAIN else now + rule.deadline


# --- the board -------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Prepare the ballots")
def prepare_ballots(name: str, manifest: Manifest) -> list[dict[str, Any]]:
    """Prepare one ballot for each member of the boards who may vote on this manifest, or whoever stands in for them."""
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    rule = _rule(catalogue, train, manifest)
    if rule is None or manifest.decide_by is None:
        return []
    body = render(
        "train_ballot.md.j2",
        train=train,
        manifest=manifest,
        board=rule,
        names=catalogue.board.names,
        titles={service: one.title for service, one in catalogue.services.items()},
        conflicts=noted(),
    )
    boards.eligible_members(rule, requester=CONDUCTOR, excluded=manifest.barred)  # enough of them
    barred = {CONDUCTOR, *manifest.barred}
    to_cast = voting.ballots(rule, barred=barred, since=datetime.now(UTC), until=manifest.decide_by)
    subject = f"Vote: {manifest.title}, {manifest.departure:%Y-%m-%d %H:%M} UTC"
    return [question(subject, body, manifest.digest, persons(catalogue.board, one.voters)) for one in to_cast]


def count(manifest: Manifest, rule: VotingRule | None, *, expired: bool) -> Decision | None:
    """Count the ballots of this run from Airflow's record of them; None while the board is still open."""
    if rule is None:
        why = (
            f"The policy asks no board for the manifest of a train of {manifest.change_type} changes."
            if manifest.passengers
            else "Nobody is on board."
        )
        return Decision(subject="board", digest=manifest.digest, approved=True, required=False, reason=why)
    votes = votes_on(ASK, manifest.digest)
    in_time = [one for one in votes if one.at and (manifest.decide_by is None or one.at <= manifest.decide_by)]
    return boards.count_votes(
        rule, in_time, digest=manifest.digest, requester=CONDUCTOR, excluded=manifest.barred, expired=expired
    )


def rule_now(manifest: Manifest) -> VotingRule | None:
    """Return what is asked of the votes on a manifest, by the catalogue as it is now."""
    catalogue = catalogue_now()
    return _rule(catalogue, train_now(manifest.train, catalogue), manifest)


def _rule(catalogue: Catalogue, train: Train, manifest: Manifest) -> VotingRule | None:
    """Return what is asked of the votes on a manifest; who has no usable file does not depart, and asks for nothing.

    :raises PolicyViolation: nobody on board has one.
    """
    usable = [one for one in manifest.passengers if not unusable(catalogue, one.service)]
    if manifest.passengers and not usable:
        raise _without_file(train.title, _unusable(catalogue, manifest))
    return train_rule(catalogue, train, usable) if usable else None


def _unusable(catalogue: Catalogue, manifest: Manifest) -> str:
    """Say whose file cannot be used, and why; empty: all can."""
    said = ((one.service, unusable(catalogue, one.service)) for one in manifest.passengers)
    return "; ".join(f"{service}: {why}" for service, why in said if why)


def _without_file(who: str, why: str) -> PolicyViolation:
    return PolicyViolation(
        f"{who} does not depart: {why}",
        rule="a passenger is released by its file services/<name>.yaml",
        who="the service's team",
        next_step="correct the file, and let it take the next train",
    )


class AwaitTrainBoard(AwaitBallots):
    """Wait, without a worker, until the board has decided on the manifest or its time is up; then close the ballots.

    :param manifest: the frozen manifest.
    :param ballots: the prepared ballots; none: nobody is asked.
    """

    template_fields = ("manifest", "ballots")
    asks = ASK

    def __init__(self, *, manifest: Any, ballots: Any, **kwargs: Any) -> None:
        super().__init__(ballots=ballots, **kwargs)
        self.manifest = manifest

    @property
    def frozen(self) -> Manifest:
        """The frozen manifest."""
        return Manifest.from_xcom(self.manifest)

    @property
    def decide_by(self) -> datetime | None:
        """The board's deadline; none: nobody is asked."""
        return self.frozen.decide_by

    def count(self, *, expired: bool) -> Decision | None:
        """Count the votes on the manifest, if it is the one on record; None while the board is still open.

        What the boards of a passenger ask whose file is broken cannot be told: until the deadline it may be mended.
        """
        refuse_void([self.frozen])
        if self.decide_by is not None and not expired and _unusable(catalogue_now(), self.frozen):
            return None
        return count(self.frozen, rule_now(self.frozen), expired=expired)

    def next_look(self, cast: Sequence[Cast]) -> datetime | None:
        """Return when the wait ends although nobody answered: soon, while a passenger's file is broken."""
        soon = datetime.now(UTC) + AGAIN
        return min(self.decide_by or soon, soon) if _unusable(catalogue_now(), self.frozen) else self.decide_by

    def settled(self, decision: Decision) -> dict[str, Any]:
        """Record the decision with the rule by which it was made; raise GateRejected if the board rejected."""
        rule = rule_now(self.frozen)
        return settled(decision, board=rule and rule.model_dump(mode="json")).to_xcom()


# --- departure -------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Depart", evidence=DEPARTED, seal=True)
def depart(name: str, manifest: Manifest) -> Manifest:
    """Prove once more what was decided, and that the calendars and emergency stops let at least one passenger depart.

    In a freeze that is over soon enough it waits, without a worker, if the train's file says so; and for its time, in
    case that somebody edited what the task before it waited for.
    """
    if datetime.now(UTC) < manifest.departure:
        calendars.wait("it is not time yet", manifest.departure)
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    _refuse_changed(train, manifest.file, "the manifest was frozen")
    decision = count(manifest, rule_now(manifest), expired=True)
    if decision is None or not decision.approved:
        raise GateRejected(decision.reason if decision else "The board has not decided.")
    ready = [catalogue.services[one.service] for one in manifest.passengers if one.service in catalogue.services]
    answers = [calendars.answer_now(catalogue.policy, service, train.environment) for service in ready]
    if answers and not any(answer.open for answer in answers):
        _wait_or_refuse(train, manifest, answers)
    stopped = [_stops(catalogue, service.name) for service in ready]
    if stopped and all(stopped):
        raise _held_back(train, f"there is an emergency stop: {stopped[0]}")
    return manifest


def _wait_or_refuse(train: Train, manifest: Manifest, answers: Sequence[Answer]) -> NoReturn:
    """Wait until one of the passengers may depart, if that is soon enough; otherwise the train does not depart.

    It is not soon enough when the train's next date has come: that is another departure. Calendars that cannot be read
    may be read the next time.
    """
    unread, soon = any(answer.faults for answer in answers), datetime.now(UTC) + AGAIN
    opening = soon if unread else min((answer.next for answer in answers if answer.next is not None), default=None)
    following = next(planned(train, manifest.departure), None)
    why = " ".join(dict.fromkeys(map(str, answers)))
    if (
        (train.freeze.then == "move" or unread)
        and opening is not None
        and opening <= manifest.departure + train.freeze.farthest
        and (following is None or opening < following)
    ):
        _look_again(why, opening)
    raise _held_back(train, why)


def _held_back(train: Train, why: str) -> PolicyViolation:
    return PolicyViolation(
        f"{train.title} does not depart: {why}",
        rule=f"a train departs when a passenger may change {train.environment} (freeze of trains/{train.name}.yaml)",
        who="whoever keeps the calendars, or may lift the stop",
        next_step="its passengers take the next train, or send it by hand when it is over",
    )


def _stops(catalogue: Catalogue, service: str) -> str:
    with resources.ledger() as ledger:
        entries = ledger.entries(INSTALLATION, kind="emergency_stop.*")
    return " ".join(map(str, stops_in_force(entries, catalogue.services[service], datetime.now(UTC))))


class PassengerLost(ReleaseError):
    """A passenger did not arrive."""


class SendPassenger(BaseOperator):
    """Ask for the release of one passenger, as the conductor, and wait without a worker until it has ended.

    Fails if it did not arrive; then what depends on it stays behind, and nothing else. Skipped if the service is not on
    board.

    :param train: the train's name.
    :param service: the service's name.
    :param manifest: the frozen manifest.
    """

    template_fields = ("manifest",)

    def __init__(self, *, train: str, service: str, manifest: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.train, self.service, self.manifest = train, service, manifest

    def execute(self, context: Context) -> dict[str, Any]:
        """Send it if it was not sent; wait while its release is under way; say how it arrived."""
        with reasons_kept():
            manifest = Manifest.from_xcom(self.manifest)
            refuse_void([manifest])
            one = manifest.passenger(self.service)
            if one is None:
                raise AirflowSkipException(manifest.why_left(self.service))
            run_id = passenger_run(self.train, manifest.departure)
            entries = chain_entries()
            if not _of_passenger(entries, LEFT, self.service):
                form = passenger_form(manifest, one, this_chain())
                if not self._is_asked_for(run_id, form):  # otherwise by a try that ended before it could say so
                    self._refuse_or_wait(manifest, one, entries)
                    with resources.airflow_api(resources.CONDUCTOR) as api:
                        note = f"A passenger of {manifest.title}"
                        api.trigger(dag_of(self.service), run_id, form, note=note)
                record(LEFT, self._told(one, run_id))
            return self._arrived(one, run_id)

    def execute_again(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Look again; what the trigger says is only that it is time to."""
        self.log.info("Looking again: %s", event.get("why"))
        return self.execute(context)

    def _told(self, one: Boarded, run_id: str, **more: str) -> dict[str, Any]:
        """Return what the train's chain has of a passenger."""
        return {"service": self.service, "version": one.version, "run": f"{dag_of(self.service)}/{run_id}", **more}

    def _is_asked_for(self, run_id: str, form: dict[str, Any]) -> bool:
        """Tell whether the conductor asked for the passenger's release already, with this train's form."""
        with resources.ledger() as ledger:
            asked = ledger.entries(release_chain(dag_of(self.service), run_id), kind=ASKED)
        mine = (CONDUCTOR, sha256_of(form))
        return any((one.payload["user"], one.payload["conf"]) == mine for one in asked)

    def _refuse_or_wait(self, manifest: Manifest, one: Boarded, entries: Sequence[Entry]) -> None:
        """Hold the passenger back: for good, or until the calendars let it depart."""
        catalogue = catalogue_now()
        train = train_now(self.train, catalogue)
        if stopped := next((entry.payload for entry in entries if entry.kind == STOPPED), None):
            raise _held_back(train, f"it was stopped, for {stopped['because']}")
        if why := unusable(catalogue, self.service):
            raise _without_file(self.service, why)
        refuse_replaced(one)
        if stop := _stops(catalogue, self.service):
            raise _held_back(train, f"there is an emergency stop: {stop}")
        answer = calendars.answer_now(catalogue.policy, catalogue.services[self.service], train.environment)
        if not answer.open:
            _wait_or_refuse(train, manifest, [answer])
        dag_id = dag_of(self.service)
        with resources.airflow_api() as api:
            if api.is_paused(dag_id):
                raise _held_back(train, f"{dag_id} is paused, so its release would not begin.")

    def _arrived(self, one: Boarded, run_id: str) -> dict[str, Any]:
        """Return how the release ended; defer while it has not."""
        dag_id = dag_of(self.service)
        outcome = _outcome(release_chain(dag_id, run_id))
        if outcome is None:
            with resources.airflow_api() as api:
                state = api.run_state(dag_id, run_id)
            if state == "queued":
                return self._in_line(one, run_id)
            if state == "running":
                self.defer(
                    trigger=RunTrigger(dag_id=dag_id, run_id=run_id, connection=resources.AIRFLOW),
                    method_name="execute_again",
                )
            outcome = _outcome(release_chain(dag_id, run_id))  # it may have ended between the two looks
        self._refuse_other(dag_id, run_id)
        ended, reason = (outcome.outcome, outcome.reason) if outcome else ("failed", "Its run left no outcome.")
        told = self._told(one, run_id, outcome=ended, reason="" if ended == "deployed" else reason)
        record(BACK, told)
        if ended != "deployed":
            return self._lost(one, told)
        return told

    def _in_line(self, one: Boarded, run_id: str) -> dict[str, Any]:
        """Look again while the release stands in line, for as long as the train is patient; then it is lost."""
        left = _of_passenger(chain_entries(), LEFT, self.service)
        patience = train_now(self.train, catalogue_now()).patience
        dag_id = dag_of(self.service)
        ahead = ", ".join(running(self.service))
        why = f"it waits for {ahead} of {dag_id}" if ahead else f"nothing else of {dag_id} runs"
        if left is not None and datetime.now(UTC) < left.at + patience:
            _look_again(why, left.at + patience)
        with resources.airflow_api() as api:
            why = f"{dag_id} is paused" if api.is_paused(dag_id) else why
        reason = f"It did not begin within {in_words(patience)}: {why}."
        told = self._told(one, run_id, outcome="never begun", reason=reason)
        record(BACK, told)
        return self._lost(one, told)

    def _refuse_other(self, dag_id: str, run_id: str) -> None:
        """Refuse a run with the passenger's id that somebody else asked for."""
        with resources.ledger() as ledger:
            asked = ledger.entries(release_chain(dag_id, run_id), kind=REQUESTED)
        if asked and (asked[0].payload.get("train"), asked[0].payload.get("requested_by")) != (this_chain(), CONDUCTOR):
            raise PassengerLost(
                f"{dag_id}, run {run_id}, is not this train's: {asked[0].payload.get('requested_by')} asked for it.",
                rule="a passenger's release is the one that the train's conductor asked for",
                who="whoever asked for it",
                next_step="release the service by itself, or let it take the next train",
            )

    def _lost(self, one: Boarded, told: dict[str, Any]) -> dict[str, Any]:
        """Do what the train's file says of a passenger that failed."""
        train = train_now(self.train, catalogue_now())
        rule = train.when_failed(self.service)
        failed = _of_passenger(chain_entries(), BACK, self.service)
        if rule == "wait" and failed is not None:
            if run := _deployed_since(self.service, one.version, failed.at):
                record(BACK, {**told, "outcome": "deployed", "reason": "", "run": run})
                return {**told, "outcome": "deployed", "run": run}
            if datetime.now(UTC) < failed.at + train.patience:
                raise AirflowRescheduleException(datetime.now(UTC) + AGAIN)
        if rule == "stop":
            record(STOPPED, {"because": f"{self.service} {one.version} ended as {told['outcome']}"})
        raise PassengerLost(
            f"{self.service} {one.version} ended as {told['outcome'].replace('_', ' ')}: {told['reason']}",
            rule=f"failed: {rule} of trains/{train.name}.yaml",
            who="the service's team",
            next_step="what depends on it takes the next train",
        )


def _of_passenger(entries: Sequence[Entry], kind: str, service: str) -> Entry | None:
    return next((one for one in entries if one.kind == kind and one.payload.get("service") == service), None)


def _outcome(chain_name: str) -> Outcome | None:
    with resources.ledger() as ledger:
        closed = ledger.entries(chain_name, kind="release.closed")
    return Outcome.model_validate(closed[-1].payload, extra="ignore") if closed else None


def _deployed_since(service: str, version: str, since: datetime) -> str:
    """Return the run that brought a version there after all; empty: none did."""
    with resources.ledger() as ledger:
        ended = ledger.entries(INSTALLATION, kind=ENDED)
    same = (service, version, "deployed")
    found = (
        one.payload
        for one in ended
        if one.at > since and (one.payload["service"], one.payload["version"], one.payload["outcome"]) == same
    )
    return next((str(one["run"]) for one in found), "")


# --- arrival ---------------------------------------------------------------------------------------------------------


@stage_task(
    task_display_name="Record the arrival",
    trigger_rule=TriggerRule.ALL_DONE,
    evidence=ARRIVED,
    seal=True,
    after_end="go_on",
)
def record_arrival(name: str) -> Arrival:
    """Record what became of each passenger, by the train's chain in the ledger; whatever happened."""
    ti: Any = get_current_context()["ti"]
    entries = chain_entries()
    if known := next((one.payload for one in entries if one.kind == ARRIVED), None):
        return Arrival.from_xcom(known)  # by an earlier try of this task
    manifest = manifest_in(entries)
    before = ("boarding.open_train", "boarding.freeze_manifest", "board.prepare_ballots", "board.await_board")
    kept = (ti.xcom_pull(task_ids=task, key=REASON) for task in (*before, "departure.depart"))
    why_not = next((str(reason) for reason in kept if reason), "A task of the train failed.")
    reasons = {
        one.service: str(ti.xcom_pull(task_ids=task_of(one.service), key=REASON) or _behind(one, entries))
        for one in (manifest.passengers if manifest else ())
    }
    return arrival(name, entries, reasons, why_not)


def _behind(one: Boarded, entries: Sequence[Entry]) -> str:
    if _of_passenger(entries, LEFT, one.service):
        return "Its release was asked for, and the train did not see it end."
    return f"It is after {', '.join(one.after)}, which did not arrive." if one.after else "It did not depart."


@stage_task(task_display_name="End the journey", trigger_rule=TriggerRule.ALL_DONE, after_end="go_on")
def close_train() -> Arrival:
    """End the run as the train arrived: it fails if it did not depart, or if somebody on board did not arrive.

    :raises PassengerLost: who did not arrive, and why.
    """
    found = next((one.payload for one in reversed(chain_entries()) if one.kind == ARRIVED), None)
    if found is None:
        raise PassengerLost("It is not on record how the train arrived.")
    came = Arrival.from_xcom(found)
    keep_result(came)
    if not came.departed:
        raise PassengerLost(f"The train {came.train} did not depart. {came.reason}")
    if came.missing:
        lost = "; ".join(f"{one.service} {one.version}: {one.outcome}. {one.reason}" for one in came.missing)
        raise PassengerLost(f"Not everybody on the train {came.train} arrived. {lost}")
    return came


# --- the groups of tasks ---------------------------------------------------------------------------------------------


def task_of(service: str) -> str:
    """Return the task that sends a passenger."""
    return f"departure.send_{service.replace('-', '_')}"


@task_group(group_id="boarding", group_display_name="1 Boarding", tooltip="Boarding: until the manifest is frozen")
def boarding_group(name: str) -> XComArg:
    """Open boarding, wait for the cut-off, freeze the manifest; return the manifest."""
    opened = open_train(name)
    wait = DateTimeSensorAsync(
        task_id="await_cut_off",
        task_display_name="Wait for the cut-off",
        target_time="{{ ti.xcom_pull(task_ids='boarding.open_train')['cut_off'] }}",
        execution_timeout=None,
        doc_md="Wait, without a worker, until the manifest is frozen; make trains shows who would board now.",
    )
    manifest = freeze_manifest(name, opened)
    chain(opened, wait, manifest)
    return manifest


@task_group(group_id="board", group_display_name="2 One decision", tooltip="One decision: on the manifest's digest")
def board_group(name: str, manifest: XComArg, within: timedelta | None) -> tuple[XComArg, EmptyOperator | None]:
    """Ask the boards and wait for them; return the decision, and the end of the ballots.

    :param within: the longest that the boards may take; none: nobody ever votes.
    """
    ballots = prepare_ballots(name, manifest)
    over = None
    if within is not None:
        over = ask(
            ballots,
            task_id="cast_ballot",
            title="Cast a ballot (board member)",
            options=[APPROVE, REJECT, ABSTAIN],
            default=ABSTAIN,
            conditions=True,
            within=within * 2,
            doc_md="One ballot for each member of the boards, on the digest of the frozen manifest.",
        )
    decision = AwaitTrainBoard(
        task_id="await_board",
        task_display_name="Wait for the board",
        manifest=manifest,
        ballots=ballots,
        retries=5,
        doc_md=AwaitTrainBoard.__doc__,
    )
    chain(manifest, ballots, decision)
    return decision.output, over


@task_group(group_id="departure", group_display_name="3 Departure", tooltip="Departure: each after what it depends on")
def departure_group(train: Train, manifest: XComArg, decision: XComArg) -> list[BaseOperator]:
    """Wait for the time, depart, and send the passengers; return the tasks that send them."""
    wait = DateTimeSensorAsync(
        task_id="await_departure",
        task_display_name="Wait for the departure",
        target_time="{{ ti.xcom_pull(task_ids='boarding.open_train')['departure'] }}",
        execution_timeout=None,
        doc_md="Wait, without a worker, until the time of departure.",
    )
    departed = depart(train.name, manifest)
    chain(decision, wait, departed)
    sent: dict[str, BaseOperator] = {
        one.service: SendPassenger(
            task_id=f"send_{one.service.replace('-', '_')}",
            task_display_name=f"Send {one.service}",
            train=train.name,
            service=one.service,
            manifest=manifest,
            trigger_rule=TriggerRule.NONE_FAILED,
            execution_timeout=None,
            retries=5,
            doc_md=SendPassenger.__doc__,
        )
        for one in train.passengers
    }
    for one in train.passengers:
        chain([departed, *(sent[name] for name in one.after)], sent[one.service])
    return list(sent.values())


@task_group(group_id="arrival", group_display_name="4 Arrival", tooltip="Arrival: what became of each passenger")
def arrival_group(name: str) -> XComArg:
    """Record the arrival and end the journey; return the first task."""
    recorded: XComArg = record_arrival(name)
    chain(recorded, close_train())
    return recorded
