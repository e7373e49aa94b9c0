import os

import pytest

from lorascope.bench import demo, run
from lorascope.bench.cores import cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinities")
def test_a_process_that_is_held_to_one_core_counts_one():
    allowed = os.sched_getaffinity(0)
    assert cores() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_benchmark_and_demo_count_alike():
    assert run.cores is demo.cores is cores
