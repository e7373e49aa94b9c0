from pathlib import Path

from lorascope.home import home


def test_home_is_a_cache_unless_another_place_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("LORASCOPE_HOME")
    assert home() == Path.home() / ".cache" / "lorascope"
