"""Run work on this machine: threads where work waits or releases the interpreter lock, processes where Python is busy."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Self, TypeVar

from curate.operator import RunsOn

Task = TypeVar("Task")
Result = TypeVar("Result")

WAITING_SHARDS = 4  # shards whose model calls are in flight together, so that one slow answer idles nobody
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

    workers: threads or processes at once; None: the cores this process may use. Pools are started when first needed
    and kept until the engine is left as a context.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pools: dict[str, Executor] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools.clear()

    def _at_once(self, runs_on: RunsOn) -> int:
        return max(self.workers, WAITING_SHARDS) if runs_on == "wait" else self.workers

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task], runs_on: RunsOn = "thread") -> Iterator[Result]:
        """Results in the order of the tasks. On any error or Ctrl-C, tasks not begun are dropped and begun ones end."""
        if min(self._at_once(runs_on), len(tasks)) <= 1:  # one shard has nothing to run beside: a pool would only add its start
            yield from map(work, tasks)
            return
        pool = self._pool(runs_on)
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                # one task more than workers: read-ahead without holding more shards than that in memory
                if len(waiting) > self._at_once(runs_on):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _pool(self, runs_on: RunsOn) -> Executor:
        if runs_on not in self._pools:
            if runs_on == "process":
                self._pools[runs_on] = ProcessPoolExecutor(
                    self.workers,
                    get_context("spawn"),  # a forked child would inherit the locks of threads that it does not have
                    initializer=_start_worker,
                    initargs=(os.getpid(),),
                )
            else:
                self._pools[runs_on] = ThreadPoolExecutor(self._at_once(runs_on))
        return self._pools[runs_on]
