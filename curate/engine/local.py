"""Run work on this machine: threads where work waits or releases the interpreter lock, processes where Python is busy."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Literal, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

ORPHAN_SECONDS = 1.0  # how often a worker process looks whether its parent still lives


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _start_worker(parent: int) -> None:
    """Ctrl-C is the driver's to handle; a worker whose driver was killed must not stay behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


class LocalEngine:
    """Maps a function over shard references, in order, a few in flight at a time.

    workers: threads or processes at once; None: the cores this process may use.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))

    def map(
        self, work: Callable[[Task], Result], tasks: Sequence[Task], runs_on: Literal["thread", "process", "gpu"] = "thread"
    ) -> Iterator[Result]:
        """Results in the order of the tasks. On any error or Ctrl-C, tasks not begun are dropped and begun ones end."""
        count = min(self.workers, len(tasks))
        if count <= 1:  # one shard has nothing to run beside: a pool would only add its start
            yield from map(work, tasks)
            return
        pool: Executor
        if runs_on == "process":
            pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(os.getpid(),))
        else:
            pool = ThreadPoolExecutor(count)
        waiting: deque[Future[Result]] = deque()
        try:
            rest = iter(tasks)
            for task in rest:
                waiting.append(pool.submit(work, task))
                # one task more than workers: read-ahead without holding more shards than that in memory
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
