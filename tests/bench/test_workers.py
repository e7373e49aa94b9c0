import os

import pytest
import torch

from lorascope.bench.workers import as_they_end, run_bar
from lorascope.errors import TrainingError


def threads(task):
    return task, torch.get_num_threads()


def end(task):
    os._exit(1)


def test_every_task_is_done_on_one_thread():
    found = as_they_end(threads, range(3), 2, doing="Trying")
    assert sorted(found) == [(0, 1), (1, 1), (2, 1)]


def test_a_process_that_ends_is_told_with_what_was_going_on():
    with pytest.raises(TrainingError, match="Trying: a worker process ended before its time"):
        list(as_they_end(end, [0], 1, doing="Trying"))


def test_the_bar_counts_from_what_was_done_before(capsys):
    with run_bar("runs", 3, 1, str, show=True) as advance:
        advance(7)
    shown = capsys.readouterr()
    assert "2/3" in shown.err
    assert shown.out == ""
    with run_bar("runs", 3, 1, str, show=False) as advance:
        advance(7)
    assert capsys.readouterr().err == ""
