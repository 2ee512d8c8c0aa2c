"""Versions to export, through the real publish, from pairs that can be checked by eye."""

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import ids
from curate.operator import Operator
from curate.store.versions import Version
from tests.publish.versions import make

Row = dict[str, Any]
MakeVersion = Callable[..., Version]


def messages(text: str | list[Row]) -> list[Row]:
    return [{"role": "user", "content": text}] if isinstance(text, str) else text


def scores(values: dict[str, float | None]) -> list[Row]:
    """Scores by rater:aspect."""
    split = [(*name.partition(":")[::2], value) for name, value in values.items()]
    return [{"rater": rater, "aspect": aspect or "help", "value": value} for rater, aspect, value in split]


def pair(prompt: str | list[Row], chosen: str, rejected: str, rm: tuple[float | None, float | None] = (8, 2), **more: Any) -> Row:
    """A pair; its responses have the scores rm."""
    asked = messages(prompt)
    prompt_id = ids.prompt_id(asked)
    sides = [ids.response_id(prompt_id, text) for text in (chosen, rejected)]
    row = {
        "prompt": asked,
        "prompt_id": prompt_id,
        "pair_id": ids.pair_id(*sides),
        "chosen": chosen,
        "rejected": rejected,
        "chosen_id": sides[0],
        "rejected_id": sides[1],
        "chosen_scores": scores({"rm": rm[0]}),
        "rejected_scores": scores({"rm": rm[1]}),
        "origin": "observed",
    }
    return row | more


@pytest.fixture
def version(tmp_path: Path) -> MakeVersion:
    """Makes a version of pairs, after some operators."""

    def build(rows: Sequence[Row], operators: Sequence[Operator] = (), root: str = "store") -> Version:
        return make(tmp_path / root, rows, operators, grain="pairs")

    return build


@pytest.fixture
def trl() -> None:
    """TRL; without it the test is skipped, or fails where CI=true."""
    if importlib.util.find_spec("trl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("trl is missing: pip install 'curate[export-check]'")
        pytest.skip("trl is missing: pip install 'curate[export-check]'")


def read(folder: Path, split: str = "train") -> list[Row]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
