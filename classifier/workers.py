"""All cores at work on a list of items, results in order, memory bounded."""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from classifier.errors import UserError

WAITING = 4  # results a worker that may wait to be taken
SIGNALS = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield `function(item)` for each item, in the items' order, from `workers` processes.

    At most WAITING results a worker wait to be taken, so memory does not grow with the items. What
    `function` raises is raised here, in its turn. Closing the generator ends the workers.

    Args:
        function: at the top of a module, so that it can be pickled.
        items: taken one by one, as results are.
        workers: processes; 1: none, the work is done here.

    Raises:
        UserError: a worker was killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # Imported here: predict.py, which takes threads alone, starts 12 ms sooner.
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    with ProcessPoolExecutor(workers, initializer=_follow_parent) as pool:
        try:
            yield from _in_order(pool, function, items, WAITING * workers)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, for want of memory perhaps: lower --workers"
            ) from error


@contextlib.contextmanager
def processes(count: int) -> Iterator[Executor]:
    """Start processes to submit work to, which end with the block, whatever is still to be done.

    They are no copies of this process, whose threads a backend may have started. One that is
    killed breaks the pool: what is submitted then raises BrokenExecutor.
    """
    from concurrent.futures.process import ProcessPoolExecutor

    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(count, context, _follow_parent) as pool:
        # A signal to all while they start would end them, with a traceback each: it is kept back
        # until they can leave it to the parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with contextlib.suppress(OSError, EOFError):  # as it will be told of when work comes
                for _ in range(count):
                    pool.submit(int)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def threaded_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield `function(item)` for each item as `ordered_map` does, from threads of this process.

    For work that lets other threads run meanwhile, as Pillow's decoders and NumPy's products do.
    """
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, function, items, WAITING * threads)


def _in_order(pool, function, items, most):
    """Yield the results in order; at most so many are waited for at a time."""
    waiting = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Room:
    """Memory that the threads of a process share: who wants more than is left waits.

    Args:
        most: bytes of it.
    """

    def __init__(self, most: int):
        self.most = self._left = most
        self._given_back = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Take so many bytes of it in the block, at most all."""
        size = min(size, self.most)
        with self._given_back:
            self._given_back.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._given_back:
                self._left += size
                self._given_back.notify_all()


def _follow_parent():
    """Leave signals to the parent, and end when it ends, even if it was killed."""
    import multiprocessing.connection

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
