"""What trigger forms offer to choose from, on the way from Airflow to its form."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml

from interlock.console.pages.choices import MOST, FormChoices, Tags
from interlock.console.pages.in_force import look
from interlock.domain.calendars.overrides import Override
from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.catalogue import Service
from interlock.domain.errors import TransientError
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import (
    DEFECT_OPENED,
    EMERGENCY_STOP_DECLARED,
    EMERGENCY_STOP_LIFTED,
    FREEZE_OVERRIDDEN,
    RELEASE_ENDED,
    RELEASE_REVIEWED,
    VERSION_MARKED_BAD,
)
from interlock.domain.testing.defects import new_defects
from interlock.locations import CATALOGUE
from tests.factories import journeys
from tests.memory_ledger import MemoryLedger
from tests.unit.domain.test_test_matrix import result

UNDER_WAY = frozenset(
    {
        "release_bike_shop/1.3.0__b",
        "rollback_bike_shop/1.1.0__a",
        "release_till/twice",
        "release_bike_shop/twice",
        "train_weekly/manual__1",
        "nightly/manual__2",
    }
)


FIELDS = ("lift", "run", "version", "ref", "departure", "defect")


class Airflow:
    """What is behind: it answers with the details of a Dag, and keeps the headers that came."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = dict(scope["headers"])
        fields = {name: {"description": "Say it.", "schema": {"type": "string"}} for name in FIELDS}
        body = json.dumps({"params": fields, "detail": "ö"}).encode()
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body[:9], "more_body": True})
        await send({"type": "http.response.body", "body": body[9:]})


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger with releases that have ended, of which one was reviewed and one version is marked bad."""
    kept = MemoryLedger()
    for run, version, outcome in (
        ("a", "1.0.0", "deployed"),
        ("b", "1.1.0", "deployed"),
        ("c", "1.2.0", "deployed"),
        ("d", "1.2.0", "deployed"),
        ("e", "1.3.0", "backed_out"),
        ("f", "", "failed"),
    ):
        told = {"run": f"release_bike_shop/{run}", "service": "bike-shop", "version": version, "outcome": outcome}
        kept.append(INSTALLATION, RELEASE_ENDED, told, actor="closure", key=run)
    kept.append(INSTALLATION, RELEASE_REVIEWED, {"run": "release_bike_shop/c"}, actor="rita", key="reviewed")
    mark = {"service": "bike-shop", "environment": "production", "version": "1.0.0", "reason": "Old", "by": "rita"}
    kept.append(INSTALLATION, VERSION_MARKED_BAD, mark, actor="rita", key="mark")
    return kept


def stop(ledger: MemoryLedger, id: str, scope: str, hours: int = 1) -> None:
    """Declare an emergency stop."""
    until = datetime.now(UTC) + timedelta(hours=hours)
    said = EmergencyStop(id=id, scope=scope, reason="Payments fail", by="olga", until=until).model_dump(mode="json")
    ledger.append(INSTALLATION, EMERGENCY_STOP_DECLARED, said, actor="olga", key=id)


def no_tags(service: Service) -> tuple[str, ...]:
    """Return what a repository without tags has."""
    return ()


def ask(
    ledger: Any, path: str, airflow: Airflow | None = None, catalogue: Path = CATALOGUE, tags: Tags = no_tags
) -> httpx.Response:
    """Read a page of Airflow's API."""

    async def get() -> httpx.Response:
        app = FormChoices(airflow or Airflow(), lambda: ledger, lambda: UNDER_WAY, catalogue, tags)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
            return await client.get(f"http://airflow{path}")

    return anyio.run(get)


def choices(ledger: Any, dag_id: str, tags: Tags = no_tags) -> dict[str, list[str]]:
    """Return the fields of a form that have choices."""
    params = ask(ledger, f"/api/v2/dags/{dag_id}/details", tags=tags).json()["params"]
    return {name: one["schema"]["examples"] for name, one in params.items() if "examples" in one["schema"]}


def test_a_stop_is_lifted_by_its_scope_or_by_its_id_if_there_are_several(ledger: MemoryLedger) -> None:
    assert choices(ledger, "emergency_stop") == {}
    stop(ledger, "a1", "retail")
    stop(ledger, "b2", "everything")
    stop(ledger, "c3", "everything")
    stop(ledger, "d4", "till", hours=-1)
    stop(ledger, "e5", "bike-shop")
    ledger.append(INSTALLATION, EMERGENCY_STOP_LIFTED, {"id": "e5"}, actor="olga", key="lifted")
    assert choices(ledger, "emergency_stop") == {"lift": ["retail", "b2", "c3"]}


def test_open_defects_of_all_services_can_be_accepted(ledger: MemoryLedger) -> None:
    for service, case in (("bike-shop", "basket"), ("till", "receipt")):
        (defect,) = new_defects(
            [], [result(case, "failed")], service=service, owner="the team", version="1.0.0", release="r1"
        )
        ledger.append(f"defects/{service}", DEFECT_OPENED, defect.to_xcom(), actor="a task", key="opened")
    assert choices(ledger, "accept_defect") == {"defect": ["basket-1", "receipt-1"]}


@pytest.mark.parametrize(
    ("dag_id", "offered"),
    [
        ("withdraw_release", {"run": ["1.3.0__b", "release_bike_shop/twice", "release_till/twice", "1.1.0__a"]}),
        ("review_release", {"run": ["f", "e", "d", "b", "a"]}),
        ("mark_version", {"version": ["1.3.0", "1.2.0", "1.1.0", "1.0.0"]}),
        ("rollback_bike_shop", {"version": ["1.1.0"]}),
        ("rollback_till", {}),
        ("release_bike_shop", {}),
        ("override_freeze", {}),
    ],
)
def test_forms_offer_what_there_is_to_choose_from(
    ledger: MemoryLedger, dag_id: str, offered: dict[str, list[str]]
) -> None:
    assert choices(ledger, dag_id) == offered


