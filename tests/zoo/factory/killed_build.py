"""A build in a process group of its own, that is killed; and what must be left of it."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch

from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.factory.log import build_events
from lorascope.zoo.factory.verify import verify_zoo

SCRIPT = """
import pickle
import sys
from pathlib import Path
from lorascope.cli.output import complain
from lorascope.errors import LorascopeError
from lorascope.zoo.factory.build import build_zoo

if __name__ == "__main__":
    family = pickle.loads(Path(sys.argv[4]).read_bytes())
    try:
        build_zoo(family, int(sys.argv[2]), sys.argv[1], processes=int(sys.argv[3]), compile=False,
                  progress=False, slots=1)
    except (LorascopeError, OSError) as error:
        complain(error)
        sys.exit(2)
"""


def start(folder, family, count, *, processes=1, **options):
    """A build, by a script beside the zoo's folder."""
    script, pickled = (folder.with_name(f"build.{kind}") for kind in ("py", "pickle"))
    script.write_text(SCRIPT)
    pickled.write_bytes(pickle.dumps(family))
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(count), str(processes), str(pickled)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def build(folder, family, count):
    """To its end, in this process."""
    options = {"processes": 0, "compile": False, "progress": False, "slots": 1}
    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # as in a worker: how a sum is split over threads decides its last bits
    try:
        return build_zoo(family, count, folder, **options)
    finally:
        torch.set_num_threads(threads)


def contents(folder):
    """Everything but the log, which holds times."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name != "build.jsonl"
    }


def check(folder, undisturbed, count):
    """The zoo is that of an undisturbed build, and sound."""
    found = contents(folder)
    assert sorted(found) == sorted(undisturbed)
    assert [name for name, data in found.items() if data != undisturbed[name]] == []
    result = verify_zoo(folder)
    assert result.sound, result.findings
    assert result.loras == count
    events = [event["event"] for event in build_events(folder)]
    assert events[-1] == "end"


def survivors(session):
    """Processes of a session that still live."""
    listing = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True)
    return [state for state in listing.stdout.split() if not state.startswith(b"Z")]


def outlived(session, seconds=10):
    """What still lives of a session, given some seconds to end: a tracker of resources ends after its build."""
    end = time.monotonic() + seconds
    while survivors(session) and time.monotonic() < end:
        time.sleep(0.02)
    return survivors(session)


def kill_group(process):
    """kill -9 of the build and of all its workers at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not outlived(process.pid)


def until(process, condition, seconds):
    """Wait for a condition, for the end of the process or for the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.002)


def files(folder):
    """How many files of shards there are, half-written ones too."""
    return len(list(folder.glob("shards/*")))


def whole(folder):
    """The files of shards that count as built: name -> inode and time of writing, which a rewrite changes."""
    weights = [
        path
        for path in folder.glob("shards/*.safetensors")
        if path.with_suffix(".parquet").exists()
    ]
    pairs = [file for path in weights for file in (path, path.with_suffix(".parquet"))]
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in pairs}


def built(folder):
    """How many LoRAs those shards hold."""
    tables = [folder / "shards" / name for name in whole(folder) if name.endswith(".parquet")]
    return sum(pq.read_metadata(path).num_rows for path in tables)


def starts(folder):
    """How many LoRAs were missing to each build that planned."""
    return [event["missing"] for event in build_events(folder) if event["event"] == "start"]


@contextlib.contextmanager
def keeping(folder, count):
    """A build keeps what is whole: it writes none of these files again and misses none of their LoRAs."""
    before, left, told = whole(folder), count - built(folder), len(starts(folder))
    yield before
    assert before.items() <= whole(folder).items()
    assert starts(folder)[told:] in ([], [left])  # none where it was killed before it planned


def kill_at_random(folder, family, count, undisturbed, draw, *, kills, patience):
    """Kill builds at random times until it was done so often, whatever they were doing; then end one.

    Args:
        draw: a random.Random.
        patience: seconds at most until a kill.

    Returns:
        how often a shard was kept over a kill.
    """
    killed = kept = 0
    while killed < kills or not kept:
        with keeping(folder, count) as before:
            most = files(folder) + draw.randint(0, 3)
            process = start(folder, family, count, processes=2)
            seconds = draw.uniform(1, patience)
            until(process, lambda f=folder, m=most: files(f) > m, seconds)
            time.sleep(draw.uniform(0, 0.05))
            done = process.poll() is not None
            if done:
                _, told = process.communicate(timeout=60)
                assert process.returncode == 0, told
            else:
                kill_group(process)
                killed += 1
        kept += len(before) // 2
        if done:
            check(folder, undisturbed, count)
            folder = folder.with_name(f"zoo-{killed}")  # done before it was killed: begin another
    with keeping(folder, count):
        build(folder, family, count)
    check(folder, undisturbed, count)
    return kept
