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
from curate.pair.pair import Pair
from curate.store.versions import Version
from tests.publish.versions import answer, make

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


def answers(*rows: tuple[str, str, float | None], **common: Any) -> list[Row]:
    """Responses from (prompt, text, score by rm)."""
    return [answer(prompt, text, score, **common) for prompt, text, score in rows]


@pytest.fixture
def listed(tmp_path: Path) -> MakeVersion:
    """Makes a version of responses, paired best against worst unless told otherwise."""

    def build(rows: Sequence[Row], operators: Sequence[Operator] | None = None, root: str = "store") -> Version:
        return make(tmp_path / root, rows, [Pair(name="pair", by="rm")] if operators is None else operators)

    return build


LIST = ("ranked-list", "scored-list", "rlhflow", "triple", "attributes")
"""Formats made of responses."""
RICH: dict[str, Row] = {
    "soft-dpo": {"label_prob": 0.9, "weight": 2.0},
    "masked-dpo": {"spans": [{"side": "chosen", "start": 0, "end": 2, "weight": 0.0}]},
    "stages": {"stage": 0},
    "sppo": {"label_prob": 0.9, "chosen_scores": scores({"p:win": 0.7}), "rejected_scores": scores({"p:win": 0.3})},
    "regression": {"label_prob": 0.9, "evidence": [{"by": "p", "name": "logit", "value": 2.2}]},
}
"""What pairs have besides, for each format that needs it."""
NEEDED: dict[str, Row] = {"trl-kto": {"by": "rm", "threshold": 5}, "regression": {"by": "p"}}
"""Options that a format needs for the versions of `fitting`."""


@pytest.fixture
def fitting(version: MakeVersion, listed: MakeVersion) -> Callable[[str], Version]:
    """Makes a small version that a format can be made of."""

    def build(name: str) -> Version:
        if name in LIST:
            return listed(answers(("A?", "good", 9), ("A?", "fair", 5), ("A?", "bad", 1)))
        more = RICH.get(name, {"margin": 1.5, "meta": '{"k": 1}'})
        return version([pair(prompt, "good", "bad", **more) for prompt in ("A?", "B?")])

    return build


@pytest.fixture
def trl() -> None:
    """TRL; without it the test is skipped, or fails where CI=true."""
    if importlib.util.find_spec("trl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("trl is missing: pip install 'curate[export-check]'")
        pytest.skip("trl is missing: pip install 'curate[export-check]'")


def read(folder: Path, split: str = "train") -> list[Row]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_bytes().split(b"\n") if line]