def test_a_release_is_offered_the_tags_of_the_repository_of_its_service(ledger: MemoryLedger) -> None:
    def tags(service: Service) -> tuple[str, ...]:
        return tuple(f"{service.name}-{number}" for number in range(MOST + 1))

    offered = choices(ledger, "release_bike_shop", tags)
    assert (list(offered), offered["ref"][0], len(offered["ref"])) == (["ref"], "bike-shop-0", MOST)
    assert choices(ledger, "rollback_bike_shop", tags) == {"version": ["1.1.0"]}
    assert choices(ledger, "release_car_shop", tags) == {}, "there is no such service"


def test_a_repository_that_does_not_answer_takes_nothing_else_from_the_form(ledger: MemoryLedger) -> None:
    def tags(service: Service) -> tuple[str, ...]:
        raise TransientError("The repository does not answer.")

    stop(ledger, "a1", "retail")
    (asked,) = (ask(ledger, "/api/v2/dags/release_bike_shop/details", tags=tags).json()["params"]["ref"],)
    assert asked["description"].startswith("Emergency stop in force: retail")
    assert "examples" not in asked["schema"]


@pytest.mark.parametrize(
    ("dag_id", "field"),
    [("release_bike_shop", "ref"), ("rollback_bike_shop", "version"), ("train_weekly", "departure")],
)
def test_a_form_says_which_stops_and_freezes_are_in_force(
    ledger: MemoryLedger, frozen: Path, dag_id: str, field: str
) -> None:
    def said() -> str:
        details = ask(ledger, f"/api/v2/dags/{dag_id}/details", catalogue=frozen).json()
        return str(details["params"][field]["description"])

    assert said().startswith("Freeze in force: Christmas trade (trade in calendars/office.yaml), until 20")
    assert said().endswith(" Say it.")
    stop(ledger, "a1", "retail")
    assert said().startswith("Emergency stop in force: retail, by olga: Payments fail; until ")
    given = Override(
        place="trade in calendars/office.yaml",
        **{"service": "bike-shop", "environment": "production", "by": "ben", "role": "operations"},
        reason="It cannot wait",
        until=datetime.now(UTC) + timedelta(hours=1),
    )
    ledger.append(INSTALLATION, FREEZE_OVERRIDDEN, given.model_dump(mode="json"), actor="ben", key="override")
    assert "Freeze in force" not in said(), "it does not hold this service back"


def test_a_freeze_of_an_environment_on_the_way_to_production_holds_releases_back(
    ledger: MemoryLedger, frozen: Path
) -> None:
    services, office = frozen / "services", frozen / "calendars" / "office.yaml"
    shop = yaml.safe_load((services / "bike-shop.yaml").read_text(encoding="utf-8"))
    (services / "repair-shop.yaml").write_text(yaml.safe_dump(journeys.service_file(shop)), encoding="utf-8")

    whole = office.read_text(encoding="utf-8")

    def closed(*environments: str) -> list[str]:
        scope = f"\n    scope: {{ environments: [{', '.join(environments)}] }}\n    override_by"
        office.write_text(whole.replace("\n    override_by", scope), encoding="utf-8")
        return [
            each
            for dag in ("release_repair_shop", "rollback_repair_shop")
            for each in look(frozen, ledger, dag).freezes
        ]

    (held,) = closed("staging")
    assert "(trade in calendars/office.yaml) in staging, until 20" in held, "a rollback does not go there"
    (held,) = closed("integration", "staging")
    assert " in integration and staging, until" in held
    assert len(closed("staging", "production")) == 2
    assert not any(" in staging" in said for said in closed("staging", "production")), (
        "production is what people ask of"
    )


def test_pages_of_no_service_name_the_freezes_of_all(ledger: MemoryLedger, frozen: Path) -> None:
    (found,) = look(frozen, ledger).freezes
    assert re.fullmatch(r"Christmas trade \(trade in calendars/office\.yaml\), until 20\d\d-.+ UTC\.", found)
    assert look(CATALOGUE, ledger).freezes == ()


def test_an_answer_with_choices_is_whole(ledger: MemoryLedger) -> None:
    airflow = Airflow()
    answer = ask(ledger, "/api/v2/dags/mark_version/details", airflow)
    assert answer.json()["detail"] == "ö"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert (answer.headers["x-own"], answer.headers["content-type"]) == ("1", "application/json")
    assert b"accept-encoding" not in airflow.headers, "a compressed answer could not be added to"


def test_a_long_list_is_cut(ledger: MemoryLedger) -> None:
    for number in range(MOST):
        told = {"run": f"release_till/{number}", "service": "till", "version": "1.0.0", "outcome": "deployed"}
        ledger.append(INSTALLATION, RELEASE_ENDED, told, actor="closure", key=f"till {number}")
    offered = choices(ledger, "review_release")["run"]
    assert (len(offered), offered[0]) == (MOST, "49")


def test_without_a_ledger_the_form_is_as_it_was() -> None:
    class Broken(MemoryLedger):
        def entries(self, chain: str, **_: Any) -> Any:
            raise TransientError("The ledger does not answer.")

    assert choices(Broken(), "mark_version") == {}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v2/dags/mark_version/details", 403), ("/api/v2/dags/mark_version", 200), ("/api/v2/dags", 200)],
)
def test_nothing_else_is_touched(ledger: MemoryLedger, path: str, status: int) -> None:
    answer = ask(ledger, path, Airflow(status))
    assert answer.status_code == status
    assert "examples" not in answer.text
