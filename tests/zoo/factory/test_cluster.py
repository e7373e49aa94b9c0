import dataclasses
import functools
import json
import os
import time
from pathlib import Path

import pytest

from lorascope.errors import DataError, MissingExtraError, TrainingError
from lorascope.io.shard_writer import ZooWriter
from lorascope.zoo.factory import build, cluster
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.factory.cluster import run_on_ray
from lorascope.zoo.factory.pool import Failure
from tests.zoo.planted_family import Held, PlantedFamily, save_base

ray = pytest.importorskip("ray")
STORE = 80 * 2**20
pytestmark = pytest.mark.slow  # half a minute: two nodes of Ray on this machine


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes of one core; a test may take the second and put another there."""
    from ray.cluster_utils import Cluster

    cluster._ray()  # as the runner sets Ray up
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE}
    )
    made.add_node(num_cpus=1, object_store_memory=STORE)
    yield made
    ray.shutdown()
    made.shutdown()


def start(folder=None):
    return functools.partial(work, folder)


def work(folder, task):
    """Square a number; 13 raises; 7 kills the process the first time, 8 every time."""
    if task == 13:
        raise ValueError("unlucky")
    if task in (7, 8):
        marker = folder / str(task)
        if task == 8 or not marker.exists():
            marker.touch()
            os._exit(3)
    time.sleep(0.05)
    return task**2, os.getpid()


def broken_start():
    raise RuntimeError("no base")


def test_lost_workers_tasks_are_done_again(nodes, tmp_path):
    told = []
    run = run_on_ray(
        [1, 2, 7, 13, 3, 8, 4],
        functools.partial(start, tmp_path),
        address=nodes.address,
        note=lambda **fact: told.append(fact),
    )
    results = dict(run)
    assert set(results) == {1, 2, 7, 13, 3, 8, 4}
    for task in (1, 2, 7, 3, 4):
        assert results[task][0] == task**2
        assert results[task][1] != os.getpid()
    assert "unlucky" in results[13].message
    assert "3 workers were lost on this task" in results[8].message
    assert sum(fact["event"] == "worker lost" for fact in told) == 4
    assert not ray.is_initialized()


def test_a_worker_that_cannot_start_says_why(nodes):
    ((_, result),) = run_on_ray([1], broken_start, address=nodes.address, workers=1)
    assert "no base" in result.message


def test_workers_of_other_versions_are_refused(nodes, monkeypatch, caplog):
    monkeypatch.setattr(cluster, "versions", lambda: {"torch": "1.0"})
    results = dict(run_on_ray([1, 2], start, address=nodes.address))
    assert all(isinstance(result, Failure) for result in results.values())
    assert "expected {'torch': '1.0'} as on the driver" in results[1].message
    assert "a worker is not used" in caplog.text


def test_leaving_early_ends_the_workers(nodes):
    run = run_on_ray(range(100), start, address=nodes.address, workers=1)
    _, (_, pid) = next(run)
    run.close()
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            return
        time.sleep(0.1)
    pytest.fail("the worker lives on")


def ended(process):
    """Whether a process lives no more; one that nobody has asked about is still listed."""
    try:
        listed = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return listed.rpartition(")")[2].split()[0] == "Z"


def test_a_zoo_that_loses_a_node_is_the_same_zoo(nodes, tmp_path, monkeypatch):
    family = Held(save_base(tmp_path / "base"), gate=tmp_path)
    plain = {"slots": 2, "progress": False, "compile": False}
    alone = build_zoo(family, 24, tmp_path / "alone", processes=0, **plain)
    held = dataclasses.replace(family, gate=tmp_path / "gate")
    (doomed,) = nodes.worker_nodes

    class Watched(ZooWriter):
        """The second node goes when the workers of both are there, and the work begins when its is gone."""

        greeted = ()

        def log(self, **fact):
            super().log(**fact)
            if fact["event"] == "worker":
                Watched.greeted += (fact["process"],)
            if len(Watched.greeted) == 2 and not held.gate.exists():
                nodes.remove_node(doomed, allow_graceful=False)
                for _ in range(600):
                    if any(map(ended, Watched.greeted)):
                        break
                    time.sleep(0.1)
                held.gate.touch()

    monkeypatch.setattr(build, "ZooWriter", Watched)
    out = tmp_path / "spread"
    spread = build_zoo(held, 24, out, cluster="ray", address=nodes.address, **plain)
    assert _bytes(spread.path) == _bytes(alone.path)
    assert len(spread) == 24
    events = [json.loads(line) for line in (out / "build.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("worker lost") == 1
    assert not any(event["event"] == "failed" for event in events)


def _bytes(folder):
    files = [*folder.glob("shards/*"), folder / "index.parquet"]
    return {file.name: file.read_bytes() for file in files}


def test_no_cluster_there():
    with pytest.raises(TrainingError, match="joining the Ray cluster 127"):
        next(run_on_ray([1], start, address="127.0.0.1:1"))


def test_other_clusters_are_refused(tmp_path):
    family = PlantedFamily(save_base(tmp_path / "base"))
    with pytest.raises(DataError, match="found the cluster 'slurm', expected 'ray'"):
        build_zoo(family, 1, tmp_path / "zoo", cluster="slurm")


def test_without_ray(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"lorascope\[cluster\]"):
        next(run_on_ray([1], start))
