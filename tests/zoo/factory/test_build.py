import json
import math
import signal

import numpy as np
import pytest
import torch

from lorascope.errors import DataError, FileError, TrainingError
from lorascope.zoo.factory.build import build_zoo
from tests.zoo.factory.killed_build import keeping, outlived, start, until, whole
from tests.zoo.planted_family import Held, PlantedFamily, save_base

OPTIONS = {"compile": False, "progress": False, "slots": 1}
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return PlantedFamily(save_base(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def zoo(family, tmp_path_factory):
    return build_zoo(family, 11, tmp_path_factory.mktemp("zoo"), processes=0, **OPTIONS)


def contents(folder):
    """The bytes that must not depend on how a build went."""
    files = [folder / "index.parquet", *sorted((folder / "shards").iterdir())]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def events(folder):
    return [json.loads(line) for line in (folder / "build.jsonl").read_text().splitlines()]


def test_a_zoo_has_its_labels_and_traces(zoo, family):
    assert len(zoo) == 11
    assert list(zoo.column("id")) == list(range(11))
    assert zoo.column("seed")[4] == family.job(4).seed
    assert zoo.hyper()["learning_rate"][1] == family.job(1).learning_rate
    assert [math.isfinite(loss) for loss in zoo.labels("loss")] == [i != 3 for i in range(11)]
    assert zoo.report["mean loss"] == pytest.approx(np.nanmean(zoo.labels("loss")))
    assert zoo.recipe["base"]["sha256"]
    assert zoo.recipe["engine"]["slots"] == 1


def test_a_diverged_adapter_is_flagged_and_harms_no_other(zoo):
    assert [i for i, bad in enumerate(zoo.column("diverged")) if bad] == [3]
    assert {"diverged"} <= {event["event"] for event in events(zoo.path)}
    for row in range(len(zoo)):
        assert all(pair.u.isfinite().all() for pair in zoo.lora(row).layers.values())


def test_the_same_call_again_does_nothing(zoo, family):
    before = contents(zoo.path), len(events(zoo.path))
    again = build_zoo(family, 11, zoo.path, processes=0, **OPTIONS)
    assert (contents(again.path), len(events(again.path))) == before


def test_an_index_from_before_the_last_shards_is_made_again(family, tmp_path):
    """Killed after its last shard: everything is there but the index names only what was there before."""
    build_zoo(family, 5, tmp_path / "zoo", processes=0, **OPTIONS)
    old = (tmp_path / "zoo/index.parquet").read_bytes()
    whole = contents(build_zoo(family, 9, tmp_path / "zoo", processes=0, **OPTIONS).path)
    (tmp_path / "zoo/index.parquet").write_bytes(old)
    (tmp_path / "zoo/report.json").unlink()
    again = build_zoo(family, 9, tmp_path / "zoo", processes=0, **OPTIONS)
    assert contents(again.path) == whole
    assert again.report["mean loss"]


def test_growing_moves_nothing(family, tmp_path):
    small = contents(build_zoo(family, 5, tmp_path / "zoo", processes=0, **OPTIONS).path)
    large = build_zoo(family, 9, tmp_path / "zoo", processes=0, **OPTIONS)
    grown = contents(large.path)
    assert len(large) == 9
    del small["index.parquet"]
    assert small.items() <= grown.items()
    assert len(build_zoo(family, 4, tmp_path / "zoo", processes=0, **OPTIONS)) == 9


def test_a_failed_group_is_told_and_retried(zoo, family, tmp_path, caplog):
    broken = PlantedFamily(family.base_folder, fails_at=6)
    part = build_zoo(broken, 11, tmp_path / "zoo", processes=0, **OPTIONS)
    assert 6 not in part.column("id")
    assert "failed and are left out" in caplog.text
    failed = [event for event in events(part.path) if event["event"] == "failed"]
    assert "failed on purpose" in failed[0]["problem"]
    whole = build_zoo(family, 11, tmp_path / "zoo", processes=0, **OPTIONS)
    assert contents(whole.path) == contents(zoo.path)


class Unplanned(PlantedFamily):
    """Two of its LoRAs have no job."""

    def job(self, index):
        if index in (2, 6):
            raise ValueError("no such file")
        return super().job(index)


def test_a_lora_without_a_job_is_told_and_harms_no_other(zoo, family, tmp_path):
    """Planning asks for its job, and goes on without it."""
    part = build_zoo(Unplanned(family.base_folder), 11, tmp_path / "zoo", processes=0, **OPTIONS)
    assert sorted({*range(11)} - set(part.column("id"))) == [2, 6]
    failed = [event for event in events(part.path) if event["event"] == "failed"]
    assert sorted(i for event in failed for i in event["ids"]) == [2, 6]
    assert all("ValueError: no such file" in event["problem"] for event in failed)
    whole = build_zoo(family, 11, tmp_path / "zoo", processes=0, **OPTIONS)
    order = [int(i) for i in whole.column("id")]
    assert order == list(range(11))
    assert list(whole.column("sha256")) == list(zoo.column("sha256"))


def test_a_part_that_can_no_longer_be_planned_waits(zoo, family, tmp_path):
    broken = PlantedFamily(family.base_folder, fails_at=6)
    part = build_zoo(broken, 11, tmp_path / "zoo", processes=0, **OPTIONS)
    missing = sorted({*range(11)} - set(part.column("id")))
    still = build_zoo(Unplanned(family.base_folder), 11, part.path, processes=0, **OPTIONS)
    assert sorted({*range(11)} - set(still.column("id"))) == missing
    last = [event for event in events(part.path) if event["event"] == "failed"][-1]
    assert last["ids"] == missing
    assert "no such file" in last["problem"]
    whole = build_zoo(family, 11, part.path, processes=0, **OPTIONS)
    assert contents(whole.path) == contents(zoo.path)


def test_when_all_fails_it_says_why(family, tmp_path):
    broken = PlantedFamily(family.base_folder, fails_at=0)
    with pytest.raises(TrainingError, match="on purpose"):
        build_zoo(broken, 1, tmp_path / "zoo", processes=0, **OPTIONS)


def test_refusals(family, zoo, tmp_path):
    with pytest.raises(DataError, match="at least 1"):
        build_zoo(family, 0, tmp_path)
    with pytest.raises(FileError, match="another recipe"):
        build_zoo(PlantedFamily(family.base_folder, seed=5), 3, zoo.path, **OPTIONS)


@pytest.mark.parametrize(
    "stop", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stopped_build_leaves_no_process_and_goes_on(zoo, family, tmp_path, stop):
    folder = tmp_path / "zoo"
    held = Held(family.base_folder, gate=tmp_path / "gate", shards=folder / "shards")
    process = start(folder, held, 11, processes=2)
    until(process, lambda: whole(folder), 120)
    process.send_signal(stop)  # to the build alone: its workers end by themselves
    _, told = process.communicate(timeout=30)
    assert process.returncode != 0
    assert ("KeyboardInterrupt" in told) == (stop == signal.SIGINT)
    assert not outlived(process.pid)
    torch.set_num_threads(1)
    with keeping(folder, 11) as kept:
        again = build_zoo(family, 11, folder, processes=0, **OPTIONS)
    assert kept
    assert contents(again.path) == contents(zoo.path)
