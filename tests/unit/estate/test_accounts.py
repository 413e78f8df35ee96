from __future__ import annotations

import stat
from pathlib import Path

import pytest

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.console.auth.roles import ROLES
from interlock.domain.catalogue import BoardRule, Catalogue, Delegation, RuleQuorum, Tightening
from interlock.domain.errors import ReleaseError
from interlock.domain.trains.manifest import CONDUCTOR
from interlock.estate.airflow.accounts import accounts, keep_passwords, logins_file, passwords
from interlock.estate.settings import Settings
from interlock.installation.accounts import CLERK, READER
from interlock.locations import PROJECT


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(PROJECT / "include/catalogue")


def test_everybody_whom_the_catalogue_asks_can_log_in(catalogue: Catalogue) -> None:
    roles = {account.user: set(account.roles) for account in accounts(catalogue)}
    assert roles["rita"] == {"release_manager"}
    assert roles["ben"] == roles["cora"] == roles["dan"] == {"board_member"}
    assert roles["maya"] == {"senior_management"}
    assert roles["fay"] == {"functional_approver"}
    assert roles["sam"] == {"support"}
    assert roles["audrey"] == {"auditor"}


def test_roles_of_accounts_are_roles_that_there_are(catalogue: Catalogue) -> None:
    assert {role for account in accounts(catalogue) for role in account.roles} <= {*ROLES, "Admin"}


def test_nobody_has_an_account_that_breaks_the_glass(catalogue: Catalogue) -> None:
    assert not any("break_glass" in account.roles for account in accounts(catalogue))


def test_people_have_the_name_and_address_of_the_catalogue(catalogue: Catalogue) -> None:
    found = {account.user: account for account in accounts(catalogue)}
    for person in catalogue.board.people:
        if person.user in found:
            assert (found[person.user].name, found[person.user].email) == (person.name, person.email)
    assert len({account.email for account in found.values()}) == len(found)


def test_somebody_with_two_positions_has_both_roles(catalogue: Catalogue) -> None:
    board = catalogue.board.model_copy(update={"senior_management": ("maya", "ben")})
    found = {account.user: account for account in accounts(catalogue.model_copy(update={"board": board}))}
    assert found["ben"].roles == ("board_member", "senior_management")


def test_whoever_votes_by_a_rule_or_for_a_member_is_a_board_member(catalogue: Catalogue) -> None:
    away = Delegation.model_validate({"for": "cora", "to": "audrey", "from": "2026-12-01", "until": "2026-12-14"})
    rule = BoardRule(name="shop", members=("fay",), quorum=RuleQuorum())
    own = catalogue.services["bike-shop"].model_copy(update={"policy": Tightening(board_rules=(rule,))})
    board = catalogue.board.model_copy(update={"delegates": (away,)})
    changed = catalogue.model_copy(update={"board": board, "services": {"bike-shop": own}})
    found = {account.user: account for account in accounts(changed)}
    assert found["audrey"].roles == ("board_member", "auditor")
    assert found["fay"].roles == ("board_member", "functional_approver")
    assert "(veto)" in found["cora"].title


def test_service_accounts_are_nobody(catalogue: Catalogue) -> None:
    assert {account.user for account in accounts(catalogue) if account.is_service} == {READER, CLERK, CONDUCTOR}


def test_the_pipelines_of_the_policy_have_accounts(catalogue: Catalogue) -> None:
    policy = catalogue.policy.model_copy(update={"pipelines": {"jenkins-shop": ("bike-shop",)}})
    found = {one.user: one for one in accounts(catalogue.model_copy(update={"policy": policy}))}
    assert found["jenkins-shop"].roles == ("pipeline",)
    assert found["jenkins-shop"].is_service, "nobody logs in with it"


def test_passwords_stay_when_somebody_joins(catalogue: Catalogue, tmp_path: Path) -> None:
    settings, everybody = Settings(state=tmp_path), accounts(catalogue)
    first = keep_passwords(settings, everybody[:3])
    second = keep_passwords(settings, everybody)
    assert first.items() <= second.items()
    assert passwords(settings) == second
    assert len(set(second.values())) == len(everybody)


def test_passwords_are_readable_by_their_owner_only(catalogue: Catalogue, tmp_path: Path) -> None:
    keep_passwords(Settings(state=tmp_path), accounts(catalogue))
    assert stat.S_IMODE(logins_file(Settings(state=tmp_path)).stat().st_mode) == 0o600


def test_asking_for_passwords_before_there_are_any_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="make up"):
        passwords(Settings(state=tmp_path))
