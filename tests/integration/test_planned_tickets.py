"""Planning: a repository whose commits name tickets, a Jira that keeps them, and a policy that demands something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from interlock.adapters.source.git import open_repository
from interlock.domain.catalogue import ChangeType, ServiceCatalogue
from interlock.domain.change.policy import resolve_policy
from interlock.domain.change.request import ReleaseRequest
from interlock.domain.errors import PolicyViolation
from interlock.domain.records import PolicyInForce, ReleasePlan
from interlock.stages.release import planning
from interlock.stages.runtime import resources
from tests.git_project import GitProject, git_project
from tests.ticket_servers import TOKEN, jira
from tests.unit.domain import samples

KEPT = {
    "systems": {"jira": {"kind": "jira", "connection": "shop_jira"}},
    "projects": [{"key": "SHOP", "system": "jira"}],
}


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    return git_project(tmp_path / "shop")


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, project: GitProject, tmp_path: Path) -> Callable[..., ReleasePlan]:
    """Return a function that plans a release of the project's newest commit."""

    def planned(
        *, demands: dict[str, Any], kept: dict[str, Any] | None = KEPT, url: str = "", **asked: Any
    ) -> ReleasePlan:
        flows = {**samples.FLOWS, "normal": {"board": "cab", **demands}}
        policy = samples.policy(change_types=flows, **({"tickets": kept} if kept else {}))
        book = samples.book({name: {"title": name, "members": ["ben"], "quorum": {"approvals": 1}} for name in FLOWS})
        catalogue = ServiceCatalogue(policy, book, samples.service())
        in_force: PolicyInForce = resolve_policy(policy, catalogue.service, ChangeType.NORMAL)
        request = ReleaseRequest(ref="main", version="1.4.0", summary="Sells bikes", **asked)
        connection = Connection(conn_id="shop_jira", conn_type="http", host=url, password=TOKEN)
        for place, name, value in (
            (resources, "catalogue_of", lambda service: catalogue),
            (resources, "repository", lambda service: _Opened(project, tmp_path)),
            (resources, "connection_or_none", lambda name: connection if name == "shop_jira" else None),
            (planning, "requested", lambda catalogue: request),
            (planning, "requester", lambda: "rita"),
            (planning, "past_releases", lambda service: []),
            (planning, "refuse_marked", lambda *_: None),
            (planning, "what_runs", lambda *_: ()),
            (planning.fleets, "serving", lambda environment: ()),
            (planning.conflicts, "note_of_release", lambda *_, **__: []),
        ):
            monkeypatch.setattr(place, name, value)
        found: ReleasePlan = planning.plan_release.function.__wrapped__("bike-shop", in_force)
        return found

    return planned


FLOWS = ("cab", "ecab")


class _Opened:
    def __init__(self, project: GitProject, folder: Path) -> None:
        self._opened = open_repository(f"file://{project.folder}", folder / "repository.git")

    def __enter__(self) -> Any:
        return self._opened

    def __exit__(self, *_: object) -> None:
        """Leave it."""


def test_tickets_of_request_and_commits_are_in_the_plan(plan: Callable[..., ReleasePlan], project: GitProject) -> None:
    with jira() as server:
        asked, worked_on = server.issue("Sell bikes"), server.issue("Price them")
        sha = project.commit({"bikes": "1"}, f"Price bikes\n\nPart of {worked_on}; read as UTF-8")
        made = plan(demands={"tickets": ["exist", "named"]}, url=server.url, tickets=(asked,))
    assert made.tickets == (asked, worked_on)
    details = made.ticket_details or ()
    assert [(one.title, one.named_by) for one in details] == [
        ("Sell bikes", ("request",)),
        ("Price them", (sha[:12],)),
    ]
    assert ReleasePlan.from_xcom(made.to_xcom()) == made


def test_a_release_whose_tickets_are_not_as_demanded_is_not_planned(
    plan: Callable[..., ReleasePlan], project: GitProject
) -> None:
    project.commit({"bikes": "1"}, "SHOP-9999: sell bikes")
    with jira() as server, pytest.raises(PolicyViolation, match="SHOP-9999 is not there"):
        plan(demands={"tickets": ["exist"]}, url=server.url)


def test_a_demand_without_a_system_is_refused_and_not_dropped(
    plan: Callable[..., ReleasePlan], project: GitProject
) -> None:
    project.commit({"bikes": "1"})
    with pytest.raises(PolicyViolation, match=r"SHOP-1 is not there: tickets\.projects in policy\.yaml"):
        plan(demands={"tickets": ["exist"]}, kept=None, tickets=("SHOP-1",))


def test_without_systems_and_demands_a_plan_is_as_it_was(plan: Callable[..., ReleasePlan], project: GitProject) -> None:
    project.commit({"bikes": "1"}, "SHOP-1: sell bikes")
    made = plan(demands={}, kept=None, tickets=("WEB-1",))
    assert made.tickets == ("WEB-1",)
    assert "ticket_details" not in made.to_xcom()
