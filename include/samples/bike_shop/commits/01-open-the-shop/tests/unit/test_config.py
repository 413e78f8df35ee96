import json

import pytest

from shop import config


@pytest.fixture
def shop_json(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERLOCK_SHARED", str(tmp_path))
    return tmp_path / "shop.json"


def test_settings_come_from_the_hosts_shared_folder(shop_json, shared):
    shop_json.write_text(json.dumps({**shared, "environment": "test", "of_another_release": True}))
    settings = config.load()
    assert settings.environment == "test"
    assert settings.version == (config.ROOT / "VERSION").read_text().strip()


def test_missing_settings_stop_the_shop(shop_json):
    shop_json.write_text("{}")
    with pytest.raises(KeyError, match="environment"):
        config.load()
