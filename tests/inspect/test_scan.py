import json
import multiprocessing
import os

import pytest

from lorascope.errors import FileError
from lorascope.inspect import scan as scan_module
from lorascope.inspect.examine import Examined
from lorascope.inspect.refusals import refusal
from lorascope.inspect.scan import How, brief, examine_many, scan
from tests.inspect.files import write_kohya, write_peft

HEADERS = How(headers=True)


@pytest.fixture
def paths(tmp_path):
    made = [write_kohya(tmp_path / "in" / f"{i}.safetensors", seed=i) for i in range(5)]
    broken = tmp_path / "in" / "9.safetensors"
    broken.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return [*made, broken]


def test_results_come_in_order_and_are_brief(paths):
    results = list(scan(paths, HEADERS))
    assert [result["path"] for result in results] == list(map(str, paths))
    assert [result["outcome"] for result in results] == ["header"] * 5 + ["refused"]
    assert results[0]["layers"] == 3
    assert results[0]["rank"] == "4"
    assert "blocks" not in results[0]


def test_processes_give_the_same_results(paths, monkeypatch):
    alone = list(scan(paths, HEADERS))
    monkeypatch.setattr(scan_module, "CHUNK", 2)
    assert list(scan(paths, HEADERS, processes=2)) == alone


def test_a_scan_goes_on_where_it_was(paths, tmp_path, monkeypatch):
    results = tmp_path / "results.jsonl"
    whole = list(scan(paths, HEADERS))
    stopped = scan(paths, HEADERS, results=results)
    first = [next(stopped), next(stopped)]
    stopped.close()
    with results.open("a") as file:
        file.write('{"schema": "lorascope.inspect.brief/1", "key": "to')
    asked = []
    real = scan_module.examine
    monkeypatch.setattr(
        scan_module, "examine", lambda path, **how: asked.append(path) or real(path, **how)
    )
    assert list(scan(paths, HEADERS, results=results)) == whole
    assert first == whole[:2]
    assert asked == paths[2:]
    assert list(scan(paths, HEADERS, results=results)) == whole
    assert len(asked) == 4
    assert len(results.read_text().splitlines()) == 6


def test_a_changed_file_is_examined_again(paths, tmp_path):
    results = tmp_path / "results.jsonl"
    list(scan(paths, HEADERS, results=results))
    write_kohya(paths[0], rank=8)
    os.utime(paths[0], ns=(1, 1))
    again = list(scan(paths, HEADERS, results=results))
    assert again[0]["rank"] == "8"
    # another way of looking is another result
    assert only(scan(paths[:1], How(), results=results))["outcome"] != "header"


def test_a_changed_configuration_is_looked_at_again(tmp_path):
    results, path = tmp_path / "results.jsonl", write_peft(tmp_path / "a")
    weights = path / "adapter_model.safetensors"
    first = list(scan([weights], HEADERS, results=results))
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "b"}))
    again = list(scan([weights], HEADERS, results=results))
    assert [first[0]["base"], again[0]["base"]] == ["tiny", "b"]


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), PermissionError(13, "Permission denied")]
)
def test_what_the_disk_refused_is_tried_again(paths, tmp_path, monkeypatch, error):
    results = tmp_path / "results.jsonl"
    bad = Examined(str(paths[0]), None, (refusal(error),))
    with monkeypatch.context() as patch:
        patch.setattr(scan_module, "examine", lambda path, **how: bad)
        assert only(scan(paths[:1], HEADERS, results=results))["outcome"] == "refused"
    assert only(scan(paths[:1], HEADERS, results=results))["outcome"] == "header"


def test_a_second_scan_on_the_same_results_is_refused(paths, tmp_path):
    results = tmp_path / "results.jsonl"
    first = scan(paths, HEADERS, results=results)
    next(first)
    with pytest.raises(FileError, match="another run"):
        scan(paths, HEADERS, results=results)
    assert len(list(first)) == 5
    assert len(list(scan(paths, HEADERS, results=results))) == 6


def test_another_file_is_refused_before_anything_is_examined(paths, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("notes\nof mine")
    with pytest.raises(FileError, match="something else than results"):
        scan(paths, HEADERS, results=path)
    assert path.read_text() == "notes\nof mine"


def test_a_process_that_dies_costs_its_own_file(paths):
    results = list(examine_many(paths, HEADERS, dies_at_three, processes=2))
    assert [result["path"] for result in results] == list(map(str, paths))
    assert [
        r["path"] for r in results if r["problems"] and r["problems"][0]["code"] == "process-died"
    ] == [str(paths[3])]


def dies_at_three(result):
    """Stands in for a fault in a library: the process is gone, no exception is raised."""
    if result.path.endswith("3.safetensors") and multiprocessing.parent_process() is not None:
        os._exit(1)
    return brief(result)


def test_whole_documents_come_from_processes_too(paths):
    alone = [result.to_json() for result in examine_many(paths, How(), whole, processes=1)]
    assert len(alone[0]["layers"]) == 3
    assert list(examine_many(paths, How(), Examined.to_json, processes=2)) == alone


def whole(result):
    return result


def only(results):
    (result,) = results
    return result


def test_what_does_not_exist_any_more_is_refused(tmp_path):
    (result,) = scan([tmp_path / "gone.safetensors"], HEADERS)
    assert result["outcome"] == "refused"
    json.dumps(result)
