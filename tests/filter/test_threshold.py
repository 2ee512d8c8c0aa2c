"""Rows below a score are flagged."""

from curate import tables
from curate.filter.threshold import Threshold
from curate.operator import Cut


def prompts(*values):
    return tables.from_rows([{"scores": [{"rater": "j", "aspect": "quality", "value": value}]} for value in values], "prompts")


def reasons(columns):
    return [flags[-1]["reason"] if flags else None for flags in columns["flags"].to_pylist()]


def test_scores_below_and_missing_ones_are_dropped_and_the_threshold_itself_passes():
    made = Threshold(by="j:quality", min=5, name="t")(prompts(4.9, 5.0, 9.0, None))
    assert reasons(made) == ["low_score", None, None, "no_score"]
    assert [row[0]["value"] for row in made["evidence"].to_pylist()[1:]] == [5.0, 9.0, None]
    assert made["flags"].to_pylist()[0][0]["value"] == tables.from_rows([{"margin": 4.9}], "pairs")["margin"][0].as_py()


def test_rows_without_a_score_may_stay():
    assert reasons(Threshold(by="j", min=5, missing="keep")(prompts(None, 1.0))) == [None, "low_score"]


def test_the_threshold_may_be_moved_afterwards():
    assert Threshold(by="j", min=5).cut() == Cut("score", ">=", 5, "min")


def test_empty_in_empty_out():
    assert Threshold(by="j", min=0)(tables.empty("responses")).num_rows == 0
