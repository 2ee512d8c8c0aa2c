"""Weights of pairs, each way by its published formula."""

import math
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.relabel.weight import Weight


def pairs(count: int, **columns: list[Any]) -> pa.Table:
    return tables.from_rows([{name: values[n] for name, values in columns.items()} for n in range(count)], "pairs")


def evidence(*values: float | None, by: str = "m", name: str = "x") -> list[list[dict[str, Any]]]:
    return [[{"by": by, "name": name, "value": value}] for value in values]


def scores(*rows: dict[str, float | None]) -> list[list[dict[str, Any]]]:
    return [[{"rater": rater, "aspect": "mean_logprob", "value": value} for rater, value in row.items()] for row in rows]


def weigh(table: pa.Table, **parameters: Any) -> list[float | None]:
    made: list[float | None] = Weight(name="w", **parameters)(table)["weight"].to_pylist()
    return made


def s(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_confidence_and_right_go_by_the_probability_of_a_right_label() -> None:
    table = pairs(3, label_prob=[0.5, 1.0, 0.1], evidence=evidence(0.25, 0, None, name="flip_prob"))
    assert weigh(table, how="confidence") == pytest.approx([0, 1, 0.8])
    assert weigh(table, how="right", min=0.2) == pytest.approx([0.5, 1, 0.2])
    assert weigh(table, how="right", by="m:flip_prob") == [0.75, 1, None]


def test_margin_scales_as_mm_dpo_does() -> None:
    table = pairs(5, margin=[0.0, 2.0, None, -4.0, -2000.0], evidence=evidence(1, 1, 1, 1, None))
    # w = k = 1/2: 1 + 0.5 (1 - exp(-0.5 delta)), at least a thousandth
    expected = [1, 1 + 0.5 * (1 - math.exp(-1)), None, 0.001, 0.001]
    assert weigh(table, how="margin") == pytest.approx(expected)
    assert weigh(table, how="margin", by="m:x", factor=2, scale=4)[0] == pytest.approx(1 + 2 * (1 - math.exp(-0.25)))


def test_hardness_is_relative_to_the_mean() -> None:
    table = pairs(3, difficulty=[0.0, 1.0, None], evidence=evidence(2.0, 6.0, None))
    assert weigh(table, how="hardness") == pytest.approx([s(0) / s(0.5), s(1) / s(0.5), None])
    assert weigh(table, how="hardness", by="m:x", scale=2) == pytest.approx([s(1) / s(2), s(3) / s(2), None])


def test_hardness_with_gaps_leaves_outliers_out_of_the_models_response() -> None:
    gaps = [1.0] * 19 + [21.0]  # mean 2, standard deviation 4.36
    both = [hard + gap for hard, gap in zip(evidence(*[0.0] * 20), evidence(*gaps, by="rm", name="gap"), strict=True)]
    found = weigh(pairs(20, evidence=both), how="hardness", by="m:x", gap="rm:gap")
    assert found == pytest.approx([s(1) / s(2)] * 20)


def test_likelihood_compares_aligned_models_with_the_one_to_be_trained() -> None:
    table = pairs(3, chosen_scores=scores({"a": -1, "b": -2, "q": -1.5}, {"a": -1, "b": -1, "q": -3}, {"a": -1, "q": -1}))
    series = ["a:mean_logprob", "b:mean_logprob"]
    assert weigh(table, how="likelihood", scores=series, policy="q:mean_logprob") == pytest.approx([0.5, s(2), None])
    # without a policy: against the mean over all pairs, -1.25
    assert weigh(table, how="likelihood", scores=series) == pytest.approx([s(-0.25), s(0.25), None])


def test_pairs_led_by_the_top_level_count_two_and_a_half_times() -> None:
    table = pairs(4, chosen_scores=scores({"v": 3}, {"v": -0.5}, {"v": None}, {"v": 3}))
    assert weigh(table, how="level", scores=["v:mean_logprob"]) == [2.5, 1, None, 2.5]
    assert weigh(table, how="level", scores=["v:mean_logprob"], top=-0.5, factor=2) == [2, 2, None, 2]


def test_means_are_over_all_shards() -> None:
    table, step = pairs(2, difficulty=[0.0, 1.0]), Weight(name="w", how="hardness")
    state = step.decide(step.features(table))
    assert step.apply(table.slice(1), state)["weight"].to_pylist() == pytest.approx([s(1) / s(0.5)])


@pytest.mark.parametrize(
    "wrong",
    [{"how": "level"}, {"how": "likelihood"}, {"how": "right", "scale": 1}, {"how": "margin", "gap": "a:b"}]
    + [{"how": "margin", "by": "inject_noise:planted"}, {"how": "margin", "top": 1}, {"how": "level", "scores": ["a", "b"]}],
)
def test_parameters_of_another_way_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Weight(**wrong)


def test_nothing_known_is_no_weight() -> None:
    assert weigh(pairs(2, margin=[None, None]), how="margin") == [None, None]
    assert weigh(tables.empty("pairs"), how="hardness") == []
