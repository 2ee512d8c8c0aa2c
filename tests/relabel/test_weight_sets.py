"""Weights of several preference sets."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.errors import StepError
from curate.maths.min_norm import preference_ece
from curate.relabel.weight_sets import WeightSets


def pairs(**of: int) -> pa.Table:
    """So many pairs of each set; rewards speak for the chosen side three times in four."""
    random = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for name, count in of.items():
        for n in range(count):
            gap = random.normal() + 0.7
            sides = {
                f"{side}_scores": [{"rater": "rm", "aspect": "reward", "value": value}]
                for side, value in (("chosen", gap), ("rejected", 0))
            }
            rows.append({"source": name, "prompt_id": f"{name}{n}", "row": len(rows)} | sides)
    return tables.from_rows(rows, "pairs")


def weigh(table: pa.Table, **parameters: Any) -> pa.Table:
    told: dict[str, Any] = {"use": ["rm"], "steps": 100} | parameters
    return WeightSets(name="sets", **told)(table)


def told(made: pa.Table, name: str) -> np.ndarray:
    return tables.value_of(made["evidence"], by="sets", name=name)


def test_a_pair_of_a_small_set_counts_more_and_the_mean_is_one() -> None:
    made = weigh(pairs(big=300, small=100))
    weights = made["weight"].to_numpy()
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    share = told(made, "share")
    assert share[0] + share[-1] == pytest.approx(1)
    assert (weights[0], weights[-1]) == (pytest.approx(share[0] * 400 / 300), pytest.approx(share[-1] * 400 / 100))
    assert len(set(weights[:300])) == len(set(weights[300:])) == 1


def test_calibration_is_that_of_the_margins_told() -> None:
    made = weigh(pairs(big=300, small=100))
    assert told(made, "ece")[0] == pytest.approx(preference_ece(told(made, "margin")), abs=1e-6)
    assert 0 < told(made, "ece_even")[0] < 0.2


def test_margins_are_by_heads_that_saw_no_pair_of_the_prompt() -> None:
    """Labels of pure noise, many features: a head that had seen the pair would find most labels right."""
    random = np.random.default_rng(2)
    rows = []
    for n in range(120):
        scores = [[{"rater": f"r{k}", "aspect": "x", "value": random.normal()} for k in range(40)] for _ in range(2)]
        rows.append({"source": "ab"[n % 2], "prompt_id": str(n), "chosen_scores": scores[0], "rejected_scores": scores[1]})
    made = weigh(tables.from_rows(rows, "pairs"), use=[f"r{k}" for k in range(40)], steps=400)
    assert (told(made, "margin") > 0).mean() < 0.65


def test_pairs_without_a_set_or_a_number_have_no_weight() -> None:
    table = pairs(a=20, b=20)
    rows = table.to_pylist()
    rows[3]["source"], rows[5]["rejected_scores"] = None, []
    made = weigh(tables.from_rows(rows, "pairs"))
    assert [n for n, weight in enumerate(made["weight"].to_pylist()) if weight is None] == [3, 5]


def test_one_set_is_refused_by_name() -> None:
    with pytest.raises(StepError, match="are of 1 by `source`"):
        weigh(pairs(only=10))
    with pytest.raises(ValidationError, match="a model, or at least one entry of use"):
        WeightSets(sets="domain")
