"""Curricula: stages and difficulty."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import tables
from curate.relabel.order import Order


def pairs(*margins: float | None, prompts: str = "") -> pa.Table:
    rows = [{"margin": margin, "prompt_id": prompts[n : n + 1] or "p"} for n, margin in enumerate(margins)]
    return tables.from_rows(rows, "pairs")


def test_stages_hold_equal_shares_the_easiest_first() -> None:
    made = Order(name="o", stages=2)(pairs(4, 1, None, 3, 2))
    assert made["stage"].to_pylist() == [0, 1, None, 0, 1]
    assert made["difficulty"].to_pylist() == pytest.approx([0, 0.75, None, 0.25, 0.5])
    assert Order(name="o", stages=2, first="hard")(pairs(0, 1))["stage"].to_pylist() == [0, 1]


def test_a_low_loss_is_easy() -> None:
    rows = [{"evidence": [{"by": "review", "name": "loss_mean", "value": loss}]} for loss in (0.1, 2.0, 0.7)]
    made = Order(name="o", by="review:loss_mean", easy="low")(tables.from_rows(rows, "pairs"))
    assert made["stage"].to_pylist() == [0, 2, 1]


def test_a_gap_parts_easy_from_hard_and_negative_ones_are_hard() -> None:
    gaps = (0.9 - 0.6, 2.0, 0.1, -1.0)  # 0.3 in float32 is a little off
    assert Order(name="o", cut_at=0.3)(pairs(*gaps))["stage"].to_pylist() == [0, 0, 1, 1]
    assert Order(name="o", cut_at=0.3, first="hard")(pairs(*gaps))["stage"].to_pylist() == [1, 1, 0, 0]
    assert Order(name="o", cut_at=0.3, easy="low")(pairs(*gaps))["stage"].to_pylist() == [0, 1, 0, 0]


def test_within_a_prompt_each_pair_has_a_stage_of_its_own() -> None:
    made = Order(name="o", within="prompt")(pairs(1, 3, 2, 10, 30, 20, prompts="aaabbb"))
    assert made["stage"].to_pylist() == [2, 0, 1, 2, 0, 1]
    assert Order(name="o")(pairs(1, 3, 2, 10, 30, 20, prompts="aaabbb"))["stage"].to_pylist() == [2, 1, 2, 1, 0, 0]


@given(st.integers(1, 60), st.integers(1, 60))
def test_stages_differ_in_size_by_one_at_most(count: int, stages: int) -> None:
    made = Order(name="o", stages=stages)(pairs(*range(count)))["stage"].to_pylist()
    sizes = [made.count(stage) for stage in range(stages)]
    assert sum(sizes) == count and max(sizes) - min(sizes) <= 1
    assert made == sorted(made, reverse=True)  # rising margins, ever easier


def test_the_truth_orders_nothing() -> None:
    with pytest.raises(ValidationError, match="planted truth"):
        Order(by="inject_noise:planted")


def test_a_cut_makes_two_stages_and_no_other_number() -> None:
    with pytest.raises(ValidationError, match="cut_at makes two stages, got stages: 5"):
        Order(cut_at=1.0, stages=5)
    assert Order(cut_at=1.0, stages=2) and Order(cut_at=1.0)
