import multiprocessing
import os

from lorascope.zoo.factory.memory import MemoryWatch, resident_bytes

SIZE = 200_000_000


def hold(ready, done):
    filled = b"x" * SIZE
    ready.set()
    done.wait(30)
    assert filled


def test_children_count_too():
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    alone = resident_bytes(os.getpid())
    with MemoryWatch() as watch:
        child = context.Process(target=hold, args=(ready, done))
        child.start()
        assert ready.wait(30)
        both = resident_bytes(os.getpid())
        done.set()
        child.join()
    assert both - alone > SIZE
    assert watch.peak_bytes >= alone > 0
