"""The request of a release, and the fields of the trigger form.

:func:`form_fields` describes the form as JSON-schema dictionaries. :func:`parse_request` checks a request by the same
rules, however it came in. Only :func:`parse_request` checks what depends on today's date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
)

from interlock.domain.board.voting import VotingRule, voting_rule
from interlock.domain.canonical import Model
from interlock.domain.catalogue import BoardBook, ChangeType, Flow, Policy, RiskLevel, RiskQuestion, Service
from interlock.domain.errors import RequestRefused

from .policy import flows_of
from .semver import MAX_VERSION_LENGTH

_END = r"(?![\s\S])"
"""The end of the text; a dollar sign would let a line break through."""
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters, line breaks, what turns the direction of writing, and halves of characters."""

REF_PATTERN = (
    rf"^(?![-/.])(?!@{_END})(?!.*(?:\.\.|@\{{|//|/\.|\.lock(?:/|{_END})))"
    rf"[^{_HIDDEN} ~^:?*\[\\]+(?<![/.]){_END}"
)
"""What ``git check-ref-format`` accepts as the name of a branch or tag; a commit's hash is also accepted."""
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE_RELEASE = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
VERSION_PATTERN = (
    rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRE_RELEASE}(?:\.{_PRE_RELEASE})*)?"
    rf"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?{_END}"
)
SUMMARY_PATTERN = rf"^ *[^{_HIDDEN}\s][^{_HIDDEN}]*[^{_HIDDEN}\s] *{_END}"
TICKET_PATTERN = rf"^(?:[A-Z][A-Z0-9_]{{0,31}}-[1-9][0-9]{{0,9}}|#[1-9][0-9]{{0,9}}){_END}"
INSTANT_PATTERN = (
    r"^20[0-9]{2}-(?:0[1-9]|1[0-2])-[0-3][0-9]T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    rf"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]){_END}"
)
TRAIN_PATTERN = rf"^release/train_[a-z0-9_]{{1,64}}/[^{_HIDDEN}]{{1,250}}{_END}"
MAX_REF_LENGTH = 200
MIN_SUMMARY_LENGTH, MAX_SUMMARY_LENGTH = 5, 200
MAX_TICKETS = 50
MAX_START_IN_PAST, MAX_START_AHEAD = timedelta(days=1), timedelta(days=366)
"""An instant outside of these limits is most likely a mistake."""

NOT_SHOWN = frozenset({"train"})
"""What a request may say that is not on the form, for people do not say it."""
RISK_PREFIX = "risk_"
CALCULATED = "calculated"
"""The choice of the form for a release without a declared risk."""

_RULES = {
    "train": "Set by the conductor of a train for its passengers: the chain of the train in the ledger.",
    "ref": "The tag, branch or commit to release, such as 1.4.0. It must not start with a hyphen.",
    "version": "A semantic version (semver.org) without a leading v, such as 1.4.0 or 2.0.0-rc.1.",
    "change_type": "The change type: standard, normal or emergency. It determines the required approvals.",
    "summary": f"The purpose of the release, in one line of {MIN_SUMMARY_LENGTH} to {MAX_SUMMARY_LENGTH} characters.",
    "tickets": f"Change tickets such as ABC-123 or #12, one per line; at most {MAX_TICKETS}, without duplicates.",
    "declared_risk": "Your assessment of the risk: calculated (no assessment), low, medium or high. The higher of "
    "this and the calculated risk counts.",
    "not_before": "The earliest start of the deployment, with its time zone, such as 2026-05-04T22:00:00Z; at most one "
    "day ago and one year ahead. Empty: start as soon as the release is approved.",
    "rehearsal": "Yes (on, true): the release runs on the test environment only. No approvals are requested, and "
    "production does not change. No (off, false): the release goes to production.",
}
"""The allowed values of each field."""
SWITCH = "switched on or off (true or false)"
"""The allowed values of each risk question."""


