import json
import os
import pathlib

import pytest

from lorascope.errors import FileError
from lorascope.inspect import scan as scan_module
from lorascope.inspect.examine import Examined, examine
from lorascope.inspect.scan import How, brief, scan, workers_for
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
    assert next(scan(paths[:1], How(), results=results))["outcome"] != "header"


def test_a_changed_configuration_is_looked_at_again(tmp_path):
    results, path = tmp_path / "results.jsonl", write_peft(tmp_path / "a")
    weights = path / "adapter_model.safetensors"
    first = [next(scan([weights], HEADERS, results=results))["base"]]
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "b"}))
    assert [*first, next(scan([weights], HEADERS, results=results))["base"]] == ["tiny", "b"]


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), PermissionError(13, "Permission denied")]
)
def test_what_the_disk_refused_is_tried_again(paths, tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    results = tmp_path / "results.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", refuse)
        bad = brief(examine(paths[0], headers=True))
    monkeypatch.setattr(scan_module, "brief", lambda _: bad)
    assert next(scan(paths[:1], HEADERS, results=results))["outcome"] == "refused"
    monkeypatch.undo()
    assert next(scan(paths[:1], HEADERS, results=results))["outcome"] == "header"


def test_a_second_scan_on_the_same_results_is_refused(paths, tmp_path):
    results = tmp_path / "results.jsonl"
    first = scan(paths, HEADERS, results=results)
    next(first)
    with pytest.raises(FileError, match="another scan"):
        next(scan(paths, HEADERS, results=results))
    assert len(list(first)) == 5
    assert len(list(scan(paths, HEADERS, results=results))) == 6


def test_a_process_that_dies_costs_its_own_file(paths, monkeypatch):
    monkeypatch.setattr(scan_module, "CHUNK", 2)
    monkeypatch.setattr(scan_module, "examine_chunk", die_at_three)
    results = list(scan(paths, HEADERS, processes=2))
    assert [result["path"] for result in results] == list(map(str, paths))
    assert [
        r["path"] for r in results if r["problems"] and r["problems"][0]["code"] == "process-died"
    ] == [str(paths[3])]


def die_at_three(paths, how):
    """Stands in for a fault in a library: the process is gone, no exception is raised."""
    if any(path.name == "3.safetensors" for path in paths):
        os._exit(1)
    return [
        brief(Examined(str(path), None, (scan_module.DIED,))) | {"problems": []} for path in paths
    ]


def test_few_files_need_no_processes():
    assert workers_for(3, How()) == workers_for(100, HEADERS) == 1
    assert workers_for(100_000, How()) == (os.cpu_count() or 1)


def test_what_does_not_exist_any_more_is_refused(tmp_path):
    (result,) = scan([tmp_path / "gone.safetensors"], HEADERS)
    assert result["outcome"] == "refused"
    json.dumps(result)
