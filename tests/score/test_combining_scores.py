"""Options of `aggregate` beyond a mean: published weights, directions, gates, what a score owes to length, floors and caps."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from curate import tables
from curate.score.aggregate import Aggregate

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def made(told: Any, rows: list[dict[str, Any]], **parameters: Any) -> list[float | None]:
    """The score of each row; a row is {rater: value} and may tell its domain."""
    step = Aggregate.model_validate({"name": "one", "from": told} | parameters)
    listed = [
        {"domain": row.pop("domain", None), "scores": [{"rater": "rm", "aspect": a, "value": v} for a, v in row.items()]}
        for row in map(dict, rows)
    ]
    found = step(tables.from_rows(listed, "responses"))["scores"].to_pylist()
    return [None if row[-1]["value"] is None else round(row[-1]["value"], 4) for row in found]


def test_helpsteer2_weights_make_the_published_sum() -> None:
    rows = [dict(zip(HELPSTEER, (4, 4, 4, 2, 1), strict=True)), dict(zip(HELPSTEER, (4, 4, 4, 2, 3), strict=True))]
    given = [f"rm:{name}" for name in HELPSTEER]
    # 4 (0.65 + 0.8 + 0.45) + 2 x 0.55 - 0.4
    assert made(given, rows, how="sum", preset="helpsteer2-llama3-70b") == [8.3, 7.5]


def test_a_direction_is_scaled_to_unit_length() -> None:
    assert made({"rm:help": 3, "rm:brief": 4}, [{"help": 10, "brief": 0}, {"help": 0, "brief": 10}], how="direction") == [6, 8]


def test_a_gate_weighs_by_the_prompts_domain() -> None:
    gates = {"code": {"rm:right": 1}, "*": {"rm:right": 1, "rm:nice": 3}}
    rows = [{"domain": domain, "right": 8, "nice": 4} for domain in ("code", "chat", None)]
    assert made(["rm:right", "rm:nice"], rows, how="gated", gates=gates) == [8, 5, 5]


def test_a_wrong_answer_is_capped_and_a_safe_one_has_a_floor() -> None:
    rows = [{"q": 9, "right": 0}, {"q": 9, "right": 1}, {"q": 3, "right": 0}, {"q": 1, "right": 1}, {"q": 9}]
    bounds = [{"by": "rm:right", "below": 0.5, "at_most": 5}, {"by": "rm:right", "above": 0.5, "at_least": 2}]
    assert made(["rm:q"], rows, bounds=bounds) == [5, 9, 3, 2, 9]


@pytest.mark.parametrize("grain", ["responses", "pairs"])
def test_a_score_that_pays_for_length_no_longer_does(grain: Any) -> None:
    random = np.random.default_rng(0)
    merit, length = random.normal(size=2000), random.lognormal(5, 0.5, size=2000)
    raw = merit + 0.01 * length

    def entries(row: int) -> list[dict[str, Any]]:
        told = {"rm": ("reward", raw[row]), "features": ("characters", length[row])}
        return [{"rater": rater, "aspect": aspect, "value": float(value)} for rater, (aspect, value) in told.items()]

    if grain == "pairs":
        rows = [{"chosen_scores": entries(row), "rejected_scores": entries(row + 1000)} for row in range(1000)]
    else:
        rows = [{"scores": entries(row)} for row in range(2000)]
    step = Aggregate.model_validate({"name": "one", "from": ["rm"], "decorrelate": {"against": "features:characters"}})
    table = tables.from_rows(rows, grain)
    out = step(table)
    columns = ["chosen_scores", "rejected_scores"] if grain == "pairs" else ["scores"]
    score = np.concatenate([tables.score_of(out, "one", "score", column) for column in columns])
    assert spearmanr(raw, length)[0] > 0.5
    assert spearmanr(score, length)[0] <= 0.0301
    assert spearmanr(score, merit)[0] > 0.95
    halves = [step.features(table.slice(0, 500)), step.features(table.slice(500))]
    assert step.decide(pa.concat_tables(halves)).to_pylist() == step.decide(step.features(table)).to_pylist()


def test_what_is_owed_is_measured_on_the_scale_that_raters_are_brought_to() -> None:
    random = np.random.default_rng(0)
    merit, length, other = random.normal(size=(3, 1000))
    rows = [
        {"large": float(1000 * m), "paid": float(n + o / 2), "long": float(n)}
        for m, n, o in zip(merit, length, other, strict=True)
    ]
    told: dict[str, Any] = {"calibrate": "z", "decorrelate": {"against": "rm:long"}}
    raw = np.array(made(["rm:large", "rm:paid"], rows, calibrate="z"))
    freed = np.array(made(["rm:large", "rm:paid"], rows, **told))
    assert spearmanr(raw, length).statistic > 0.5
    assert 0 < spearmanr(freed, length).statistic <= 0.031


def test_a_row_without_the_length_has_no_score() -> None:
    rows = [{"q": 1, "long": 1}, {"q": 2, "long": 2}, {"q": 3}]
    assert made(["rm:q"], rows, decorrelate={"against": "rm:long"})[2] is None


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"from": ["rm"], "how": "direction"}, "weights and `how: direction` go together"),
        ({"from": ["rm:helpfulness"], "how": "sum", "preset": "helpsteer2-llama3-70b"}, "`from` names a rater:aspect for each"),
        ({"from": ["rm"], "how": "gated"}, "`gates` and `how: gated` go together"),
        ({"from": ["rm"], "how": "gated", "gates": {"code": {"x": 1}}}, "gates, code: `from` does not name x"),
        ({"from": ["rm"], "bounds": [{"by": "v", "below": 1}]}, "a bound needs `at_most` or `at_least`"),
        ({"from": ["rm"], "bounds": [{"by": "v", "at_most": 1}]}, "a bound needs `below` or `above`"),
    ],
)
def test_what_cannot_be_combined_is_said(told: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Aggregate.model_validate(told)


def test_each_reward_is_freed_by_itself_and_the_one_it_is_held_against_counts_for_nothing() -> None:
    random = np.random.default_rng(0)
    length, merit = random.normal(size=(2, 400))
    rows = [{"paid": float(m + 2 * n), "free": float(m - n), "long": float(n)} for m, n in zip(merit, length, strict=True)]
    told: dict[str, Any] = {"how": "weighted", "decorrelate": {"against": "rm:long", "limit": 0.03, "each": True}}
    alone = {name: np.array(made({f"rm:{name}": 1}, rows, **told)) for name in ("paid", "free", "long")}
    assert 0 < spearmanr(alone["paid"], length).statistic <= 0.03
    assert alone["free"] == pytest.approx([row["free"] for row in rows], abs=1e-4)  # owed nothing
    assert np.ptp(alone["long"]) < 1e-3
    together = np.array(made({"rm:paid": 1, "rm:free": 1, "rm:long": 5}, rows, **told))
    assert np.ptp(7 * together - alone["paid"] - alone["free"]) < 0.002


def test_a_direction_may_be_each_rows_own() -> None:
    rows = [
        {
            "meta": meta,
            "scores": [{"rater": "rm", "aspect": name, "value": value} for name, value in (("help", 10.0), ("long", 5.0))],
        }
        for meta in ('{"direction": {"help": 60, "long": -80}}', '{"direction": {"help": 71}}', None)
    ]
    step = Aggregate.model_validate({"name": "one", "from": ["rm:help", "rm:long"], "how": "direction", "direction": "direction"})
    table = tables.from_rows(rows, "responses")
    assert [row[-1]["value"] for row in step(table)["scores"].to_pylist()] == [pytest.approx(10 * 0.6 - 5 * 0.8), None, None]
    assert "meta" in step.reads("responses")


def test_the_marks_that_lie_closest_together_are_averaged() -> None:
    rows = [{"a": 0, "b": 3, "c": 4, "d": 4}, {"a": 0, "b": 1, "c": 2, "d": 4}]
    raters = [f"rm:{name}" for name in "abcd"]
    assert made(raters, rows, how="closest") == [3.6667, 1]
    assert made(raters, rows, how="closest", closest=2) == [4, 0.5]
