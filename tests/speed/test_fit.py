"""The default model's time to learn is measured on a zoo, in small."""

import json

import pytest
from speed.fit import main, run


def test_seconds_of_all_targets_are_counted(tmp_path, capsys):
    main(["--quick", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "cpu-fit.json").read_text())
    assert found["model"] == "fusion"
    assert found["targets"] == ["score", "five attributes", "forty attributes"]
    assert 0 < found["learned_from"] < found["loras"]
    assert min(found["wall"], found["processor"]) > 0
    assert "| fusion, 3 targets of faces |" in capsys.readouterr().out


def test_without_the_zoo_it_is_said_how_to_build_it(tmp_path, monkeypatch):
    monkeypatch.setattr("speed.fit.find_zoos", lambda places: {})
    with pytest.raises(SystemExit, match="lorascope zoo collection"):
        run()