def _matching(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.search(text):
            raise ValueError("does not match")
        return text

    return check


def _instant(value: object) -> object:
    """Read an instant as RFC 3339 writes it."""
    if not isinstance(value, str):
        return value if value is None or isinstance(value, datetime) else ""
    return datetime.fromisoformat(_matching(INSTANT_PATTERN)(value))


def _each_once(tickets: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(tickets)) < len(tickets):
        raise ValueError("a ticket is named twice")
    return tickets


def _none_is_empty(value: object) -> object:
    return () if value is None else value


Ticket = Annotated[str, AfterValidator(_matching(TICKET_PATTERN))]


class ReleaseRequest(Model):
    """The request of a release."""

    ref: Annotated[str, StringConstraints(max_length=MAX_REF_LENGTH), AfterValidator(_matching(REF_PATTERN))]
    version: Annotated[
        str, StringConstraints(max_length=MAX_VERSION_LENGTH), AfterValidator(_matching(VERSION_PATTERN))
    ]
    change_type: ChangeType = ChangeType.NORMAL
    summary: Annotated[
        str,
        StringConstraints(min_length=MIN_SUMMARY_LENGTH, max_length=MAX_SUMMARY_LENGTH),
        AfterValidator(_matching(SUMMARY_PATTERN)),
        AfterValidator(str.strip),
    ]
    tickets: Annotated[tuple[Ticket, ...], BeforeValidator(_none_is_empty), AfterValidator(_each_once)] = Field(
        (), max_length=MAX_TICKETS
    )
    risk: dict[str, StrictBool] = Field({}, description="Key of a risk question: yes or no")
    declared_risk: RiskLevel | None = None
    not_before: Annotated[AwareDatetime | None, BeforeValidator(_instant)] = None
    rehearsal: StrictBool = False
    train: Annotated[str, AfterValidator(_matching(TRAIN_PATTERN))] | None = Field(
        None, description="Of a train's passenger: the train's chain in the ledger"
    )


def parse_request(conf: Mapping[str, Any], *, policy: Policy, now: datetime | None = None) -> ReleaseRequest:
    """Read a request from the trigger form, or from the API.

    :param now: the present instant, for tests.
    :raises RequestRefused: names every field that is wrong, what was found and what is allowed.
    """
    problems = [*_unknown_keys(conf, policy), *_missing_keys(conf, policy)]
    try:
        request = ReleaseRequest.model_validate(_by_field(conf, policy))
    except ValidationError as error:
        wrong = dict.fromkeys(_form_key(detail["loc"]) for detail in error.errors())
        raise _refused(
            [*problems, *(_problem(key, conf[key], policy) for key in wrong if key in conf)], policy
        ) from None
    if request.not_before and not _is_near(request.not_before, now or datetime.now(UTC)):
        problems.append(_problem("not_before", conf["not_before"], policy))
    if problems:
        raise _refused(problems, policy)
    return request


def form_fields(
    policy: Policy, book: BoardBook | None = None, service: Service | None = None
) -> dict[str, dict[str, Any]]:
    """Describe the trigger form: a JSON schema for each field, in the order of the form.

    Beside JSON Schema's own words each has a ``section`` for the form; a field without ``default`` must be filled in.

    :param book: with it and a service, the change types say who votes; what the form takes does not depend on them.
    """
    what, change, risk, when = "What is released", "Change", "Risk", "When"
    return {
        "ref": _text("ref", what, "What to release", REF_PATTERN, minLength=1, maxLength=MAX_REF_LENGTH),
        "version": _text("version", what, "Version", VERSION_PATTERN, minLength=5, maxLength=MAX_VERSION_LENGTH),
        "change_type": _field("change_type", change, "Change type", default="normal")
        | _change_types(policy, book, service),
        "summary": _text(
            "summary", change, "Summary", SUMMARY_PATTERN, minLength=MIN_SUMMARY_LENGTH, maxLength=MAX_SUMMARY_LENGTH
        ),
        "tickets": _field("tickets", change, "Change tickets", default=[])
        | {
            "type": ["array", "null"],
            "items": {"type": "string", "pattern": TICKET_PATTERN},
            "maxItems": MAX_TICKETS,
            "uniqueItems": True,
        },
        **{RISK_PREFIX + question.key: _question(question, risk) for question in policy.risk.questions},
        "declared_risk": _field("declared_risk", risk, "Declared risk", default=CALCULATED) | _declared_risks(policy),
        "not_before": _field("not_before", when, "Not before", default=None)
        | {"type": ["string", "null"], "format": "date-time", "pattern": INSTANT_PATTERN},
        "rehearsal": _field("rehearsal", when, "Rehearsal", default=False) | {"type": "boolean"},
    }


def _field(key: str, section: str, title: str, **default: Any) -> dict[str, Any]:
    return {"section": section, "title": title, "description": _RULES[key], **default}


def _text(key: str, section: str, title: str, pattern: str, **limits: int) -> dict[str, Any]:
    return _field(key, section, title) | {"type": "string", "pattern": pattern, **limits}


def _question(question: RiskQuestion, section: str) -> dict[str, Any]:
    return {
        "section": section,
        "title": question.question,
        "description": f"On: yes, which adds {question.points} points to the risk of the release (0 to 100). Off: no.",
        "type": "boolean",
        "default": False,
    }


def _change_types(policy: Policy, book: BoardBook | None, service: Service | None) -> dict[str, Any]:
    kinds = [kind for kind in ChangeType if kind in policy.change_types]
    flows = flows_of(policy, service) if service else policy.change_types

    def said(kind: ChangeType) -> str:
        if book is None or service is None:
            return "a board votes" if flows[kind].board else "pre-authorised; no board votes"
        return _who_decides(flows[kind], voting_rule(policy, book, service, change_type=kind, risk=0))

    return {
        "type": "string",
        "enum": [kind.value for kind in kinds],
        "values_display": {kind.value: f"{kind.value}: {said(kind)}" for kind in kinds},
    }


def _who_decides(flow: Flow, rule: VotingRule | None) -> str:
    """Describe whom a release without any risk asks."""
    acceptance = "a functional approver accepts it, " if flow.acceptance else ""
    if rule is None:
        return f"pre-authorised; {acceptance}no board votes"
    each = [f"{demand.approvals} of {len(demand.members)}" for demand in rule.demands]
    return f"{acceptance}the {rule.title} {'votes' if len(each) == 1 else 'vote'}; {', '.join(each)}"


def _declared_risks(policy: Policy) -> dict[str, Any]:
    levels: tuple[RiskLevel, ...] = ("low", "medium", "high")
    shown = {level: f"{level}: {policy.risk.declared[level]} of 100" for level in levels}
    shown_none = {CALCULATED: "calculated from your answers, the change and the service"}
    return {"type": "string", "enum": [CALCULATED, *levels], "values_display": shown_none | shown}


def _by_field(conf: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """Return the input under the names of the request's fields."""
    plain = {key: conf[key] for key in _RULES if key in conf}
    answers = {question.key: conf.get(RISK_PREFIX + question.key, False) for question in policy.risk.questions}
    if "declared_risk" in plain:  # An empty value is a mistake: the form has a choice for no declared risk.
        declared = plain["declared_risk"]
        plain["declared_risk"] = None if declared == CALCULATED else "" if declared is None else declared
    return plain | {"risk": answers}


def _form_key(place: tuple[int | str, ...]) -> str:
    return f"{RISK_PREFIX}{place[1]}" if place[0] == "risk" and len(place) > 1 else str(place[0])


def _is_near(instant: datetime, now: datetime) -> bool:
    return now - MAX_START_IN_PAST <= instant <= now + MAX_START_AHEAD


def _unknown_keys(conf: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    known = form_fields(policy)
    for key in conf:
        if key not in known and key not in NOT_SHOWN:
            yield f"{_short(key)}: not a field of the form; allowed: {', '.join(known)}"


def _missing_keys(conf: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    for key, field in form_fields(policy).items():
        if key not in conf and "default" not in field:
            yield f"{key}: missing; allowed: {field['description']}"


def _problem(key: str, found: object, policy: Policy) -> str:
    rule = _RULES.get(key, SWITCH)
    return f"{key}: found {_short(found)}; allowed: {rule}"


def _short(value: object) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _refused(problems: list[str], policy: Policy) -> RequestRefused:
    return RequestRefused(
        "The release request is not valid. " + " ".join(f"{problem.rstrip('.')}." for problem in problems),
        rule="the fields of the trigger form; its risk questions are in policy.yaml",
        who=policy.owner,
        next_step="correct these fields and trigger the release again",
    )
