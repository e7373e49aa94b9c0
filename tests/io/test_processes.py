import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorascope.io import processes as processes_module
from lorascope.io.processes import cores, in_order, pool, workers_for


def doubled(items):
    return [(2 * item, os.getpid()) for item in items]


def dying(items):
    """Stands in for a fault in a library: the process is gone, no exception is raised."""
    if {3, 4, 11} & set(items):
        os.kill(os.getpid(), signal.SIGKILL)
    return doubled(items)


def failing(items):
    raise ValueError(f"found {items}")


def threads(items):
    return [os.environ["OMP_NUM_THREADS"] for _ in items]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinities")
def test_a_process_that_is_held_to_one_core_counts_one():
    allowed = os.sched_getaffinity(0)
    assert cores() == sorted(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == [min(allowed)]
        assert workers_for(100_000, chunk=16, alone=24) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_few_items_need_no_processes():
    assert workers_for(3, chunk=1, alone=4) == 1
    assert workers_for(4, chunk=4, alone=4) == 1
    assert workers_for(100_000, chunk=16, alone=24) == len(cores())


def test_results_come_in_order_from_other_processes():
    found = list(in_order(doubled, range(20), chunk=3, processes=2, died=lambda item: item))
    assert [value for value, _ in found] == [2 * item for item in range(20)]
    assert os.getpid() not in {process for _, process in found}
    assert list(in_order(doubled, [], chunk=3, processes=2, died=lambda item: item)) == []


def test_a_process_that_dies_costs_its_own_item():
    found = list(in_order(dying, range(14), chunk=4, processes=2, died=lambda item: (None, item)))
    assert [value for value, _ in found] == [
        None if item in (3, 4, 11) else 2 * item for item in range(14)
    ]
    assert [item for value, item in found if value is None] == [3, 4, 11]


def test_what_lives_beside_one_that_died_shares_a_process(monkeypatch):
    made = []
    monkeypatch.setattr(processes_module, "pool", lambda count: made.append(count) or pool(count))
    list(in_order(dying, [1, 2, 3, 5, 6], chunk=5, processes=2, died=lambda item: (None, item)))
    assert made == [1, 1, 1]  # the chunk, then one by one until it died, then what was left


def test_only_a_few_chunks_are_handed_out_ahead(monkeypatch):
    handed = []

    class Counting:
        def __init__(self, executor):
            self.executor = executor

        def __enter__(self):
            self.executor.__enter__()
            return self

        def __exit__(self, *error):
            return self.executor.__exit__(*error)

        def submit(self, work, chunk):
            handed.append(chunk)
            return self.executor.submit(work, chunk)

    monkeypatch.setattr(processes_module, "pool", lambda count: Counting(pool(count)))
    going = in_order(doubled, range(100), chunk=2, processes=1, died=lambda item: item)
    next(going)
    assert len(handed) == processes_module.AHEAD
    going.close()


def test_errors_of_the_work_pass_through():
    with pytest.raises(ValueError, match="found"):
        list(in_order(failing, [1], chunk=1, processes=1, died=lambda item: item))


def test_each_process_has_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert list(in_order(threads, [0], chunk=1, processes=1, died=str)) == ["1"]


KILLED = """
import os, time
from pathlib import Path
from lorascope.io.processes import in_order

def sleeping(items):
    Path({place!r}).write_text(str(os.getpid()))
    return list(items)

if __name__ == "__main__":
    for _ in in_order(sleeping, range(2), chunk=1, processes=1, died=str):
        time.sleep(600)
"""


def test_processes_end_with_the_one_that_was_killed(tmp_path):
    place, script = tmp_path / "pid", tmp_path / "killed.py"
    script.write_text(KILLED.format(place=str(place)))
    parent = subprocess.Popen([sys.executable, str(script)])
    try:
        assert until(lambda: place.exists() and place.read_text())
    finally:
        parent.kill()
        parent.wait()
    worker = int(place.read_text())
    assert until(lambda: not alive(worker))


def until(true, seconds=120.0):
    """Whether it is true before the time is over."""
    for _ in range(int(seconds * 20)):
        if true():
            return True
        time.sleep(0.05)
    return False


def alive(process):
    """Whether a process is there and no zombie that nobody waits for."""
    try:
        os.kill(process, 0)
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
