"""Soft labels from margins and from how far raters agreed."""

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.relabel.soft_label import SoftLabel


def pairs(*scores: tuple[float | None, float | None]) -> pa.Table:
    """Pairs by the scores of their sides."""
    rows = [
        {
            f"{side}_scores": [{"rater": "r", "aspect": "a", "value": value}]
            for side, value in zip(("chosen", "rejected"), both, strict=True)
        }
        for both in scores
    ]
    return tables.from_rows(rows, "pairs")


def labels(table: pa.Table, **parameters: Any) -> list[float | None]:
    made = SoftLabel(name="soft", by="r", **parameters)(table)
    return [None if value is None else round(value, 6) for value in made["label_prob"].to_pylist()]


def test_the_smallest_margins_are_doubted() -> None:
    table = pairs((9, 1), (5, 4), (3, 0), (9, 4), (7, 7.5), (None, 1))
    assert labels(table, quantile=0.25, alpha=0.2) == [1, 0.8, 1, 1, 0.8, None]
    assert labels(table) == [1, 1, 1, 1, 0.9, None]  # a tenth, by a tenth
    made = SoftLabel(name="soft", by="r")(table)
    assert tables.value_of(made["evidence"], by="soft", name="measure")[:5].tolist() == [8, 1, 3, 5, -0.5]


def test_agreement_is_the_label_of_each_or_its_mean_of_all() -> None:
    table = pairs((0.9, 0.9), (0.4, 0.4), (None, None))
    assert labels(table, how="score") == [0.9, 0.4, 0.65]  # the mean where there is none
    assert labels(table, how="mean") == [0.65] * 3


def test_what_is_no_probability_is_refused_and_no_pairs_are_none() -> None:
    with pytest.raises(ValueError, match=r"takes scores in \[0, 1\] as probabilities; r has 0.5..3"):
        labels(pairs((3, 1), (0.5, 1)), how="score")
    assert labels(pairs(), how="mean") == [] and labels(pairs((None, 2))) == [None]
    with pytest.raises(ValidationError, match="quantile and alpha belong to how: margin"):
        SoftLabel(by="r", how="mean", alpha=0.1)


def judged(name: str, *values: float | None) -> pa.Table:
    return tables.from_rows([{"evidence": [{"by": "found", "name": name, "value": value}]} for value in values], "pairs")


def test_what_a_filter_found_is_the_label() -> None:
    wrong, right = judged("flip_prob", 0.25, 1, None), judged("label_prob", 0.25, 1, None)
    made = SoftLabel(name="soft", how="evidence", by="found:flip_prob")(wrong)
    assert made["label_prob"].to_pylist() == [0.75, 0, None]
    assert tables.value_of(made["evidence"], by="soft", name="measure")[:2].tolist() == [0.75, 0]
    assert SoftLabel(name="soft", how="evidence", by="found:label_prob")(right)["label_prob"].to_pylist() == [0.25, 1, None]


def test_the_evidence_is_a_probability_and_not_the_truth() -> None:
    with pytest.raises(ValueError, match="found:margin is no probability"):
        SoftLabel(name="soft", how="evidence", by="found:margin")(judged("margin", 2.0))
    with pytest.raises(ValidationError, match="planted truth"):
        SoftLabel(how="evidence", by="inject_noise:planted")
