"""Work in several processes: in order, bounded, and ended with the generator."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from classifier.errors import UserError
from classifier.workers import Room, ordered_map, processes, threaded_map


def square(number):
    return number * number


def fail_at_3(number):
    if number == 3:
        raise OSError(5, "Input/output error", "3.jpg")
    return number


def killed_at_3(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def out_of_memory(_number):
    raise MemoryError("3.jpg: not enough memory to decode it")


def process(_number):
    return os.getpid()


def leaves_signals_to_the_parent(_number):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    return handlers == (signal.SIG_IGN, signal.SIG_DFL)


class Counted:
    """Items that know how many of them were taken."""

    def __init__(self, count):
        self.count, self.taken = count, 0

    def __iter__(self):
        for number in range(self.count):
            self.taken += 1
            yield number


EITHER = pytest.mark.parametrize("mapped", [ordered_map, threaded_map])


@EITHER
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_items_order(mapped, workers):
    assert list(mapped(square, range(50), workers)) == [i * i for i in range(50)]
    assert list(mapped(square, [], workers)) == []


@EITHER
@pytest.mark.parametrize(("workers", "bound"), [(1, 1), (2, 8), (3, 12)])
def test_items_are_taken_only_as_results_are(mapped, workers, bound):
    items = Counted(100)
    for done, _ in enumerate(mapped(square, items, workers)):
        assert items.taken - done <= bound  # the result at hand is one of them
    assert items.taken == 100


def test_several_processes_work():
    assert os.getpid() not in set(ordered_map(process, range(20), 2))
    assert set(ordered_map(process, range(20), 1)) == {os.getpid()}


def test_several_threads_work_at_a_time_and_one_is_this_one():
    together = threading.Barrier(3, timeout=10)
    threads = set(threaded_map(lambda _: (together.wait(), threading.get_ident())[1], range(3), 3))
    assert len(threads) == 3
    alone = set(threaded_map(lambda _: threading.get_ident(), range(3), 1))
    assert alone == {threading.get_ident()}


def test_closing_the_generator_ends_the_workers():
    before = set(multiprocessing.active_children())
    items = Counted(10_000)
    with contextlib.closing(ordered_map(square, items, 2)) as results:
        assert next(results) == 0
        assert set(multiprocessing.active_children()) > before
    assert set(multiprocessing.active_children()) == before
    assert items.taken <= 8
    assert list(results) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_system_comes_in_its_turn_with_the_file_named(workers):
    results = ordered_map(fail_at_3, range(1000), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="3.jpg") as caught:
        next(results)
    assert (caught.value.errno, caught.value.filename) == (5, "3.jpg")
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_want_of_memory_reaches_the_caller(workers):
    with pytest.raises(MemoryError, match="3.jpg"):
        list(ordered_map(out_of_memory, range(3), workers))


def test_a_killed_worker_is_one_line():
    with pytest.raises(UserError, match="killed.*lower --workers") as caught:
        list(ordered_map(killed_at_3, range(1000), 2))
    assert len(str(caught.value).splitlines()) == 1
    assert multiprocessing.active_children() == []


def test_closing_the_generator_calls_off_the_work_that_waits(monkeypatch):
    called_off = []
    monkeypatch.setattr(concurrent.futures.Future, "cancel", lambda f: called_off.append(f))
    with contextlib.closing(ordered_map(square, range(100), 2)) as results:
        next(results)
    assert len(called_off) == 7  # of 8 that may wait one was taken


def test_workers_leave_signals_to_their_parent():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        assert all(ordered_map(leaves_signals_to_the_parent, range(8), 2))
    finally:
        signal.signal(signal.SIGTERM, before)


SCRIPT = """
import os, signal
from classifier.workers import ordered_map

if __name__ == "__main__":
    for _ in ordered_map(abs, range(100), 2):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.communicate(timeout=60)  # the end comes when no worker holds the other side
    assert process.returncode == -signal.SIGKILL


def test_threads_wait_for_room_and_have_no_more_than_there_is():
    room, inside, most = Room(10), [], []

    def work(size):
        with room.taken(size):
            inside.append(min(size, 10))
            most.append(sum(inside))
            time.sleep(0.001)
            inside.remove(min(size, 10))

    list(threaded_map(work, [3, 4, 6, 7, 10, 99] * 10, 4))
    assert len(most) == 60
    assert max(most) == 10
    with room.taken(99), pytest.raises(OSError):  # at most all that there is
        raise OSError
    with room.taken(room.most):  # it was given back
        pass


def test_processes_leave_signals_to_the_parent_and_end_with_the_block():
    with processes(2) as pool:
        assert pool.submit(leaves_signals_to_the_parent, 0).result()
        assert pool.submit(unblocked).result()
        waiting = [pool.submit(time.sleep, 0.2) for _ in range(20)]
    assert not multiprocessing.active_children()
    assert sum(future.cancelled() for future in waiting) > 10


def unblocked():
    return signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
