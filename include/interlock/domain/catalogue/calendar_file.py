"""``calendars/*.yaml``: freezes, change windows, maintenance, events and public holidays."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from interlock.domain.calendars.recurrence import Recurrence
from interlock.domain.canonical import Model

from .values import Duration, Identifier, Line, Roles, each_once, named_twice

Kind = Literal["freeze", "window", "maintenance", "event", "holiday"]
Effect = Literal["deny", "allow", "none"]
DuringRollout = Literal["stop", "finish", "back_out"]
EFFECTS: dict[str, Effect] = {"freeze": "deny", "window": "allow"}
"""The default effect of each kind on changes; other kinds are only shown, unless the entry sets an effect."""

_MOMENT = r"^20\d\d-[01]\d-[0-3]\d(T[0-2]\d:[0-5]\d(:[0-5]\d)?(Z|[+-][01]\d:[0-5]\d)?)?$"


def moment_of(text: str) -> date | datetime:
    """Return a moment as the day, the local time or the instant that it is."""
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def _is_a_moment(text: str) -> str:
    moment_of(text)
    return text


Moment = Annotated[
    str,
    StringConstraints(pattern=_MOMENT),
    AfterValidator(_is_a_moment),
    Field(
        description="A day (2026-12-24), a time of the calendar's time zone (2026-12-24T18:00), "
        "or an instant with its offset (2026-12-24T18:00+01:00)"
    ),
]


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name; ValueError for an unknown one."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name} is not a time zone; examples: Europe/Berlin, UTC") from error


def _is_a_zone(name: str) -> str:
    zone_of(name)
    return name


TimeZone = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"),
    AfterValidator(_is_a_zone),
    Field(description="A time zone of the IANA database, such as Europe/Berlin"),
]


def repeated(rule: str, start: datetime) -> Recurrence:
    """Return a recurrence rule with its first time, in local time.

    :raises ValueError: that is not its first time, or it comes more often than hourly.
    """
    try:
        found = Recurrence(rule, start)
        first = next(found.after(start), None)
    except ValueError as error:
        raise ValueError(f"{rule} does not go with from: {error}") from error
    if first != start:
        raise ValueError(f"from must be the first occurrence of {rule}, which is {first or 'never'}")
    found.refuse_too_often()
    return found


def _is_a_rule(rule: str) -> str:
    if re.search(r"UNTIL=\d{8}T\d{6}Z", rule, re.IGNORECASE):
        raise ValueError("UNTIL is in the calendar's time zone here: write it without Z")
    Recurrence(rule, datetime(2028, 1, 31))
    return rule


Rule = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z]+=[A-Za-z0-9=;,+-]{1,300}$"),
    AfterValidator(_is_a_rule),
    Field(
        description="A recurrence rule of RFC 5545, without RRULE:, such as FREQ=WEEKLY;BYDAY=MO,WE; "
        "an UNTIL that is a day includes that day"
    ),
]
FileName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.ics$"),
    Field(description="An iCalendar file beside this one, such as payroll.ics"),
]
HttpsUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[^\s#\x00-\x1f\x7f]*)?$", max_length=2048),
    Field(description="The https URL of an iCalendar file, without a login"),
]
Names = Annotated[tuple[Identifier, ...], AfterValidator(each_once)]


class Scope(Model):
    """What an entry is about: all that it names must fit; what it leaves out is everything."""

    services: Names = Field((), description="Services; together with business_units, a match of either is enough")
    business_units: Names = Field((), description="Business units, with all their services")
    environments: Names = Field((), description="Environments, such as production; empty: all")

    def holds(self, service: str, business_unit: str | None, environment: str) -> bool:
        """Say whether it is about a service in an environment."""
        for_all = not self.services and not self.business_units
        concerned = for_all or service in self.services or business_unit in self.business_units
        return concerned and (not self.environments or environment in self.environments)


class Holidays(Model):
    """The public holidays of a country, as the package holidays has them."""

    country: str = Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1, such as DE")
    region: str | None = Field(
        None, pattern=r"^[A-Za-z0-9 -]{1,40}$", description="A region with additional holidays, such as BY"
    )


class Feed(Model):
    """An iCalendar file beside this one, or at a URL."""

    file: FileName | None = None
    url: HttpsUrl | None = None
    refresh: Duration = Field(timedelta(minutes=15), description="Age at which the copy of the URL is fetched again")
    oldest: Duration = Field(
        timedelta(days=2), description="Maximum age of the copy; with an older copy, everything is closed"
    )

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("ical names either a file or a url")
        if self.oldest < self.refresh:
            raise ValueError("oldest is shorter than refresh")
        return self


class CalendarEntry(Model):
    """Something in a calendar: a time, once or again and again; public holidays; or the events of an iCalendar file."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Identifier = Field(description="Name of the entry in refusals and overrides; unique in the file")
    title: Line
    kind: Kind | None = Field(
        None, description="Kind of the entry; only ical can omit it, if its events have CATEGORIES"
    )
    effect: Effect | None = Field(
        None,
        description="deny: no changes; allow: changes only then; none: information only. Default: by the kind",
    )
    scope: Scope = Scope()
    from_: Moment | None = Field(None, alias="from")
    until: Moment | None = Field(
        None, description="End of the entry (exclusive); for days, the last day (default: from)"
    )
    repeat: Rule | None = None
    except_: tuple[Moment, ...] = Field(
        (), alias="except", description="Days or start times that are excluded from the repetition"
    )
    holidays: Holidays | None = None
    ical: Feed | None = None
    during_rollout: DuringRollout = Field(
        "back_out",
        description="What happens to a rollout in progress when the entry starts (for a change window: when it ends)",
    )
    override_by: Roles = Field(
        (), description="Roles that may override the entry for one service; empty: it cannot be overridden"
    )

    @property
    def acts(self) -> Effect:
        """What it does to changes."""
        return self.effect or EFFECTS.get(self.kind or "", "none")

    @model_validator(mode="after")
    def _has_one_time(self) -> Self:
        named = [what for what in ("from_", "holidays", "ical") if getattr(self, what) is not None]
        if len(named) != 1:
            raise ValueError("an entry has exactly one of: from (and until), holidays, ical")
        if self.from_ is None and (self.until or self.repeat or self.except_):
            raise ValueError("until, repeat and except go with from")
        if (self.holidays is not None) != (self.kind == "holiday"):
            raise ValueError("kind: holiday goes with holidays, and holidays with kind: holiday")
        if self.kind is None and (self.ical is None or self.effect is not None):
            raise ValueError("kind is missing; only the events of an iCalendar file may say it themselves")
        return self

    @model_validator(mode="after")
    def _does_what_its_kind_does(self) -> Self:
        usual = EFFECTS.get(self.kind or "")
        if self.effect and usual and self.effect != usual:
            raise ValueError(f"a {self.kind} always has effect: {usual}; use another kind for another effect")
        return self

    @model_validator(mode="after")
    def _ends_after_it_began(self) -> Self:
        if self.from_ is None:
            return self
        start, end = self.span()
        if (start.tzinfo is None) != (end.tzinfo is None) or ("T" in self.from_) != ("T" in (self.until or self.from_)):
            raise ValueError("from and until are both days, both local times, or both instants with an offset")
        if end <= start:
            raise ValueError(f"it ends at {self.until or self.from_}, and begins at {self.from_}")
        return self

    @model_validator(mode="after")
    def _repeats_from_its_start(self) -> Self:
        if self.except_ and self.repeat is None:
            raise ValueError("except goes with repeat")
        if self.from_ is None or self.repeat is None:
            return self
        start, _ = self.span()
        if start.tzinfo is not None:
            raise ValueError("a repeated entry has times in the time zone of the calendar, without an offset")
        repeated(self.repeat, start)
        return self

    def span(self) -> tuple[datetime, datetime]:
        """Return the first start and end: of days and local times without a time zone; days from midnight on."""
        if self.from_ is None:
            raise ValueError(f"{self.name} has no times of its own")
        start, end = moment_of(self.from_), moment_of(self.until or self.from_)
        if not isinstance(start, datetime):
            start = datetime(start.year, start.month, start.day)
        if not isinstance(end, datetime):
            end = datetime(end.year, end.month, end.day) + timedelta(days=1)
        return start, end


class CalendarFile(Model):
    """A calendar: ``calendars/<name>.yaml``."""

    title: Line
    owner: Line = Field(description="Owner of the calendar, who is named in refusals")
    time_zone: TimeZone = Field(description="Time zone of all days and times without an offset")
    entries: tuple[CalendarEntry, ...]

    @model_validator(mode="after")
    def _names_each_entry_once(self) -> Self:
        if twice := named_twice(entry.name for entry in self.entries):
            raise ValueError(f"entries: {twice} is named twice")
        return self
