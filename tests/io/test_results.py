import json
import math
import os

import pytest

from lorascope.errors import FileError
from lorascope.io import results as results_module
from lorascope.io.results import Results, key_of, resumed, without_nan
from tests.inspect.files import write_kohya, write_peft

SCHEMA = "test/1"


@pytest.fixture
def path(tmp_path):
    """A results file of three results."""
    with Results(tmp_path / "results.jsonl", SCHEMA) as results:
        for name in "abc":
            results.add(name, {"value": name})
    return tmp_path / "results.jsonl"


def keys(path, **options):
    """The keys that a file is gone on from."""
    with Results(path, SCHEMA, **options) as results:
        return list(results.places)


def test_what_was_added_is_there_again(path):
    with Results(path, SCHEMA) as results:
        assert len(results) == 3
        assert [results[name]["value"] for name in "cab"] == ["c", "a", "b"]
        assert "d" not in results
        results.add("d", {"value": "d"})
        assert (results["d"], results["a"]) == ({"value": "d"}, {"value": "a"})
        results.add("e", {"value": "e"})
        assert [results[name]["value"] for name in "abcde"] == list("abcde")
    assert keys(path) == list("abcde")


def test_only_places_are_kept_in_memory(path):
    with Results(path, SCHEMA) as results:
        assert results.places == {"a": 0, "b": 59, "c": 118}
    assert path.read_bytes()[59:].startswith(b'{"schema": "test/1", "key": "b"')


def test_every_line_can_be_read_by_others(path):
    with Results(path, SCHEMA) as results:
        results.add("d", {"value": [math.inf, {"x": math.nan}]})
    lines = path.read_text().splitlines()
    last = json.loads(lines[-1], parse_constant=pytest.fail)
    assert last == {"schema": SCHEMA, "key": "d", "result": {"value": [None, {"x": None}]}}


@pytest.mark.parametrize("text", ['{"schema": "other"}\n', '{"labels": [1, 2]}', "notes\nof mine"])
def test_another_file_is_not_taken_for_results(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(FileError, match=r"something else than results.*test/1"):
        Results(path, SCHEMA)
    assert path.read_text() == text
    with pytest.raises(FileError, match="something else than results"):
        Results(tmp_path, SCHEMA)


def test_results_of_another_command_are_left_as_they_are(path):
    before = path.read_bytes()
    with pytest.raises(FileError, match="something else than results"):
        Results(path, "other/1")
    assert path.read_bytes() == before


def test_a_torn_line_costs_its_own_result(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert keys(path) == ["a", "b"]
    assert path.read_bytes() == whole[:118]
    path.write_bytes(whole[:25] + whole)
    assert keys(path) == ["b", "c"]


def test_a_line_that_changes_meanwhile_is_said(path):
    with Results(path, SCHEMA) as results:
        path.write_bytes(b"x" * 200)
        with pytest.raises(FileError, match="changed while it was in use"):
            results["b"]


def test_a_result_that_may_pass_is_no_final_answer(path):
    def passes(result):
        return result["value"] == "again"

    with Results(path, SCHEMA) as results:
        results.add("a", {"value": "again"})
        results.add("d", {"value": "again"})
    assert keys(path, passes=passes) == ["b", "c"]
    with Results(path, SCHEMA) as results:
        results.add("d", {"value": "fine"})
    assert keys(path, passes=passes) == ["b", "c", "d"]


@pytest.mark.skipif(os.name == "nt", reason="flock is of POSIX systems")
def test_one_run_at_a_time_writes_to_a_file(path):
    before = path.read_text()
    with Results(path, SCHEMA):
        with pytest.raises(FileError, match=r"results\.jsonl.*another run.*Try"):
            Results(path, SCHEMA)
        assert path.read_text() == before
    assert len(keys(path)) == 3


@pytest.mark.skipif(os.name == "nt", reason="flock is of POSIX systems")
def test_a_disk_without_locks_is_written_to_all_the_same(path, monkeypatch):
    def unable(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(results_module.fcntl, "flock", unable)
    assert len(keys(path)) == 3


def test_what_is_known_is_not_found_again(path):
    asked = []

    def find(places):
        for place in places:
            asked.append(place)
            yield {"value": place}

    results = Results(path, SCHEMA)
    found = list(resumed(results, ["x", "b", "y", "a"], find))
    assert [one["value"] for one in found] == [0, "b", 2, "a"]
    assert (asked, results.reused) == ([0, 2], 2)
    assert list(resumed(Results(path, SCHEMA), ["x", "b", "y", "a"], find)) == found
    assert asked == [0, 2]
    assert list(resumed(None, ["x", "b"], find)) == [{"value": 0}, {"value": 1}]


def test_each_result_is_on_disk_as_soon_as_it_is_there(tmp_path):
    path = tmp_path / "results.jsonl"
    going = resumed(Results(path, SCHEMA), ["a", "b"], lambda places: ({} for _ in places))
    next(going)
    assert len(path.read_text().splitlines()) == 1
    going.close()
    assert keys(path) == ["a"]


def test_the_key_changes_with_the_weights(tmp_path):
    path = write_kohya(tmp_path / "a.safetensors")
    before = key_of(path, False)
    assert key_of(path, False) == before
    os.utime(path, ns=(1, 1))
    assert key_of(path, False) != before


@pytest.mark.parametrize("whole", [True, False])
def test_the_key_changes_with_the_configuration_beside_the_weights(tmp_path, whole):
    folder = write_peft(tmp_path / "a")
    path = folder if whole else folder / "adapter_model.safetensors"
    with_one = key_of(path, False)
    write_peft(folder / "other", r=4096)
    config = (folder / "other/adapter_config.json").read_bytes()
    (folder / "adapter_config.json").write_bytes(config)
    with_another = key_of(path, False)
    (folder / "adapter_config.json").unlink()
    assert len({with_one, with_another, key_of(path, False)}) == 3


def test_the_key_changes_with_the_version_and_the_way_of_looking(tmp_path, monkeypatch):
    path = write_kohya(tmp_path / "a.safetensors")
    before = {key_of(path, False), key_of(path, True), key_of(path, True, "x")}
    monkeypatch.setattr(results_module, "installed", lambda: "99.0")
    assert len(before | {key_of(path, False)}) == 4


def test_a_link_to_nowhere_hides_no_change(tmp_path):
    folder = write_peft(tmp_path / "a")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    before = key_of(folder, False)
    os.utime(folder / "adapter_model.safetensors", ns=(1, 1))
    assert key_of(folder, False) != before
    assert json.loads(key_of(tmp_path / "not-there", False))[1] == []


def test_numbers_that_json_cannot_say_are_none():
    assert without_nan({"a": (1.5, math.nan), "b": -math.inf}) == {"a": [1.5, None], "b": None}
    assert without_nan(True) is True
