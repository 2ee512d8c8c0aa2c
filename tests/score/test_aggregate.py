"""One score of several: reductions, weights, scales, and who is missing."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import tables
from curate.score.aggregate import Aggregate


def aggregate(*raters: str, **parameters: Any) -> Aggregate:
    return Aggregate.model_validate({"name": "agg", "from": raters} | parameters)


def scores(**values: float | None) -> list[dict[str, Any]]:
    return [{"rater": rater, "aspect": "score", "value": value} for rater, value in values.items()]


def responses(*rows: list[dict[str, Any]]) -> pa.Table:
    return tables.from_rows([{"response": "ok", "scores": row} for row in rows], "responses")


def result(table: pa.Table, column: str = "scores") -> list[float | None]:
    """The last score of each row, to five digits."""
    last = [row[-1] for row in table[column].to_pylist()]
    assert all((entry["rater"], entry["aspect"]) == ("agg", "score") for entry in last)
    return [None if entry["value"] is None else round(entry["value"], 5) for entry in last]


@pytest.mark.parametrize(("how", "expected"), [("mean", 4.0), ("min", 1.0), ("max", 9.0), ("median", 2.0)])
def test_three_scores_become_one(how: str, expected: float) -> None:
    assert result(aggregate("a", "b", "c", how=how)(responses(scores(a=1, b=9, c=2)))) == [expected]


@pytest.mark.parametrize(("how", "expected"), [("mean", 5.0), ("min", 1.0), ("max", 9.0), ("median", 5.0)])
def test_a_missing_score_is_left_out_if_any_rater_will_do(how: str, expected: float) -> None:
    table = responses(scores(a=1, b=9, c=None), scores(a=None, b=None, c=None), scores(c=7))
    assert result(aggregate("a", "b", "c", how=how, require="any")(table)) == [expected, None, 7.0]


def test_the_median_of_an_even_number_lies_between_the_middle_two() -> None:
    assert result(aggregate("a", "b", "c", "d", how="median")(responses(scores(a=1, b=2, c=4, d=100)))) == [3.0]


def test_weights_may_count_against() -> None:
    step = aggregate(how="weighted", **{"from": {"help": 3, "verbosity": -1}})
    assert result(step(responses(scores(help=4, verbosity=4), scores(help=4, verbosity=0)))) == [2.0, 3.0]


def test_weights_of_missing_raters_are_left_out_of_the_sum() -> None:
    step = aggregate(how="weighted", require="any", **{"from": {"a": 3, "b": 1}})
    assert result(step(responses(scores(a=4), scores(b=4)))) == [4.0, 4.0]


def test_missing_raters_are_named_and_give_no_number() -> None:
    table = responses(scores(a=1, b=2, c=3), scores(b=2), scores())
    out = aggregate("a", "b", "c")(table)
    assert result(out) == [2.0, None, None]
    assert [row[-1]["error"] for row in out["scores"].to_pylist()] == [
        None,
        "2 of 3 raters missing: a, c",
        "3 of 3 raters missing: a, b, c",
    ]


def test_a_number_of_raters_may_be_enough() -> None:
    table = responses(scores(a=1, b=2, c=3), scores(b=2, c=4), scores(b=2))
    assert result(aggregate("a", "b", "c", require=2)(table)) == [2.0, 3.0, None]


def test_a_score_that_is_no_finite_number_is_missing() -> None:
    table = responses(scores(a=float("inf"), b=1), scores(a=float("nan"), b=1), scores(a=1, b=1))
    assert result(aggregate("a", "b", calibrate="z")(table)) == [None, None, 0.0]
    assert result(aggregate("a", "b", require="any", how="max")(table)) == [1.0, 1.0, 1.0]


def test_an_aspect_picks_one_score_of_a_rater() -> None:
    row = [{"rater": "judge", "aspect": "depth", "value": 3.0}, {"rater": "judge", "aspect": "style", "value": 5.0}]
    assert result(aggregate("judge:depth", "judge:style")(responses(row))) == [4.0]
    assert result(aggregate("judge:depth")(responses(row))) == [3.0]
    with pytest.raises(ValueError, match="judge has several aspects in scores"):
        aggregate("judge")(responses(row))


def test_z_puts_raters_of_unlike_units_on_one_scale() -> None:
    table = responses(scores(a=0, b=100), scores(a=1, b=300), scores(a=2, b=200))
    z = round(1.5**0.5, 5)
    assert result(aggregate("a", "b", calibrate="z")(table)) == [-z, round(z / 2, 5), round(z / 2, 5)]


def test_quantiles_put_raters_of_unlike_shape_on_one_scale() -> None:
    table = responses(scores(a=0, b=1), scores(a=1, b=10), scores(a=2, b=1000), scores(a=2, b=10000))
    # a: 0 at 1/8, 1 at 3/8, 2 at 3/4; b: 1/8, 3/8, 5/8, 7/8
    assert result(aggregate("a", "b", calibrate="quantile")(table)) == [0.125, 0.375, 0.6875, 0.8125]


def test_a_rater_that_says_the_same_of_all_weighs_nothing() -> None:
    table = responses(scores(a=0.1, b=1), scores(a=0.1, b=3), scores(a=0.1, b=2))
    assert result(aggregate("a", calibrate="z")(table)) == [0.0, 0.0, 0.0]
    assert result(aggregate("a", calibrate="quantile")(table)) == [0.5, 0.5, 0.5]


def test_pairs_get_a_score_on_either_side_on_one_scale() -> None:
    rows = [
        {"chosen": "a", "rejected": "b", "chosen_scores": scores(rm=4), "rejected_scores": scores(rm=2)},
        {"chosen": "a", "rejected": "b", "chosen_scores": scores(rm=3), "rejected_scores": scores(rm=1)},
    ]
    out = aggregate("rm", calibrate="quantile")(tables.from_rows(rows, "pairs"))
    assert out.column_names == ["chosen_scores", "rejected_scores"]
    assert result(out, "chosen_scores") == [0.875, 0.625]
    assert result(out, "rejected_scores") == [0.375, 0.125]


@pytest.mark.parametrize("calibrate", ["none", "z", "quantile"])
def test_a_rater_that_scored_nothing_leaves_nulls(calibrate: str) -> None:
    table = responses(scores(a=None), [], scores(a=None))
    assert result(aggregate("a", calibrate=calibrate, require="any")(table)) == [None] * 3


@pytest.mark.parametrize("calibrate", ["none", "z", "quantile"])
@pytest.mark.parametrize("grain", ["responses", "pairs"])
@pytest.mark.parametrize("how", ["mean", "min", "median"])
def test_an_empty_table_stays_empty(calibrate: str, grain: tables.Grain, how: str) -> None:
    step = aggregate("a", "b", calibrate=calibrate, how=how)
    assert step(tables.empty(grain).select(step.columns(grain))).num_rows == 0


def test_raters_may_be_named_in_any_script() -> None:
    table = responses([{"rater": "قاضٍ", "aspect": "👍", "value": 2.0}, {"rater": "שופט", "aspect": "👍", "value": 4.0}], [])
    out = aggregate("قاضٍ:👍", "שופט")(table)
    assert result(out) == [3.0, None]
    assert out["scores"].to_pylist()[1][0]["error"] == "2 of 2 raters missing: قاضٍ:👍, שופט"


@pytest.mark.parametrize("calibrate", ["none", "z", "quantile"])
def test_shards_score_as_the_whole_and_the_input_stays(calibrate: str) -> None:
    drawn = np.random.default_rng(7).normal(size=(50, 2))
    table = responses(*(scores(a=float(a), b=float(b)) for a, b in drawn), scores(a=1))
    before = table.to_pylist()
    step = aggregate("a", "b", calibrate=calibrate)
    whole = step(table)
    parts = [table.slice(0, 10), table.slice(10, 0), table.slice(10)]
    state = step.decide(pa.concat_tables([step.features(part) for part in parts]))
    applied = pa.concat_tables([step.apply(part, state) for part in parts])
    assert applied.to_pylist() == whole.to_pylist() == step(table).to_pylist()
    assert table.to_pylist() == before


def test_features_are_measured_anew_for_other_raters_alone() -> None:
    plain = aggregate("a", "b")
    assert plain.feature_parameters() == aggregate("a", "b", calibrate="z", how="max").feature_parameters()
    assert plain.feature_parameters() != aggregate("a", "c").feature_parameters()


def voted(*rows: dict[str, tuple[float | None, float | None]]) -> pa.Table:
    """Pairs with the verdicts of judges in both orders."""
    listed = [
        [{"rater": rater, "aspect": "better", "p_chosen": shown, "p_swapped": swapped} for rater, (shown, swapped) in row.items()]
        for row in rows
    ]
    return tables.from_rows([{"pair_id": f"p{place}", "votes": votes} for place, votes in enumerate(listed)], "pairs")


def verdicts(made: pa.Table) -> list[float | None]:
    last = [row[-1] for row in made["votes"].to_pylist()]
    assert all((vote["rater"], vote["aspect"], vote["p_swapped"]) == ("agg", "vote", None) for vote in last)
    return [vote["p_chosen"] for vote in last]


PANEL = voted(
    *[{"steady": (1, 1), "first": (1, 0), "other": (1, 0)}] * 10,
    *[{"steady": (0, 0), "first": (1, 0), "other": (1, 0)}] * 9,
    {"steady": (0, 0), "first": (1, None), "other": (1, None)},
)


def test_votes_become_one_vote_of_equal_judges() -> None:
    made = aggregate("steady", "first", "other:better", of="votes")(PANEL)
    assert verdicts(made)[:10] == pytest.approx([4 / 6] * 10) and verdicts(made)[19] == pytest.approx(0.5)
    assert len(made["votes"][0]) == 4  # earlier votes stay


@pytest.mark.parametrize("how", ["stability", "dawid_skene"])
def test_votes_are_weighed_by_what_the_judges_do(how: str) -> None:
    """Two judges who name whatever stands first cannot outvote the one who keeps to its verdict."""
    made = verdicts(aggregate("steady", "first", "other", of="votes", how=how)(PANEL))
    assert all(p is not None and p > 0.8 for p in made[:10]) and made[19] is not None and made[19] < 0.2


def test_a_vote_needs_its_judges_and_says_who_is_missing() -> None:
    table = voted({"a": (1, None), "b": (None, None)}, {"a": (1, 1), "b": (0, None)})
    made = aggregate("a", "b", of="votes")(table)
    assert verdicts(made) == [None, pytest.approx(2 / 3)]
    assert made["votes"].to_pylist()[0][-1]["error"] == "1 of 2 raters missing: b"
    assert verdicts(aggregate("a", "b", of="votes", require="any")(table))[0] == 1


def test_stability_needs_both_orders() -> None:
    with pytest.raises(ValueError, match="votes in both orders, of which b has none"):
        aggregate("a", "b", of="votes", how="stability")(voted({"a": (1, 1), "b": (0, None)}))


def test_votes_are_told_by_what_is_read_and_written() -> None:
    step = aggregate("a", "b:x", of="votes")
    assert step.reads("pairs") == {"pair_id", "votes.a.*", "votes.b.x"} and step.writes("pairs") == {"votes.agg.vote"}
    assert step(tables.empty("pairs").select(step.columns("pairs"))).num_rows == 0


def test_rounds_are_averaged_unless_one_is_asked_for() -> None:
    row = [{"rater": "a", "aspect": "x", "value": value, "round": place} for place, value in enumerate((2.0, 4.0, None, 9.0))]
    table = responses(row, [*row, {"rater": "a", "aspect": "x", "value": 6.0, "round": 0}])  # asked once more
    assert result(aggregate("a")(table)) == [5.0, 6.33333]
    assert result(aggregate("a", round=1)(table)) == [4.0, 4.0]
    assert result(aggregate("a", round=2)(table)) == [None, None]


def test_parameters_are_written_as_in_a_recipe() -> None:
    step = aggregate("a", "b")
    assert step.parameters()["from"] == ["a", "b"]
    assert Aggregate.model_validate(step.parameters()) == step


def test_what_is_read_and_written_is_told_by_grain() -> None:
    step = aggregate("a", "b.c:x")
    assert step.reads("responses") == {"scores.a.*", "scores.b.c.x"}
    assert step.writes("pairs") == {"chosen_scores.agg.score", "rejected_scores.agg.score"}


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"from": {"a": 1.0}}, "how: weighted"),
        ({"from": ["a"], "how": "weighted"}, "how: weighted"),
        ({"from": ["a"], "how": "stability"}, "is not for scores"),
        ({"from": ["a"], "how": "median", "of": "votes"}, "is not for votes"),
        ({"from": ["a"], "calibrate": "z", "of": "votes"}, "calibrate is about scores"),
        ({"from": []}, "1 to 60 raters"),
        ({"from": ["a", "a"]}, "names a twice"),
        ({"from": {"a": 0.0, "b": 1.0}, "how": "weighted"}, "weight of a is 0"),
        ({"from": ["a"], "require": 2}, "can never be met"),
        ({"from": ["a"], "require": 0}, "greater than or equal to 1"),
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Aggregate.model_validate(parameters)
