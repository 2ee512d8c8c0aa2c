"""Which cores each part of a model computes on where vLLM has no GPU and the model is spread over processes.

Needs the standard library alone, for the worker uses it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CORES = "VLLM_CPU_OMP_THREADS_BIND"
"""vLLM's own variable: cores of each part, commas between them and | between parts."""
NODES = Path("/sys/devices/system/node")


def cores_shared(engine: Mapping[str, Any], variables: Mapping[str, str], nodes: Path = NODES) -> str | None:
    """The cores of this process in as many parts as the model has; None where vLLM finds them by itself or is told.

    It finds them if the machine has a memory node for each part, and refuses to start if not. Parts that outnumber the cores
    take turns at them.
    """
    size = int(engine.get("tensor_parallel_size", 1)) * int(engine.get("pipeline_parallel_size", 1))
    if size == 1 or CORES in variables or len(list(nodes.glob("node[0-9]*"))) >= size:
        return None
    cores = sorted(os.sched_getaffinity(0))
    width = max(len(cores) // size, 1)
    starts = [place * width % len(cores) for place in range(size)]
    return "|".join(",".join(map(str, cores[start : start + width])) for start in starts)
