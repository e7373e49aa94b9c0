import functools
import os
import time

import torch

from lorascope.zoo.factory.pool import Failure, run_tasks


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
    time.sleep(0.01)
    return task**2, os.getpid(), torch.get_num_threads(), sorted(os.sched_getaffinity(0))


def broken_start():
    raise RuntimeError("no base")


def test_tasks_are_done_by_pinned_workers(tmp_path):
    tasks = [1, 2, 7, 13, 3, 8, 4]
    results = dict(run_tasks(tasks, functools.partial(start, tmp_path), processes=2))
    assert sorted(results) == sorted(tasks)
    for task in (1, 2, 7, 3, 4):
        assert results[task][0] == task**2
        assert results[task][1] != os.getpid()
        assert results[task][2] == 1
        assert len(results[task][3]) == 1
    assert "unlucky" in results[13].message
    assert "died twice" in results[8].message
    assert "exit code 3" in results[8].message


def test_without_processes_it_happens_here():
    results = dict(run_tasks([2, 13], start, processes=0))
    assert results[2][:2] == (4, os.getpid())
    assert isinstance(results[13], Failure)


def test_a_worker_that_cannot_start_says_why():
    (result,) = [result for _, result in run_tasks([1], broken_start, processes=1)]
    assert "no base" in result.message


def test_leaving_early_ends_the_workers():
    results = run_tasks(range(100), start, processes=1)
    _, (_, pid, _, _) = next(results)
    results.close()
    alive = os.path.exists(f"/proc/{pid}")  # noqa: PTH110
    assert not alive
