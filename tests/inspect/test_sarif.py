from lorascope.inspect.examine import examine
from lorascope.inspect.sarif import sarif, uri_of
from lorascope.inspect.scan import brief
from tests.inspect.files import write_kohya

LEVELS = {"none", "note", "warning", "error"}


def test_the_log_has_the_parts_that_sarif_asks_for(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"<html>")
    paths = [tmp_path / "x.safetensors", write_kohya(tmp_path / "a.safetensors", rank=400)]
    documents = [examine(path).to_json() for path in paths]
    log = sarif(documents, "0.1.0")
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "lorascope"
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    assert run["results"]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in LEVELS
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")
    named = [r for r in run["results"] if "logicalLocations" in r["locations"][0]]
    assert named
    assert len(run["results"]) == sum(len(document["problems"]) for document in documents)


def test_brief_results_have_no_places_within_a_file(tmp_path):
    log = sarif([brief(examine(write_kohya(tmp_path / "a.safetensors", rank=400)))], "0.1.0")
    assert all("logicalLocations" not in r["locations"][0] for r in log["runs"][0]["results"])


def test_paths_become_uris():
    assert uri_of("a b/ü.safetensors") == "a%20b/%C3%BC.safetensors"
    assert uri_of("/x/a#b") == "file:///x/a%23b"
