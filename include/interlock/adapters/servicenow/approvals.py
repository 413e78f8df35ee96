"""What ServiceNow has of the approvals of a change, read from its approval records."""

from __future__ import annotations

from datetime import UTC, datetime

from interlock.adapters.outbox.web import WebApi
from interlock.domain.errors import DeliveryRefused
from interlock.domain.outbox.authority import Approver, RecordRead

from .changes import plan_in
from .instance import CHANGES, TABLES, Approval, ChangeRow

APPROVALS = f"{TABLES}/sysapproval_approver"
_FIELDS = "sys_id,state,approver.user_name,sys_updated_by,sys_updated_on"
MAX_ANSWERS = 500


def read_approvals(api: WebApi, system: str, reference: str, cancelled: str) -> RecordRead:
    """Read a change and who approved it.

    :param system: its name in systems.yaml.
    :param reference: sys_id of the change.
    :param cancelled: the state of cancelled changes.
    :raises DeliveryRefused: the account may not read it, or the answer is not whole.
    """
    path = f"{CHANGES}/{reference}"
    found = api.read(path)
    result = found.get("result") if isinstance(found, dict) else None
    change = api.parsed(ChangeRow, result[0] if isinstance(result, list) and result else result, f"GET {path}")
    asked = {
        "sysparm_query": f"sysapproval={reference}",
        "sysparm_fields": _FIELDS,
        "sysparm_display_value": "false",
        "sysparm_limit": str(MAX_ANSWERS),
    }
    rows = (api.read(APPROVALS, asked) or {}).get("result") or []
    if len(rows) >= MAX_ANSWERS:
        raise DeliveryRefused(f"{change.number} has {MAX_ANSWERS} approvals or more, which are not read as a whole.")
    answers = [api.parsed(Approval, row, f"GET {APPROVALS}") for row in rows]
    return RecordRead(
        system=system,
        number=change.number,
        plan=plan_in(change.correlation_display),
        approved=change.approval == "approved",
        rejected=change.approval == "rejected"
        or change.state == cancelled
        or any(one.state == "rejected" for one in answers),
        answers=tuple(
            Approver(user=one.approver, state=one.state, set_by=one.updated_by, at=_instant(one.updated_on))
            for one in answers
        ),
    )


def _instant(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise DeliveryRefused(f"ServiceNow has an approval of {text[:40]!r}, which is no time.") from None
