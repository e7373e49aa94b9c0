import json
import os

import pytest

from lorascope.errors import FileError
from lorascope.inspect import results as results_module
from lorascope.inspect.results import key_of, open_results, read_results
from tests.inspect.files import write_kohya, write_peft

FINE = {"outcome": "exact", "problems": []}


def refused(code):
    return {"outcome": "refused", "error": "no", "problems": [{"code": code, "severity": "error"}]}


@pytest.fixture
def results(tmp_path):
    """A file of three results."""
    path = tmp_path / "results.jsonl"
    with open_results(path) as held:
        for key in "abc":
            held.keep(key, FINE)
    return path


def test_what_was_kept_is_known(results):
    assert read_results(results) == dict.fromkeys("abc", FINE)
    with open_results(results) as held:
        assert set(held.known) == set("abc")
        held.keep("d", FINE)
    assert set(read_results(results)) == set("abcd")


@pytest.mark.parametrize("text", ['{"schema": "other"}\n', '{"labels": [1, 2]}', "notes\nof mine"])
def test_another_file_is_not_taken_for_results(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    for place in (path, tmp_path):
        with pytest.raises(FileError, match="something else than results"):
            read_results(place)
        with pytest.raises(FileError, match="something else than results"), open_results(place):
            pass
    assert path.read_text() == text


def test_a_torn_line_costs_its_own_result(results):
    first, *rest = results.read_text().splitlines(keepends=True)
    results.write_text(first[:60] + "".join([*rest[:1], *rest]) + first[:50])
    assert set(read_results(results)) == {"c", "b"}
    assert results.read_text().endswith("\n")


@pytest.mark.parametrize("code", ["unreadable", "not-found", "missing-extra", "process-died"])
def test_a_refusal_that_may_pass_is_no_final_answer(results, code):
    with open_results(results) as held:
        held.keep("a", refused(code))
        held.keep("d", refused(code))
        held.keep("e", refused("web-page"))
    assert set(read_results(results)) == {"b", "c", "e"}
    with open_results(results) as held:
        held.keep("d", FINE)
    assert read_results(results)["d"] == FINE


@pytest.mark.skipif(os.name == "nt", reason="flock is of POSIX systems")
def test_one_scan_at_a_time_writes_to_a_file(results):
    before = results.read_text()
    with open_results(results):
        with (
            pytest.raises(FileError, match=r"results\.jsonl.*another scan.*Try"),
            open_results(results),
        ):
            pass
        assert results.read_text() == before
    with open_results(results) as held:
        assert len(held.known) == 3


@pytest.mark.skipif(os.name == "nt", reason="flock is of POSIX systems")
def test_a_disk_without_locks_is_written_to_all_the_same(results, monkeypatch):
    def unable(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(results_module.fcntl, "flock", unable)
    with open_results(results) as held:
        assert len(held.known) == 3


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
    before = {key_of(path, False), key_of(path, True)}
    monkeypatch.setattr(results_module, "this_version", lambda: "99.0")
    assert len(before | {key_of(path, False)}) == 3


def test_a_link_to_nowhere_hides_no_change(tmp_path):
    folder = write_peft(tmp_path / "a")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    before = key_of(folder, False)
    os.utime(folder / "adapter_model.safetensors", ns=(1, 1))
    assert key_of(folder, False) != before
    assert json.loads(key_of(tmp_path / "not-there", False))[1] == []
