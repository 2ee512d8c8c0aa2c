"""Margins as evidence and as column, and the pairs they drop."""

import pyarrow as pa
import pytest

from curate import tables
from curate.filter.margin import Margin
from curate.operator import Cut


def score(value, aspect="score"):
    return [] if value is None else [{"rater": "rm", "aspect": aspect, "value": value}]


def pairs(*sides):
    """Pairs from (score of chosen, score of rejected); None for no score."""
    return tables.from_rows(
        [{"chosen_scores": score(first), "rejected_scores": score(second)} for first, second in sides], "pairs"
    )


def reasons(columns):
    return [flags[-1]["reason"] if flags else None for flags in columns["flags"].to_pylist()]


THREE = pairs((5, 1), (2, 2.5), (None, 1))


def test_every_pair_is_measured():
    made = Margin(by="rm", name="gap", min=2)(THREE)
    assert made["margin"].to_pylist() == [4, -0.5, None]
    assert [entries[-1] for entries in made["evidence"].to_pylist()] == [
        {"by": "gap", "name": "margin", "value": value} for value in (4, -0.5, None)
    ]


def test_nothing_is_dropped_unless_told():
    assert reasons(Margin(by="rm")(THREE)) == [None, None, None]


def test_a_small_margin_is_flagged_with_its_value():
    made = Margin(by="rm", name="gap", min=2)(THREE)
    assert made["flags"].to_pylist()[1] == [{"by": "gap", "reason": "small_margin", "value": -0.5, "other": None}]
    assert reasons(made) == [None, "small_margin", None]


def test_a_margin_at_the_threshold_is_kept():
    assert reasons(Margin(by="rm", min=0.3)(pairs((0.9, 0.6), (0.9, 0.61)))) == [None, "small_margin"]


def test_a_negative_margin_has_its_own_reason():
    assert reasons(Margin(by="rm", drop_negative=True)(pairs((1, 1), (1, 2)))) == [None, "negative_margin"]
    assert reasons(Margin(by="rm", drop_negative=True, min=1)(pairs((1, 1), (1, 2)))) == ["small_margin", "negative_margin"]


def test_no_score_is_no_evidence_of_a_margin_unless_told():
    assert reasons(Margin(by="rm", min=2)(pairs((None, 1)))) == [None]
    assert reasons(Margin(by="rm", min=2, missing="drop")(pairs((None, 1), (1, None)))) == ["no_margin", "no_margin"]


def test_write_false_leaves_the_column_alone():
    step = Margin(by="rm", write=False, name="gap")
    assert step(THREE).column_names == ["evidence", "flags"] and "margin" not in step.writes("pairs")


def test_the_cut_is_the_minimum():
    assert Margin(by="rm", min=2).cut() == Cut("margin", ">=", 2, "min")
    assert Margin(by="rm").cut() is None and Margin(by="rm", min=2, drop_negative=True).cut() is None


def test_reads_name_the_series_of_both_sides():
    assert Margin(by="rm").reads("pairs") == {"chosen_scores.rm.*", "rejected_scores.rm.*"}
    assert Margin(by="rm:help").reads("pairs") == {"chosen_scores.rm.help", "rejected_scores.rm.help"}


def test_several_aspects_are_refused():
    table = tables.from_rows([{"chosen_scores": score(1, "help") + score(2, "harm"), "rejected_scores": []}], "pairs")
    with pytest.raises(ValueError, match="aggregate first"):
        Margin(by="rm")(table)
    assert Margin(by="rm:help")(table)["margin"].to_pylist() == [None]


def test_shards_give_what_the_whole_gives_and_the_input_stays():
    before, step = THREE.to_pylist(), Margin(by="rm", min=2, missing="drop")
    parts = pa.concat_tables([step(THREE.slice(0, 1)), step(THREE.slice(1))])
    assert parts.to_pylist() == step(THREE).to_pylist() and THREE.to_pylist() == before


def test_empty_in_empty_out():
    assert Margin(by="rm", min=1)(tables.empty("pairs")).num_rows == 0


def test_without_a_series_the_margin_of_pairing_is_used_and_not_written_again():
    pairs_with_margin = tables.from_rows([{"margin": 3.0}, {"margin": 1.0}, {}], "pairs")
    made = Margin(name="gap", min=2)(pairs_with_margin)
    assert reasons(made) == [None, "small_margin", None]
    assert "margin" not in made.column_names and "margin" not in Margin(min=2).writes("pairs")
    assert tables.value_of(made["evidence"], by="gap", name="margin").tolist()[:2] == [3.0, 1.0]
