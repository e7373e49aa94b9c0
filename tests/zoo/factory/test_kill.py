"""A build that is killed, starved of disk or of sense goes on and ends with an undisturbed one's bytes."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lorascope.io import open_zoo
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.factory.log import build_events, failures_of
from lorascope.zoo.factory.verify import verify_zoo
from lorascope.zoo.families import ExamFamily
from tests.zoo.planted_family import PlantedFamily, save_base

COUNT = 11
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
SCRIPT = """
import sys
from pathlib import Path
from lorascope.cli.output import complain
from lorascope.errors import LorascopeError
from lorascope.zoo.factory.build import build_zoo
from tests.zoo.planted_family import PlantedFamily

if __name__ == "__main__":
    family = PlantedFamily(Path(sys.argv[4]))
    try:
        build_zoo(family, int(sys.argv[2]), sys.argv[1], processes=int(sys.argv[3]), compile=False,
                  progress=False, slots=1)
    except (LorascopeError, OSError) as error:
        complain(error)
        sys.exit(2)
"""


def start(folder, script, base, processes=1, **options):
    """A build in a process group of its own."""
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(COUNT), str(processes), str(base)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def contents(folder):
    """Everything but the log, which holds times."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name != "build.jsonl"
    }


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a worker: how a sum is split over threads decides its last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny random one: what is tested is the factory."""
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def undisturbed(base, tmp_path_factory):
    return contents(build(tmp_path_factory.mktemp("whole") / "zoo", PlantedFamily(base)).path)


def build(folder, family, count=COUNT):
    """To its end, in this process."""
    options = {"processes": 0, "compile": False, "progress": False, "slots": 1}
    return build_zoo(family, count, folder, **options)


def survivors(session):
    """Processes of a session that still live."""
    listing = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True)
    return [state for state in listing.stdout.split() if not state.startswith(b"Z")]


def kill_group(process):
    """kill -9 of the build and of all its workers at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    for _ in range(200):
        if not survivors(process.pid):
            return
        time.sleep(0.02)
    raise AssertionError("a worker outlived its build")


def until(process, condition, seconds):
    """Wait for a condition, for the end of the process or for the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.002)


def files(folder):
    return len(list(folder.glob("shards/*")))


def check(folder, undisturbed):
    assert contents(folder) == undisturbed
    result = verify_zoo(folder)
    assert result.sound, result.findings
    assert result.loras == COUNT
    events = [event["event"] for event in build_events(folder)]
    assert events[-1] == "end"


def test_killed_while_it_writes_its_first_shard(base, undisturbed, tmp_path):
    """At its first file: between weights and rows, or in the midst of either."""
    folder = tmp_path / "zoo"
    process = start(folder, tmp_path / "build.py", base)
    until(process, lambda: files(folder) > 0, 120)
    kill_group(process)
    build(folder, PlantedFamily(base))
    check(folder, undisturbed)


@pytest.mark.slow
def test_killed_many_times_at_random(base, undisturbed, tmp_path):
    """Kills at random times until it has been killed 12 times, whatever it was doing then."""
    draw = random.Random(20)
    folder, kills = tmp_path / "zoo", 0
    while kills < 12:
        process = start(folder, tmp_path / "build.py", base, processes=2)
        before, goal = files(folder), draw.randint(0, 3)
        until(process, lambda f=folder, most=before + goal: files(f) > most, draw.uniform(1, 25))
        time.sleep(draw.uniform(0, 0.05))
        if process.poll() is None:
            kill_group(process)
            kills += 1
            continue
        process.communicate(timeout=60)
        assert process.returncode == 0
        check(folder, undisturbed)
        folder = tmp_path / f"zoo-{kills}"  # done before it was killed: begin another
    build(folder, PlantedFamily(base))
    check(folder, undisturbed)


def test_a_full_disk_is_one_message_and_the_build_goes_on_later(base, undisturbed, tmp_path):
    """No file may grow beyond 2 KiB: the recipe fits, the weights of a shard do not."""
    folder = tmp_path / "zoo"
    small = (2048, resource.getrlimit(resource.RLIMIT_FSIZE)[1])

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, small)

    process = start(folder, tmp_path / "build.py", base, preexec_fn=limit)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 2
    assert told.startswith("Error: Writing shard")
    assert "free space on the disk" in told
    assert told.count("\n") == 1
    assert not survivors(process.pid)
    assert not list((folder / "shards").iterdir())
    assert failures_of(build_events(folder), [])["not_written"] == 1
    build(folder, PlantedFamily(base))
    check(folder, undisturbed)


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
