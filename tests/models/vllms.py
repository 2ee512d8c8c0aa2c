"""What the tests of vLLM share: its environment, tiny models and how they are set up."""

import os
from pathlib import Path
from typing import Any

import pytest

from curate.models.spec import ModelSpec
from curate.models.vllm_install import look

SMALL: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "env.VLLM_CPU_KVCACHE_SPACE": 1,
    "env.VLLM_ENABLE_V1_MULTIPROCESSING": 0,  # loads in half the time
}


def need_vllm() -> Path:
    """The interpreter; without one, skipped, or failed where CI=true."""
    found = look()
    if found is not None and found.fault is None:
        return found.python
    reason = "vLLM is not installed: `make vllm`" if found is None else str(found.fault)
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def spec(folder: Path, **options: Any) -> ModelSpec:
    return ModelSpec(backend="vllm", name=str(folder), options=SMALL | options)


def written(text: str | None) -> str:
    """Without the beginning of a character that the last tokens cut off: vLLM leaves it out."""
    return (text or "").rstrip("\ufffd")


def workers() -> list[int]:
    """Living worker processes that this one started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"vllm_worker.py" in command and parent == os.getpid():
            found.append(int(process.name))
    return found
