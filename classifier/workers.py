"""All cores at work on a list of items, results in order, memory bounded."""

import collections
import concurrent.futures
import concurrent.futures.process
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading

from classifier.errors import UserError


def ordered_map(function, items, workers):
    """Yield `function(item)` for each item, in the items' order, from `workers` processes.

    At most four results a worker wait to be taken, so memory does not grow with the items. Raises
    UserError if a worker is killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    with concurrent.futures.ProcessPoolExecutor(workers, initializer=_follow_parent) as pool:
        waiting = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, for want of memory perhaps: lower --workers"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _follow_parent():
    """Leave signals to the parent, and end when it ends, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
