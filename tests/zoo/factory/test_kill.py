"""A build that is killed, starved of disk or of sense goes on and ends with an undisturbed one's bytes."""

import json
import random
import resource
import signal
from pathlib import Path

import pytest

from lorascope.io import open_zoo
from lorascope.zoo.factory.log import build_events, failures_of
from lorascope.zoo.factory.verify import verify_zoo
from lorascope.zoo.families import ExamFamily, FacesFamily
from tests.zoo.factory.killed_build import (
    build,
    check,
    contents,
    files,
    kill_at_random,
    kill_group,
    outlived,
    start,
    until,
)
from tests.zoo.planted_family import PlantedFamily, save_base

COUNT = 11
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny random one: what is tested is the factory."""
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def undisturbed(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "zoo"
    return contents(build(folder, PlantedFamily(base), COUNT).path)


@pytest.mark.slow
def test_killed_while_it_writes_its_first_shard(base, undisturbed, tmp_path):
    """At its first file: between weights and rows, or in the midst of either."""
    folder = tmp_path / "zoo"
    process = start(folder, PlantedFamily(base), COUNT)
    until(process, lambda: files(folder) > 0, 120)
    kill_group(process)
    build(folder, PlantedFamily(base), COUNT)
    check(folder, undisturbed, COUNT)


@pytest.mark.slow
def test_killed_many_times_at_random(base, undisturbed, tmp_path):
    draw, family = random.Random(20), PlantedFamily(base)
    folder = tmp_path / "zoo"
    assert kill_at_random(folder, family, COUNT, undisturbed, draw, kills=12, patience=25)


@pytest.mark.slow
def test_an_image_zoo_killed_at_random(tmp_path):
    """The bundled tiny Stable Diffusion: few steps, but labels as they always are."""
    family = FacesFamily({"seed": 5, "ranges": {"steps": {"choice": [4]}}})
    draw, count = random.Random(21), 12
    undisturbed = contents(build(tmp_path / "whole", family, count).path)
    folder = tmp_path / "zoo"
    assert kill_at_random(folder, family, count, undisturbed, draw, kills=4, patience=60)


def test_a_full_disk_is_one_message_and_the_build_goes_on_later(base, undisturbed, tmp_path):
    """No file may grow beyond 2 KiB: the recipe fits, the weights of a shard do not."""
    folder = tmp_path / "zoo"
    small = (2048, resource.getrlimit(resource.RLIMIT_FSIZE)[1])

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, small)

    process = start(folder, PlantedFamily(base), COUNT, preexec_fn=limit)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 2
    assert told.startswith("Error: Writing shard")
    assert "free space on the disk" in told
    assert told.count("\n") == 1
    assert not outlived(process.pid)
    assert not list((folder / "shards").iterdir())
    assert failures_of(build_events(folder), [])["not_written"] == 1
    build(folder, PlantedFamily(base), COUNT)
    check(folder, undisturbed, COUNT)


@pytest.mark.slow
def test_an_adapter_that_diverges_is_recorded_and_its_scores_are_missing(tmp_path):
    family = ExamFamily(11, {"learning_rate": ("choice", (1e30, 3e-3)), "epochs": ("choice", (1,))})
    zoo = build(tmp_path / "zoo", family, 6)
    bad = [i for i in range(6) if family.hyper(i)["learning_rate"] > 1]
    assert 0 < len(bad) < 6
    assert [i for i in range(6) if zoo.column("diverged")[i]] == bad
    logged = [event for event in build_events(zoo.path) if event["event"] == "diverged"]
    assert sorted(i for event in logged for i in event["ids"]) == bad
    accuracies = zoo.index.column("label:eval_loss").to_pylist()
    assert [i for i, value in enumerate(accuracies) if value is None] == bad
    assert verify_zoo(zoo.path).sound
    for row in range(6):
        assert all(pair.u.isfinite().all() for pair in zoo.lora(row).layers.values())


class Faulty(PlantedFamily):
    """Its evaluation fails for one LoRA."""

    def evaluate(self, base, fitted, indices):
        if 2 in indices:
            raise ValueError("cannot identify image file 'face.jpg'")
        return super().evaluate(base, fitted, indices)


def test_a_group_that_failed_is_told_and_retried(base, tmp_path, caplog):
    part = build(tmp_path / "zoo", Faulty(base), 4)
    assert 2 not in part.column("id")
    assert "failed and are left out" in caplog.text
    failures = failures_of(build_events(part.path), part.column("id").tolist())
    assert 2 in failures["missing"]
    assert "ValueError: cannot identify image file 'face.jpg'" in failures["reasons"]
    assert [finding.check for finding in verify_zoo(part.path).findings] == ["counts"]
    whole = build(tmp_path / "zoo", PlantedFamily(base), 4)
    assert whole.column("id").tolist() == [0, 1, 2, 3]
    assert verify_zoo(whole.path).sound
    told = failures_of(build_events(whole.path), whole.column("id").tolist())
    assert told["missing"] == []
    assert told["retried"] >= 1
    assert json.loads((Path(whole.path) / "counts.json").read_text()) == [4]
    assert len(open_zoo(whole.path)) == 4
