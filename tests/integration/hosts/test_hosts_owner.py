"""A folder on a host, and a file that a release placed, is one service's: any other is refused before it is changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.local_host import LocalHost, LocalRelease, make_local_release


@pytest.mark.parametrize("is_from_before", [False, True], ids=["written down", "from before it was written down"])
def test_another_service_does_not_get_the_folder(tmp_path: Path, is_from_before: bool) -> None:
    host = LocalHost(tmp_path)
    old = make_local_release(tmp_path, "1.0.0", {}, "")
    assert host.deploy(old).outcome == "deployed"
    if is_from_before:
        (host.root / ".interlock/owner").unlink()
        meta = host.root / "releases" / old.contents.release / ".interlock.json"
        assert '"service":"shop"' in meta.read_text()
    other = replace(host, service="billing")
    result = other.deploy(make_local_release(tmp_path, "2.0.0", {}, ""))
    assert (result.outcome, host.current) == ("failed", old.contents.release)
    assert "is that of shop" in result.error
    assert "not of billing in production" in result.error
    assert {path.name for path in (host.root / "releases").iterdir()} == {old.contents.release}
    result = host.deploy(make_local_release(tmp_path, "1.1.0", {}, ""))
    assert (result.outcome, result.error) == ("deployed", "")
    assert (host.root / ".interlock/owner").read_text() == "shop production\n"


def release(host: LocalHost, version: str, behaviour: str, name: str = "a") -> LocalRelease:
    """Build a release of a host's service that places one file beside its folder."""
    folder = host.folder / host.service
    spec = f"files: [{{source: web, destination: '{host.www}'}}]\nfile_exists_behavior: {behaviour}\n"
    return make_local_release(folder, version, {f"web/{name}": f"{host.service} {version}"}, spec)


@pytest.mark.parametrize("gone", [False, True], ids=["it is there", "somebody has removed it"])
@pytest.mark.parametrize("behaviour", ["OVERWRITE", "DISALLOW"])
def test_another_service_does_not_get_the_place_of_a_file(tmp_path: Path, behaviour: str, gone: bool) -> None:
    shop, billing = LocalHost(tmp_path), LocalHost(tmp_path, service="billing", deploy_root="billing root")
    assert shop.deploy(release(shop, "1.0.0", behaviour)).outcome == "deployed"
    if gone:
        (shop.www / "a").unlink()
    result = billing.deploy(release(billing, "2.0.0", behaviour))
    assert (result.outcome, billing.current) == ("failed", None)
    assert (
        f"{shop.www}/a was put there by a release of shop in production, whose folder is {shop.root}." in result.error
    )
    assert gone or (shop.www / "a").read_text() == "shop 1.0.0"
    assert billing.deploy(release(billing, "2.0.1", behaviour, name="b")).outcome == "deployed"
    assert shop.deploy(release(shop, "1.1.0", behaviour)).outcome == "deployed"
    assert (shop.www / "a").read_text() == "shop 1.1.0"


def test_another_service_that_retains_files_leaves_it(tmp_path: Path) -> None:
    shop, billing = LocalHost(tmp_path), LocalHost(tmp_path, service="billing", deploy_root="billing")
    assert shop.deploy(release(shop, "1.0.0", "OVERWRITE")).outcome == "deployed"
    assert billing.deploy(release(billing, "2.0.0", "RETAIN")).outcome == "deployed"
    assert (shop.www / "a").read_text() == "shop 1.0.0"


def test_the_way_back_leaves_what_another_service_has_placed_meanwhile(tmp_path: Path) -> None:
    shop, billing = LocalHost(tmp_path), LocalHost(tmp_path, service="billing", deploy_root="billing")
    old = release(shop, "1.0.0", "OVERWRITE")
    for one in (old, release(shop, "1.1.0", "OVERWRITE", name="b")):
        assert shop.deploy(one).outcome == "deployed"
    assert billing.deploy(release(billing, "2.0.0", "OVERWRITE")).outcome == "deployed"
    result = shop.back_out(old)
    assert (result.outcome, shop.current) == ("backed_out", old.contents.release)
    assert (shop.www / "a").read_text() == "billing 2.0.0"


@pytest.mark.parametrize(("first", "second"), [("apps", "apps/billing"), ("apps/shop", "apps")])
def test_a_folder_inside_another_services_is_refused(tmp_path: Path, first: str, second: str) -> None:
    shop, billing = LocalHost(tmp_path, deploy_root=first), LocalHost(tmp_path, service="billing", deploy_root=second)
    assert shop.deploy(release(shop, "1.0.0", "OVERWRITE")).outcome == "deployed"
    result = billing.deploy(release(billing, "2.0.0", "OVERWRITE", name="b"))
    assert (result.outcome, billing.current) == ("failed", None)
    assert f"the folder {billing.root} and that of shop in production, {shop.root}, are one inside the other" in (
        result.error
    )


def test_a_service_that_has_left_keeps_no_other_from_its_files(tmp_path: Path) -> None:
    shop, billing = LocalHost(tmp_path), LocalHost(tmp_path, service="billing", deploy_root="billing")
    assert shop.deploy(release(shop, "1.0.0", "OVERWRITE")).outcome == "deployed"
    shutil.rmtree(shop.root)
    assert billing.deploy(release(billing, "2.0.0", "OVERWRITE")).outcome == "deployed"
    assert (shop.www / "a").read_text() == "billing 2.0.0"


def test_a_login_without_a_home_is_served_and_told(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    (tmp_path / ".interlock-roots").mkdir()
    result = host.deploy(release(host, "1.0.0", "OVERWRITE"))
    assert result.outcome == "deployed"
    (warning,) = result.warnings
    assert f"{tmp_path}/.interlock-roots cannot be written" in warning
