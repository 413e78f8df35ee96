"""The request of a release, and the fields of the trigger form.

:func:`form_fields` describes the form as JSON-schema dictionaries. :func:`parse_request` checks a request by the same
rules, however it came in. Only :func:`parse_request` checks what depends on today's date.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints, ValidationError
from pydantic.config import JsonDict

from interlock.domain.board.voting import VotingRule, voting_rule
from interlock.domain.canonical import Later, Model
from interlock.domain.catalogue import BoardBook, ChangeType, Flow, Policy, Prebuilt, RiskLevel, RiskQuestion, Service
from interlock.domain.catalogue.runbook_file import irreversible_of
from interlock.domain.errors import RequestRefused
from interlock.domain.trigger_form import END, Instant, fields_of, is_near

from .policy import flows_of
from .semver import MAX_VERSION_LENGTH

_HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters, line breaks, what turns the direction of writing, and halves of characters."""

REF_PATTERN = (
    rf"^(?![-/.])(?!@{END})(?!.*(?:\.\.|@\{{|//|/\.|\.lock(?:/|{END})))"
    rf"[^{_HIDDEN} ~^:?*\[\\]+(?<![/.]){END}"
)
"""What ``git check-ref-format`` accepts as the name of a branch or tag; a commit's hash is also accepted."""
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE_RELEASE = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
VERSION_PATTERN = (
    rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRE_RELEASE}(?:\.{_PRE_RELEASE})*)?"
    rf"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?{END}"
)
ARTIFACT_PATTERN = rf"^sha256:[0-9a-f]{{64}}{END}"
SUMMARY_PATTERN = rf"^ *[^{_HIDDEN}\s][^{_HIDDEN}]*[^{_HIDDEN}\s] *{END}"
TICKET_PATTERN = rf"^(?:[A-Z][A-Z0-9_]{{0,31}}-[1-9][0-9]{{0,9}}|#[1-9][0-9]{{0,9}}){END}"
TRAIN_PATTERN = rf"^release/train_[a-z0-9_]{{1,64}}/[^{_HIDDEN}]{{1,250}}{END}"
MAX_REF_LENGTH = 200
MIN_SUMMARY_LENGTH, MAX_SUMMARY_LENGTH = 5, 200
MAX_TICKETS = 50

NOT_SHOWN = frozenset({"train"})
"""What a request may say that is not on the form, for people do not say it."""
ARTIFACT = "artifact"
"""The field that only the form of a service has whose artifacts are built elsewhere."""
RISK_PREFIX = "risk_"
CALCULATED = "calculated"
"""The choice of the form for a release without a declared risk."""

SWITCH = "switched on or off (true or false)"
"""The allowed values of each risk question."""
Ticket = Annotated[str, StringConstraints(pattern=TICKET_PATTERN)]
_RELEASED: JsonDict = {"section": "What is released"}
_CHANGE: JsonDict = {"section": "Change"}
_RISK: JsonDict = {"section": "Risk"}
_WHEN: JsonDict = {"section": "When"}


def _each_once(tickets: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(tickets)) < len(tickets):
        raise ValueError("a ticket is named twice")
    return tickets


def _none_is_empty(value: object) -> object:
    return () if value is None else value


