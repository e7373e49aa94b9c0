import json

import pytest
from tests.bench.conftest import write_zoo


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_zoo(tmp_path_factory.mktemp("zoo") / "home", 260, 0)


def test_a_zoo_is_measured_once_and_written(run, home, tmp_path):
    page = tmp_path / "docs" / "trust.md"
    words = ["--zoo", home, "--out", tmp_path / "records", "--page", page, "--splits", "2"]
    code, out, err = run("bench", "trust", *words)
    assert (code, out.strip()) == (0, str(page))
    assert "learning 4 targets from 260 LoRAs" in err
    text = page.read_text()
    assert "| home | score | " in text
    assert (tmp_path / "docs" / "pictures" / "risk-coverage.png").is_file()
    code, out, err = run("bench", "trust", *words, "--json")
    assert (code, err) == (0, "home: measured before\n")
    found = json.loads(out)
    assert (found["schema"], found["page"]) == ("lorascope.trust/2", str(page))
    assert list(found["zoos"][0]["splits"]) == ["0", "1"]
    assert found["zoos"][0]["splits"]["0"]["outliers"]
    assert page.read_text() == text


def test_without_a_zoo_it_is_said_how_to_build_them(run, tmp_path, monkeypatch):
    code, out, err = run("bench", "trust", "--zoo", tmp_path)
    assert (code, out) == (2, "")
    assert "lorascope zoo collection" in err
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "empty"))
    code, out, err = run("bench", "trust")
    assert (code, out) == (2, "")
    assert "lorascope zoo collection" in err
