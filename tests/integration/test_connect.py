"""``interlock connect``: what it finds out, tries and writes, against stateful servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.adapters.catalogue.systems import load_systems
from interlock.cli import connect
from interlock.domain.errors import CatalogueError, DeliveryRefused
from interlock.domain.outbox.systems_file import Jira
from tests import service_now as server
from tests.integration.test_jira_issues import connection as jira_connection
from tests.integration.test_service_now import DESCRIBED, connection
from tests.service_now import Instance, serving
from tests.ticket_servers import jira


def connected(instance: Instance, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> bool:
    with serving(instance) as url:
        monkeypatch.setattr(connect, "stored_connection", lambda name: connection(url, **changes))
        return connect.connect_servicenow("snow", "service_now", folder, yes=True)


def test_the_mapping_is_what_the_instance_has_and_a_test_change_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = Instance()
    assert connected(instance, tmp_path, monkeypatch)
    found = load_systems(tmp_path).systems["snow"]
    assert found.states == DESCRIBED.states
    assert found.task_states == DESCRIBED.task_states
    assert [one["state"] for one in instance.changes.values()] == [server.CANCELED]


def test_a_right_that_only_boards_miss_is_named_with_what_to_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert connected(Instance(unreadable=("conflict",)), tmp_path, monkeypatch)
    said = " ".join(capsys.readouterr().out.split())
    assert "The account may not read conflicts of changes" in said
    assert "the right to read the table conflict" in said
    with pytest.raises(DeliveryRefused, match="sysapproval_approver"):
        connected(Instance(unreadable=("sysapproval_approver",)), tmp_path / "other", monkeypatch)


def test_what_people_wrote_stays_and_nothing_is_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(Instance(), tmp_path, monkeypatch)
    file = tmp_path / "systems.yaml"
    file.write_text(file.read_text().replace("  snow:", "  # ours\n  other:"))
    connected(Instance(), tmp_path, monkeypatch)
    assert "# ours" in file.read_text()
    assert sorted(load_systems(tmp_path).systems) == ["other", "snow"]
    with pytest.raises(CatalogueError, match="has the system snow already"):
        connected(Instance(), tmp_path, monkeypatch)


def test_nothing_is_written_with_a_wrong_password_or_a_mandatory_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeliveryRefused, match="401"):
        connected(Instance(), tmp_path, monkeypatch, password="wrong")
    with pytest.raises(DeliveryRefused, match="u_cost_centre is mandatory"):
        connected(Instance(mandatory=("u_cost_centre",)), tmp_path, monkeypatch)
    assert not [*tmp_path.iterdir()]


def test_a_jira_is_mapped_as_its_project_is_and_a_test_issue_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with jira() as served:
        monkeypatch.setattr(connect, "stored_connection", lambda name: jira_connection(served.url))
        before = set(served.store.issues)
        assert connect.connect_jira("jira", "shop_jira", tmp_path, project="SHOP", yes=True)
        (made,) = set(served.store.issues) - before
        assert served.store.issues[made]["statusName"] == "Done"
        with pytest.raises(DeliveryRefused, match="Unknown project: NONE"):
            connect.connect_jira("other", "shop_jira", tmp_path, project="NONE", yes=True)
    found = load_systems(tmp_path).systems["jira"]
    assert isinstance(found, Jira)
    assert (found.project, {*found.issue_types.values()}, found.cloud) == ("SHOP", {"Task"}, False)
    assert found.states.in_order == ("Open", "In Progress", "In Review", "Done")
    assert "It is a Jira Data Center 8.20.8." in capsys.readouterr().out
