"""The environments between test and production in a pack: what a release had to pass, and what proves that it did."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Flow, SignOff
from interlock.domain.records import (
    DefectLine,
    EnvironmentPassed,
    EnvironmentTested,
    PathStep,
    QualityReport,
    SoakReport,
    Waiver,
)
from interlock.verify import __main__ as verifier
from tests.factories import evidence as make
from tests.factories import releases

KEY = verifier.read_pem(make.signer().public_key, "key")
SIGN_OFF = SignOff(title="User acceptance testers", people=("ben", "cora"), quorum=2)
STEPS = (
    PathStep(environment="uat", after=("test",), sign_off=SIGN_OFF),
    PathStep(environment="staging", after=("uat",), soak=timedelta(hours=2)),
)
RULE: dict[str, Any] = {
    **make.BOARD,
    "demands": [{**make.BOARD["demands"][0], "members": ["ben", "cora"], "approvals": 2, "veto": []}],
    "seats": make.BOARD["seats"][:2],
}
WAIVER = Waiver(
    expectation=releases.failure().expected,
    suite=releases.failure().suite,
    reason="Known",
    by="cora",
    at=make.AT,
    until=make.AT + timedelta(days=1),
    environment="staging",
)


class Trodden:
    """What a release left on its path, each part of which a test may change before it is put together."""

    def __init__(self, **flow: Any) -> None:
        self.flow = Flow(board="cab", **flow)
        self.bump = "minor"
        self.uat = releases.quality().model_copy(update={"environment": "uat"})
        self.staging = releases.quality().model_copy(update={"environment": "staging"})
        self.waivers: tuple[Waiver, ...] = ()
        self.soak = timedelta(hours=2)
        self.votes = [make.vote("ben", minutes=3), make.vote("cora", minutes=4)]
        self.left_out: set[str] = set()
        self.without: set[str] = set()
        self.bundle = releases.rollout().bundle.sha256
        self.plan: dict[str, Any] = {}
        self.shown: tuple[DefectLine, ...] = ()
        self.steps: tuple[PathStep, ...] = STEPS
        self.people: dict[str, dict[str, str]] = {}

    def tested(self, name: str, report: QualityReport) -> EnvironmentTested:
        soaked = SoakReport(
            environment=name, release="r", since=make.AT, until=make.AT + self.soak, hosts=("127.20.0.51",)
        )
        return EnvironmentTested(
            environment=name,
            service="bike-shop",
            version="1.1.0",
            release=releases.rollout().release,
            bundle=self.bundle,
            quality=sha256_of(report),
            waivers=self.waivers if name == "staging" else (),
            soak=soaked if name == "staging" else None,
            requested_by="rita",
            excluded=(),
            decide_by=make.AT + timedelta(days=1) if name == "uat" else None,
        )

    def passed(self, name: str) -> EnvironmentPassed:
        if name in self.left_out:
            return EnvironmentPassed(environment=name, left_out="policy.yaml says so")
        tested = self.tested(name, getattr(self, name))
        return EnvironmentPassed(
            environment=name,
            tested=tested.digest,
            quality=tested.quality,
            waivers=tested.waivers,
            defects=self.shown,
        )

    def entries(self) -> list[make.Step]:
        found: list[make.Step] = []
        for name in ("uat", "staging"):
            report: QualityReport = getattr(self, name)
            tested = self.tested(name, report)
            if name not in self.left_out:
                found.append(("path.judged", report.model_dump(mode="json")))
                found += [("path.waived", one.model_dump(mode="json")) for one in tested.waivers]
                found.append(("path.tested", tested.model_dump(mode="json")))
            if name == "uat" and name not in self.left_out:
                decided = releases.decision("sign_off", digest=tested.digest, votes=()).model_dump(mode="json")
                found.append(("sign_off.decided", {**decided, "votes": self.votes, "board": RULE, "environment": name}))
            found.append(("path.passed", self.passed(name).model_dump(mode="json")))
        return [one for one in found if f"{one[0]} {one[1]['environment']}" not in self.without]

    def verified(self, folder: Path) -> tuple[bool, str]:
        """Return whether a pack of it is proven, and what the verifier says."""

        def change(many: list[make.Step]) -> list[make.Step]:
            for kind, payload in many:
                if kind == "policy.resolved":
                    payload["path"] = [one.model_dump(mode="json") for one in self.steps]
                    payload["rules"] = {"board.yaml": {"people": self.people}}
                    payload["flow"] = self.flow.model_dump(mode="json")
                if kind == "plan.made":
                    payload["bump"] = self.bump
            at = [kind for kind, _ in many].index("acceptance.decided")
            return [*many[:at], *self.entries(), *many[at:]]

        environments = {"environments": (self.passed("uat"), self.passed("staging")), **self.plan}
        what = make.evidence(change, **environments)
        signed = make.answers(self.votes, self.tested("uat", self.uat).digest)
        what = make.sealed_anew(what, ballots=[*what.ballots, *signed])
        said: list[str] = []
        return verifier.verify(make.packed(folder / "pack.zip", what), [KEY], said.append), "\n".join(said)


def test_a_release_that_passed_its_environments_is_proven(tmp_path: Path) -> None:
    proven, said = Trodden().verified(tmp_path)
    assert proven, said
    assert "passed uat, staging" in said


@pytest.mark.parametrize("people", [{}, {"cora": "sales"}, {"cora": "security", "dan": "security"}])
def test_the_people_of_a_role_sign_off_as_the_rules_on_record_have_them(people: dict[str, str], tmp_path: Path) -> None:
    path = Trodden()
    asked = SignOff(title="User acceptance testers", people=("ben",), roles=("security",), quorum=2)
    path.steps = (STEPS[0].model_copy(update={"sign_off": asked}), STEPS[1])
    path.people = {"cora": {"role": "security"}, "rita": {"role": "release-management"}}
    proven, said = path.verified(tmp_path)
    assert proven, said
    path.people = {user: {"role": role} for user, role in people.items()}
    proven, said = path.verified(tmp_path)
    assert not proven
    assert "sign_off.decided of uat: expected members" in said


def with_defects(path: Trodden) -> None:
    """Have reports with a defect, which the plan shows."""
    line = DefectLine(
        id="basket-1", title="Basket", severity="major", environment="uat", version="1.0.0", state="fixed"
    )
    path.shown = (line,)
    path.uat, path.staging = (one.model_copy(update={"defects": (line,)}) for one in (path.uat, path.staging))


def test_the_plan_shows_the_defects_of_each_environment(tmp_path: Path) -> None:
    path = Trodden()
    with_defects(path)
    proven, said = path.verified(tmp_path)
    assert proven, said


def hide_defects(path: Trodden) -> None:
    with_defects(path)
    path.shown = ()


def change_bytes(path: Trodden) -> None:
    path.bundle = "9" * 64


def fail_uat(path: Trodden) -> None:
    path.uat = path.uat.model_copy(update={"success": False, "failures": (releases.failure(),)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.plan.update(environments=None), "expected the environments ['uat', 'staging'], found none"),
        (lambda path: path.plan.update(environments=(path.passed("uat"),)), "expected the environments"),
        (lambda path: path.left_out.add("staging"), "expected the environment staging, found it left out"),
        (lambda path: path.without.add("path.passed uat"), "plan.json, environments: expected environment uat"),
        (lambda path: path.without.add("path.tested uat"), "path.tested of uat: is not what plan.json names"),
        (lambda path: path.without.add("path.judged staging"), "path.judged of staging: is not what plan.json names"),
        (lambda path: path.without.add("sign_off.decided uat"), "sign_off.decided of uat: expected a decision"),
        (change_bytes, "path.tested of uat: expected bundle"),
        (fail_uat, "it failed in uat"),
        (hide_defects, "path.judged of uat: has other defects than plan.json"),
        (lambda path: setattr(path, "soak", timedelta(hours=1)), "expected a soak of PT2H, found 1:00:00"),
        (lambda path: path.votes.pop(), "sign_off.decided of uat: records an approval; counted again"),
        (lambda path: path.votes.append(make.vote("cora", "Reject", minutes=4)), "counted again"),
        (lambda path: path.votes.__setitem__(1, make.vote("dan")), "counted again"),
        (lambda path: path.votes.__setitem__(1, make.vote("cora", minutes=2000)), "counted again"),
    ],
)
def test_what_was_not_proven_on_the_path_is_found(change: Any, said: str, tmp_path: Path) -> None:
    path = Trodden()
    change(path)
    proven, text = path.verified(tmp_path)
    assert not proven
    assert said in text


def test_what_failed_needs_a_waiver_that_the_board_saw(tmp_path: Path) -> None:
    path = Trodden()
    path.staging = path.staging.model_copy(update={"success": False, "failures": (releases.failure(),)})
    path.waivers = (WAIVER,)
    proven, said = path.verified(tmp_path)
    assert proven, said
    path.without.add("path.waived staging")
    proven, said = path.verified(tmp_path)
    assert not proven
    assert "it failed in staging" in said


def test_the_policy_may_shorten_the_path(tmp_path: Path) -> None:
    path = Trodden(environments=("uat",))
    path.left_out.add("staging")
    proven, said = path.verified(tmp_path)
    assert proven, said
    assert "passed uat, staging (left out)" in said


def test_a_list_of_other_environments_shortens_nothing(tmp_path: Path) -> None:
    path = Trodden(environments=("elsewhere",))
    path.left_out.add("staging")
    proven, said = path.verified(tmp_path)
    assert not proven
    assert "expected the environment staging, found it left out" in said


def test_the_policy_may_skip_the_soak_of_a_step(tmp_path: Path) -> None:
    path = Trodden(without_soak=("patch",))
    path.soak = timedelta(0)
    assert not path.verified(tmp_path)[0]
    path.bump = "patch"
    proven, said = path.verified(tmp_path)
    assert proven, said


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT2H", 7200), ("P1DT30M", 88200), ("PT0.5S", 0.5), ("P2D", 172800), ("PT1H2M3S", 3723)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert verifier.length(text) == timedelta(seconds=seconds)
    with pytest.raises(verifier.Refused):
        verifier.length("2 hours")
