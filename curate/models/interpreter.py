"""How this process shares time and memory while a run lasts: fewer passes of the garbage collector, quicker turns of threads."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

YOUNG_OBJECTS = 50_000
"""Objects made between two young passes: of Python's own 700, most are still in use when a pass comes."""
MIDDLE_COLLECTIONS = 100
"""Young passes to a middle one, which walks through all that the young ones left: for a run, everything on its way."""
FULL_COLLECTIONS = 1000
"""Middle passes of the garbage collector to a full one: a full one walks through every request, reply and row on its way, and
seldom finds any that is garbage (a fifth of a replay's time)."""
SWITCH_SECONDS = 0.0002
"""How long a thread that computes keeps the interpreter from the event loop: Python's own 5 ms, spent anew at every socket
call, would leave a server idle whenever a shard is prepared beside it."""


class Tuned:
    """The settings, from when it is made until `restore`."""

    def __init__(self) -> None:
        self._switched = sys.getswitchinterval()
        self._collected = gc.get_threshold()
        young, middle, full = self._collected
        sys.setswitchinterval(min(self._switched, SWITCH_SECONDS))
        if 0 < full < FULL_COLLECTIONS:
            gc.set_threshold(max(young, YOUNG_OBJECTS), max(middle, MIDDLE_COLLECTIONS), FULL_COLLECTIONS)

    def restore(self) -> None:
        """As they were."""
        gc.set_threshold(*self._collected)
        sys.setswitchinterval(self._switched)


@contextmanager
def system_memory() -> Iterator[None]:
    """Within it, Arrow's columns come from the system's allocator.

    Arrow's own takes and gives back large pages all the while, which beside a hundred thousand small objects costs a run from
    the ledger a tenth of its time, and of its memory. What the environment says in ARROW_DEFAULT_MEMORY_POOL stays.
    """
    before = pa.default_memory_pool()
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
