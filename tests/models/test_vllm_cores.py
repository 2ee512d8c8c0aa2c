"""A model that is spread over processes has cores for each, without a memory node for each."""

import os
from pathlib import Path

import pytest

from curate.models.vllm_cores import CORES, cores_shared


@pytest.mark.parametrize(
    ("parts", "shared"),
    [
        ({}, None),
        ({"tensor_parallel_size": 2}, "0,1|3,5"),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, "0|1|3|5"),
        ({"pipeline_parallel_size": 3}, "0|1|3"),
        ({"tensor_parallel_size": 6}, "0|1|3|5|0|1"),
    ],
)
def test_each_part_has_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts: dict[str, int], shared: str | None) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 0, 3, 1})
    (tmp_path / "node0").mkdir()
    assert cores_shared(parts, {}, tmp_path) == shared


def test_what_is_told_or_found_by_vllm_itself_stays(tmp_path: Path) -> None:
    two = {"tensor_parallel_size": 2}
    assert cores_shared(two, {CORES: "0|1"}, tmp_path) is None
    for name in ("node0", "node1", "possible"):
        (tmp_path / name).mkdir()
    assert cores_shared(two, {}, tmp_path) is None
    assert cores_shared({"tensor_parallel_size": 3}, {}, tmp_path) is not None
