"""The outbox in the ledger's database: a row for each release and system that is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    case,
    cast,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from interlock.domain.ledger.kinds import EMERGENCY_STOP_DECLARED, EMERGENCY_STOP_LIFTED
from interlock.domain.ledger.runs import CHAINS
from interlock.domain.outbox.delivery import Cursor, Delivery, Intent, correlation_of

from ._rows import ENTRIES
from .ledger import Ledger
from .migrations import SCHEMA

MAX_FAILURES = 4
"""Failures of a system in a row, without any answer between them, after which it is left alone for a while."""
AT_ONCE = 500
"""Chains that are looked at together."""
LONGEST_PAUSE = timedelta(seconds=15)
"""A system that does not answer is asked about one release so often; when it answers, the others follow at once."""
COMMITS_WITHIN = timedelta(minutes=2)
"""An entry is visible so long after its time of recording at the latest; the database ends slower statements."""

_METADATA = MetaData(schema=SCHEMA)
_ROWS = Table(
    "deliveries",
    _METADATA,
    *(Column(name, Text) for name in ("system", "chain", "correlation", "reference", "number", "url", "error")),
    *(Column(name, BigInteger) for name in ("entry", "stop", "looked", "version")),
    *(Column(name, Boolean) for name in ("refused", "confirmed")),
    *(Column(name, DateTime(timezone=True)) for name in ("next_at", "confirm_at", "changed_at")),
    Column("attempts", Integer),
    Column("intent", JSON(none_as_null=True)),
)
_SYSTEMS = Table(
    "delivery_systems",
    _METADATA,
    Column("system", Text),
    Column("error", Text),
    *(Column(name, DateTime(timezone=True)) for name in ("seen", "paused_until")),
    Column("failures", Integer),
)
_RECORDED_AT: Any = Column("recorded_at", DateTime(timezone=True))
_ENTRIES_RECORDED = Table("entries", MetaData(schema=SCHEMA), Column("chain", Text), Column("kind", Text), _RECORDED_AT)


class Outbox:
    """The rows of the outbox.

    :param ledger: whose database has them.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def discover(self, system: str, told_of: Callable[[Collection[str]], Collection[str]]) -> tuple[str, ...]:
        """Note what the ledger has that a system may not have been told yet; return the chains that are new to it.

        :param told_of: returns those of some chains of whose releases the system has a record.
        """
        with self._ledger.writing() as connection:
            now: datetime = connection.scalar(select(func.clock_timestamp()))
            connection.execute(insert(_SYSTEMS).values(system=system, seen=now, error="").on_conflict_do_nothing())
            seen = connection.scalar(select(_SYSTEMS.c.seen).where(_SYSTEMS.c.system == system))
            recent = _ENTRIES_RECORDED.c.recorded_at > seen - COMMITS_WITHIN
            chains = set(
                connection.scalars(
                    select(_ENTRIES_RECORDED.c.chain)
                    .where(recent, _ENTRIES_RECORDED.c.chain.startswith(CHAINS, autoescape=True))
                    .distinct()
                )
            )
            stops = _ENTRIES_RECORDED.c.kind.in_((EMERGENCY_STOP_DECLARED, EMERGENCY_STOP_LIFTED))
            has_stops = connection.scalar(select(func.count()).select_from(_ENTRIES_RECORDED).where(recent, stops))
            mine = _ROWS.c.system == system
            known = dict(connection.execute(select(_ROWS.c.chain, _ROWS.c.looked).where(mine)).all())
            newest = select(ENTRIES.c.chain, func.max(ENTRIES.c.sequence)).where(
                ENTRIES.c.chain.in_(chains & known.keys())
            )
            # What failed waits for its own time.
            well = and_(mine, _ROWS.c.error == "")
            for chain, last in connection.execute(newest.group_by(ENTRIES.c.chain)).all():
                if last > known[chain]:
                    of_chain = and_(mine, _ROWS.c.chain == chain)
                    connection.execute(update(_ROWS).where(of_chain).values(looked=last))
                    connection.execute(update(_ROWS).where(well, _ROWS.c.chain == chain).values(next_at=now))
            if has_stops:
                connection.execute(update(_ROWS).where(well, _ROWS.c.confirm_at.is_(None)).values(next_at=now))
        unknown = sorted(chains - set(known))
        parts = (unknown[first : first + AT_ONCE] for first in range(0, len(unknown), AT_ONCE))
        new = tuple(chain for part in parts for chain in sorted(told_of(part)))
        with self._ledger.writing() as connection:
            last = select(ENTRIES.c.chain, func.max(ENTRIES.c.sequence)).where(ENTRIES.c.chain.in_(new))
            for chain, looked in connection.execute(last.group_by(ENTRIES.c.chain)).all() if new else ():
                first = Delivery(system=system, chain=chain, correlation=correlation_of(system, chain), next_at=now)
                row = {**_values(first), "looked": looked}
                connection.execute(insert(_ROWS).values(row).on_conflict_do_nothing())
            connection.execute(update(_SYSTEMS).where(_SYSTEMS.c.system == system).values(seen=now))
        return new

    def due(self, system: str, limit: int) -> tuple[tuple[int, Delivery], ...]:
        """Return the deliveries of a system whose time has come, each with its row's version; none while it pauses.

        :param limit: how many; of a system that did not answer before its pause, one is returned.
        """
        now = func.clock_timestamp()
        paused = select(_SYSTEMS.c.system).where(_SYSTEMS.c.system == system, _SYSTEMS.c.paused_until > now)
        query = (
            _SELECT.where(_ROWS.c.system == system, _ROWS.c.next_at <= now, ~paused.exists())
            .order_by(_ROWS.c.next_at, _ROWS.c.chain)
            .limit(limit)
        )
        failures = select(_SYSTEMS.c.failures).where(_SYSTEMS.c.system == system)
        with self._ledger.writing() as connection:
            if (connection.scalar(failures) or 0) > MAX_FAILURES:
                query = query.limit(1)
            return tuple((row.version, _delivery(row)) for row in connection.execute(query))

    def has_work(self, systems: Sequence[str]) -> bool:
        """Tell whether a delivery is due, or whether the ledger has something that was not looked at for a system."""
        recorded = _ENTRIES_RECORDED.c.recorded_at
        with self._ledger.writing() as connection:
            seen = dict(connection.execute(select(_SYSTEMS.c.system, _SYSTEMS.c.seen)).all())
            if set(systems) - set(seen):
                return True
            since = min(seen[name] for name in systems)
            new = select(recorded).where(
                recorded > since, _ENTRIES_RECORDED.c.chain.startswith(CHAINS, autoescape=True)
            )
            if connection.scalar(select(new.exists())):
                return True
            now = func.clock_timestamp()
        at = self.next_at(systems)
        with self._ledger.writing() as connection:
            return at is not None and at <= connection.scalar(select(now))

    def next_at(self, systems: Sequence[str]) -> datetime | None:
        """Return when the next delivery to any of the systems is due; None: there is none."""
        joined = _ROWS.outerjoin(_SYSTEMS, _SYSTEMS.c.system == _ROWS.c.system)
        when = func.min(func.greatest(_ROWS.c.next_at, _SYSTEMS.c.paused_until))
        query = select(when).select_from(joined).where(_ROWS.c.system.in_(systems), _ROWS.c.next_at.is_not(None))
        with self._ledger.writing() as connection:
            found: datetime | None = connection.scalar(query)
        return found.astimezone(UTC) if found else None

    def keep(self, version: int, delivery: Delivery) -> int | None:
        """Keep how far a delivery is, and return the row's new version; None: another process has changed it since."""
        here = and_(_ROWS.c.system == delivery.system, _ROWS.c.chain == delivery.chain, _ROWS.c.version == version)
        values = {**_values(delivery), "version": version + 1, "changed_at": func.clock_timestamp()}
        with self._ledger.writing() as connection:
            changed = connection.execute(update(_ROWS).where(here).values(values)).rowcount
        return version + 1 if changed else None

    def retry(self, system: str, chain: str = "") -> tuple[Delivery, ...]:
        """Make what failed or was refused due now, of a release or of all; return what it was."""
        failing = and_(_ROWS.c.system == system, or_(_ROWS.c.error != "", _ROWS.c.refused))
        if chain:
            failing = and_(failing, _ROWS.c.chain == chain)
        with self._ledger.writing() as connection:
            rows = [_delivery(row) for row in connection.execute(_SELECT.where(failing).order_by(_ROWS.c.chain))]
            again = {"next_at": func.clock_timestamp(), "attempts": 0, "version": _ROWS.c.version + 1}
            connection.execute(update(_ROWS).where(failing).values(again))
            unpaused = {"paused_until": None, "failures": 0}
            connection.execute(update(_SYSTEMS).where(_SYSTEMS.c.system == system).values(unpaused))
        return tuple(rows)

    def replay(self, system: str, chain: str) -> tuple[Delivery, ...]:
        """Have everything of a release told to a system again, as far as its record does not say that it was told."""
        row = and_(_ROWS.c.system == system, _ROWS.c.chain == chain)
        unsaid = {"entry": 0, "stop": 0, "confirm_at": None, "confirmed": False, "error": "", "refused": False}
        with self._ledger.writing() as connection:
            rows = [_delivery(one) for one in connection.execute(_SELECT.where(row))]
            again = {"next_at": func.clock_timestamp(), "attempts": 0, "version": _ROWS.c.version + 1}
            connection.execute(update(_ROWS).where(row).values({**unsaid, **again}))
        return tuple(rows)

    def all(self, *, chains: Collection[str] | None = None) -> tuple[Delivery, ...]:
        """Return all deliveries, or those of some releases; the ones with an error first."""
        query = _SELECT.order_by(*_ERRORS_FIRST)
        if chains is not None:
            query = query.where(_ROWS.c.chain.in_(chains))
        with self._ledger.writing() as connection:
            return tuple(map(_delivery, connection.execute(query)))

    def page(
        self, dags: Collection[str], *, states: Collection[str] = (), chain: str = "", limit: int, offset: int
    ) -> tuple[tuple[Delivery, ...], int]:
        """Return a page of the deliveries of some Dags, the ones with an error first; and how many there are.

        :param states: by :attr:`Delivery.state`; empty: any.
        :param chain: of a release; empty: of all.
        """
        wanted = [func.split_part(_ROWS.c.chain, "/", 2).in_(dags), _ROWS.c.chain.startswith(CHAINS, autoescape=True)]
        wanted += [_STATE.in_(states)] if states else []
        wanted += [_ROWS.c.chain == chain] if chain else []
        query = _SELECT.where(*wanted).order_by(*_ERRORS_FIRST).limit(limit).offset(offset)
        with self._ledger.writing() as connection:
            total: int = connection.scalar(select(func.count()).select_from(_ROWS).where(*wanted)) or 0
            return tuple(map(_delivery, connection.execute(query))), total

    def answered(self, system: str) -> None:
        """Note that a system answers."""
        failing = and_(_SYSTEMS.c.system == system, _SYSTEMS.c.failures > 0)
        with self._ledger.writing() as connection:
            connection.execute(update(_SYSTEMS).where(failing).values(failures=0, error=""))

    def pause(self, system: str, error: str, until: datetime | None = None) -> bool:
        """Leave a system alone for a while: until a time that it named, or after several failures in a row.

        :return: whether it is left alone now.
        """
        of_system = _SYSTEMS.c.system == system
        with self._ledger.writing() as connection:
            counted = update(_SYSTEMS).where(of_system).values(failures=_SYSTEMS.c.failures + 1, error=error[:2000])
            failures = connection.scalar(counted.returning(_SYSTEMS.c.failures)) or 0
            if until is None and failures > MAX_FAILURES:
                wait = min(LONGEST_PAUSE, timedelta(seconds=2 ** min(failures - MAX_FAILURES, 10)))
                until = datetime.now(UTC) + wait
            if until is not None:
                connection.execute(update(_SYSTEMS).where(of_system).values(paused_until=until))
        return until is not None


_ERRORS_FIRST = (_ROWS.c.error == "", _ROWS.c.system, _ROWS.c.chain)
_STATE: Any = case(  # as Delivery.state
    (_ROWS.c.refused, "refused"),
    (_ROWS.c.error != "", "failing"),
    (or_(_ROWS.c.next_at.is_(None), _ROWS.c.confirm_at.is_not(None)), "told"),
    else_="waiting",
)
_SELECT = select(*(column for column in _ROWS.c if column.name != "intent"), cast(_ROWS.c.intent, Text).label("intent"))


def _values(delivery: Delivery) -> dict[str, Any]:
    fields = delivery.model_dump(exclude={"told", "intent"})
    intent = delivery.intent.model_dump(mode="json") if delivery.intent else None
    return {**fields, "entry": delivery.told.entry, "stop": delivery.told.stop, "intent": intent}


def _delivery(row: Any) -> Delivery:
    fields = {name: value for name, value in row._mapping.items() if name in Delivery.model_fields}
    intent = json.loads(row.intent) if row.intent else None
    return Delivery(
        **{
            **fields,
            "told": Cursor(row.entry, row.stop),
            "intent": Intent.model_validate({**intent, "told": Cursor(*intent["told"])}) if intent else None,
        }
    )