class ReleaseRequest(Model):
    """The request of a release. The descriptions say which values are allowed."""

    model_config = ConfigDict(regex_engine="python-re")

    ref: str = Field(
        min_length=1,
        max_length=MAX_REF_LENGTH,
        pattern=REF_PATTERN,
        title="What to release",
        description="The tag, branch or commit to release, such as 1.4.0. It must not start with a hyphen.",
        json_schema_extra=_RELEASED,
    )
    version: str = Field(
        min_length=5,
        max_length=MAX_VERSION_LENGTH,
        pattern=VERSION_PATTERN,
        description="A semantic version (semver.org) without a leading v, such as 1.4.0 or 2.0.0-rc.1.",
        json_schema_extra=_RELEASED,
    )
    artifact: Later[Annotated[str, StringConstraints(pattern=ARTIFACT_PATTERN)]] = Field(
        None,
        title="Artifact",
        description="The digest of the artifact that the service's pipeline built, sha256: and 64 hexadecimal digits.",
        json_schema_extra=_RELEASED,
    )
    change_type: ChangeType = Field(
        ChangeType.NORMAL,
        title="Change type",
        description="The change type: standard, normal or emergency. It determines the required approvals.",
        json_schema_extra=_CHANGE,
    )
    summary: Annotated[str, AfterValidator(str.strip)] = Field(
        min_length=MIN_SUMMARY_LENGTH,
        max_length=MAX_SUMMARY_LENGTH,
        pattern=SUMMARY_PATTERN,
        description=f"The purpose of the release, in one line of {MIN_SUMMARY_LENGTH} to {MAX_SUMMARY_LENGTH} "
        "characters.",
        json_schema_extra=_CHANGE,
    )
    tickets: Annotated[tuple[Ticket, ...], BeforeValidator(_none_is_empty), AfterValidator(_each_once)] = Field(
        (),
        max_length=MAX_TICKETS,
        title="Change tickets",
        description=f"Change tickets such as ABC-123 or #12, one per line; at most {MAX_TICKETS}, without duplicates.",
        json_schema_extra={**_CHANGE, "uniqueItems": True},
    )
    risk: dict[str, StrictBool] = Field({}, description="Key of a risk question: yes or no")
    declared_risk: RiskLevel | None = Field(
        None,
        title="Declared risk",
        description="Your assessment of the risk: calculated (no assessment), low, medium or high. The higher of "
        "this and the calculated risk counts.",
        json_schema_extra=_RISK,
    )
    not_before: Instant = Field(
        None,
        title="Not before",
        description="The earliest start of the deployment, with its time zone, such as 2026-05-04T22:00:00Z; at most "
        "one day ago and one year ahead. Empty: start as soon as the release is approved.",
        json_schema_extra=_WHEN,
    )
    rehearsal: StrictBool = Field(
        False,
        description="Yes (on, true): the release runs on the test environment only. No approvals are requested, and "
        "production does not change. No (off, false): the release goes to production.",
        json_schema_extra=_WHEN,
    )
    train: str | None = Field(
        None,
        pattern=TRAIN_PATTERN,
        description="Set by the conductor of a train for its passengers: the chain of the train in the ledger.",
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
    if request.not_before and not is_near(request.not_before, now or datetime.now(UTC)):
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
    fields: dict[str, dict[str, Any]] = {}
    for name, field in fields_of(ReleaseRequest).items():
        if name == "risk":
            fields |= {RISK_PREFIX + question.key: _question(question) for question in policy.risk.questions}
        elif name == ARTIFACT:
            if service is not None and isinstance(service.build, Prebuilt):
                fields[name] = _required(field)
        elif name not in NOT_SHOWN:
            fields[name] = field
    fields["change_type"] = _choice(fields["change_type"], ChangeType.NORMAL, _change_types(policy, book, service))
    fields["declared_risk"] = _choice(fields["declared_risk"], CALCULATED, _declared_risks(policy))
    return fields


def refuse_wrong_artifact(request: ReleaseRequest, service: Service, policy: Policy) -> None:
    """Refuse a request that does not say which artifact is released, or says so of a service that is built here.

    :raises RequestRefused: so it is.
    """
    prebuilt = isinstance(service.build, Prebuilt)
    if prebuilt == (request.artifact is not None):
        return
    raise RequestRefused(
        f"The request of {service.name} names no artifact, and its pipeline builds the artifact."
        if prebuilt
        else f"The request of {service.name} names an artifact, but {service.name} is built here.",
        rule=f"build.tool, in services/{service.name}.yaml: an artifact from elsewhere is taken by its digest, never "
        "by a tag or a version alone",
        who=f"{service.owner} for the service, {policy.owner} for the policy",
        next_step="trigger the release again with artifact: sha256: and the digest that the pipeline printed"
        if prebuilt
        else "leave artifact out, or have tool: prebuilt written into the service's file",
    )


def _required(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field of the form that has to be filled in, as plain text."""
    kept = {key: field[key] for key in ("section", "title", "description")}
    return kept | {"type": "string", "pattern": ARTIFACT_PATTERN}


def _choice(field: dict[str, Any], default: str, choices: Mapping[str, str]) -> dict[str, Any]:
    """Return a field with some of the model's choices, each with its words."""
    kept = {key: field[key] for key in ("section", "title", "description")}
    return kept | {"type": "string", "enum": [*choices], "values_display": choices, "default": default}


def _question(question: RiskQuestion) -> dict[str, Any]:
    return {
        **_RISK,
        "title": question.question,
        "description": f"On: yes, which adds {question.points} points to the risk of the release (0 to 100). Off: no.",
        "type": "boolean",
        "default": False,
    }


def _change_types(policy: Policy, book: BoardBook | None, service: Service | None) -> dict[str, str]:
    flows = flows_of(policy, service) if service else policy.change_types

    def said(kind: ChangeType) -> str:
        if book is None or service is None:
            return "a board votes" if flows[kind].board else "pre-authorised; no board votes"
        irreversible = bool(irreversible_of(service.runbook))
        rule = voting_rule(policy, book, service, change_type=kind, risk=0, irreversible=irreversible)
        return _who_decides(flows[kind], rule)

    return {kind.value: f"{kind.value}: {said(kind)}" for kind in ChangeType if kind in policy.change_types}


def _who_decides(flow: Flow, rule: VotingRule | None) -> str:
    """Describe whom a release without any risk asks."""
    acceptance = "a functional approver accepts it, " if flow.acceptance else ""
    if rule is None:
        return f"pre-authorised; {acceptance}no board votes"
    each = [f"{demand.approvals} of {len(demand.members)}" for demand in rule.demands]
    return f"{acceptance}the {rule.title} {'votes' if len(each) == 1 else 'vote'}; {', '.join(each)}"


def _declared_risks(policy: Policy) -> dict[str, str]:
    levels: tuple[RiskLevel, ...] = ("low", "medium", "high")
    shown: dict[str, str] = {level: f"{level}: {policy.risk.declared[level]} of 100" for level in levels}
    return {CALCULATED: "calculated from your answers, the change and the service", **shown}


def _by_field(conf: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """Return the input under the names of the request's fields."""
    plain = {key: conf[key] for key in ReleaseRequest.model_fields if key in conf and key != "risk"}
    answers = {question.key: conf.get(RISK_PREFIX + question.key, False) for question in policy.risk.questions}
    if "declared_risk" in plain:  # An empty value is a mistake: the form has a choice for no declared risk.
        declared = plain["declared_risk"]
        plain["declared_risk"] = None if declared == CALCULATED else "" if declared is None else declared
    return plain | {"risk": answers}


def _form_key(place: tuple[int | str, ...]) -> str:
    return f"{RISK_PREFIX}{place[1]}" if place[0] == "risk" and len(place) > 1 else str(place[0])


def _unknown_keys(conf: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    known = form_fields(policy)
    for key in conf:
        if key not in known and key not in NOT_SHOWN | {ARTIFACT}:
            yield f"{_short(key)}: not a field of the form; allowed: {', '.join(known)}"


def _missing_keys(conf: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    for key, field in form_fields(policy).items():
        if key not in conf and "default" not in field:
            yield f"{key}: missing; allowed: {field['description']}"


def _problem(key: str, found: object, policy: Policy) -> str:
    rule = ReleaseRequest.model_fields[key].description if key in ReleaseRequest.model_fields else SWITCH
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
