"""Goal relabelling: the pair, and the pair turned round for the lower goal."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import ids, tables
from curate.relabel.goal import Goal


def score(value, aspect="score"):
    return [] if value is None else [{"rater": "rm", "aspect": aspect, "value": value}]


def pair(high, low, number=0, **fields):
    row = {
        "row": number,
        "prompt_id": f"p{number}",
        "pair_id": ids.pair_id(f"good{number}", f"bad{number}"),
        "chosen": "good",
        "rejected": "bad",
        "chosen_id": f"good{number}",
        "rejected_id": f"bad{number}",
        "chosen_scores": score(high),
        "rejected_scores": score(low),
        "origin": "observed",
    }
    return row | fields


def table(*rows):
    return tables.from_rows(rows, "pairs")


def many(*sides):
    return table(*(pair(high, low, number) for number, (high, low) in enumerate(sides)))


def goals(made):
    return [None if goal is None else json.loads(goal) for goal in made["goal"].to_pylist()]


def reasons(made):
    return [flags[-1]["reason"] if flags else None for flags in made["flags"].to_pylist()]


def test_the_worse_answer_wins_for_the_lower_goal():
    high, low = Goal(by="rm")(table(pair(8, 2))).to_pylist()
    assert (high["goal"], high["chosen"], high["rejected"], high["origin"]) == ('{"score":8}', "good", "bad", "goal_chosen")
    assert (low["goal"], low["chosen"], low["rejected"], low["origin"]) == ('{"score":2}', "bad", "good", "goal_rejected")


def test_everything_that_belongs_to_a_side_changes_sides():
    given = pair(
        8,
        2,
        chosen_model="m1",
        rejected_model="m2",
        chosen_turns=[{"role": "assistant", "content": "good"}],
        margin=6.0,
        label_prob=0.9,
        weight=2.0,
        votes=[{"rater": "j", "p_chosen": 0.75, "p_swapped": None}],
        spans=[
            {"side": "chosen", "start": 0, "end": 2, "weight": 0.5},
            {"side": "rejected", "start": 1, "end": 3, "weight": 1.0},
        ],
        evidence=[{"by": "gap", "name": "margin", "value": 6.0}],
    )
    high, low = Goal(by="rm")(table(given)).to_pylist()
    for side, other in (("chosen", "rejected"), ("rejected", "chosen")):
        for suffix in ("", "_id", "_model", "_turns", "_scores"):
            assert low[side + suffix] == high[other + suffix]
    assert (high["margin"], low["margin"]) == (6, -6)
    assert (high["votes"][0]["p_chosen"], low["votes"][0]["p_chosen"], low["votes"][0]["p_swapped"]) == (0.75, 0.25, None)
    assert [span["side"] for span in high["spans"]] == ["chosen", "rejected"]
    assert [span["side"] for span in low["spans"]] == ["rejected", "chosen"]
    for kept in ("label_prob", "weight", "evidence", "prompt_id"):
        assert low[kept] == high[kept] == table(given).to_pylist()[0][kept]


def test_rows_name_their_parent_and_get_ids_of_their_own():
    given = table(pair(8, 2))
    high, low = Goal(by="rm")(given).to_pylist()
    assert high["parent_id"] == low["parent_id"] == given["pair_id"][0].as_py()
    assert high["pair_id"] == ids.pair_id("good0", "bad0", '{"score":8}')
    assert low["pair_id"] == ids.pair_id("bad0", "good0", '{"score":2}')


def test_several_attributes_make_one_goal_in_order_of_name():
    given = pair(0, 0, chosen_scores=score(4, "help") + score(1, "short"), rejected_scores=score(2, "help") + score(3, "short"))
    made = Goal(by={"verbosity": "rm:short", "help": "rm:help"})(table(given))
    assert made["goal"].to_pylist() == ['{"help":4,"verbosity":1}', '{"help":2,"verbosity":3}']


def test_attributes_tie_only_when_all_do():
    given = pair(0, 0, chosen_scores=score(4, "a") + score(1, "b"), rejected_scores=score(4, "a") + score(3, "b"))
    assert len(Goal(by={"a": "rm:a", "b": "rm:b"})(table(given))) == 2


def test_halves_round_up():
    assert goals(Goal(by="rm")(many((7.5, 6.5), (2.4, 0.6)))) == [{"score": 8}, {"score": 7}, {"score": 2}, {"score": 1}]


def test_decimals_are_printed_as_the_score_was_written():
    assert Goal(by="rm", round=1)(many((7.1, 7)))["goal"].to_pylist() == ['{"score":7.1}', '{"score":7}']
    assert Goal(by="rm", round=None)(many((7.125, -3)))["goal"].to_pylist() == ['{"score":7.125}', '{"score":-3}']


def test_a_tie_after_rounding_is_passed_on_with_a_flag():
    (row,) = Goal(by="rm", name="goal")(table(pair(7.4, 7.1))).to_pylist()
    assert row["flags"] == [{"by": "goal", "reason": "goal_tie", "value": None, "other": None}]
    assert (row["goal"], row["origin"], row["parent_id"], row["chosen"]) == (None, "observed", None, "good")


def test_kept_ties_make_one_row_or_two():
    assert Goal(by="rm", ties="keep_chosen")(many((7, 7)))["origin"].to_pylist() == ["goal_chosen"]
    assert Goal(by="rm", ties="keep_both")(many((7, 7)))["chosen"].to_pylist() == ["good", "bad"]


def test_a_pair_without_a_score_is_passed_on_with_a_flag():
    made = Goal(by="rm")(many((7, None), (None, 7), (math.inf, 1), (5, 1)))
    assert reasons(made) == ["no_score", "no_score", "no_score", None, None]
    assert goals(made) == [None, None, None, {"score": 5}, {"score": 1}]


def test_linear_maps_the_extremes_to_the_ends():
    made = Goal(by="rm", scale=(1, 10), map="linear")(many((2, -1), (0.5, 0)))
    assert [goal["score"] for goal in goals(made)] == [10, 1, 6, 4]  # 1 + 9 * 1.5 / 3 = 5.5; 1 + 9 / 3 = 4


def test_quantile_spreads_ranks_over_the_scale():
    made = Goal(by="rm", scale=(1, 10), map="quantile")(many((100, 2), (3, 1)))
    assert [goal["score"] for goal in goals(made)] == [10, 4, 7, 1]


def test_a_scale_is_fitted_over_all_rows_not_a_shard():
    step, given = Goal(by="rm", scale=(1, 10), map="linear"), many((10, 5), (5, 0))
    state = step.decide(step.features(given))
    assert goals(step.apply(given.slice(1), state)) == [{"score": 6}, {"score": 1}]  # 5.5 rounds up


def test_scores_all_alike_lie_in_the_middle_and_tie():
    assert reasons(Goal(by="rm", scale=(1, 10), map="quantile")(many((3, 3)))) == ["goal_tie"]
    assert goals(Goal(by="rm", scale=(0, 10), map="linear", ties="keep_chosen")(many((3, 3)))) == [{"score": 5}]


def test_no_score_stays_none_where_the_others_are_all_alike():
    assert reasons(Goal(by="rm", scale=(1, 10), map="quantile", ties="keep_both")(many((3, 3), (3, None)))) == [
        None,
        None,
        "no_score",
    ]


def test_half_uses_about_half_of_the_pairs_and_flags_the_others():
    given = many(*[(8, 2)] * 400)
    made = Goal(by="rm", half=True)(given)
    others = reasons(made).count("other_half")
    assert 160 < others < 240 and len(made) == 2 * 400 - others
    assert reasons(Goal(by="rm", half=True, seed=1)(given)) != reasons(made)


def test_compat_leaves_the_second_row_as_it_was_published():
    high, low = Goal(by="rm", compat="released_code")(table(pair(8, 2))).to_pylist()
    assert (low["goal"], low["chosen"], low["rejected"], low["origin"]) == ('{"score":2}', "good", "bad", "goal_rejected")
    assert low["chosen_scores"] == high["chosen_scores"]


@pytest.mark.parametrize("wrong", [{"map": "linear"}, {"scale": (10, 1)}, {"by": {}}, {"by": ""}, {"scale": (1, math.inf)}])
def test_parameters_that_contradict_are_refused(wrong):
    with pytest.raises(ValidationError):
        Goal(**{"by": "rm", **wrong})


def random_table(seed, size=120):
    rng = np.random.default_rng(seed)
    sides = []
    for _ in range(size):
        high, low = rng.normal(5, 2, 2).round(1)
        sides.append((None if rng.random() < 0.1 else float(high), None if rng.random() < 0.1 else float(low)))
    rows = [pair(high, low, number) for number, (high, low) in enumerate(sides)]
    for row in rows:
        row["votes"] = [{"rater": "j", "p_chosen": float(rng.integers(5)) / 4}] * int(rng.integers(3))
        row["margin"] = None if rng.random() < 0.2 else float(rng.integers(-3, 4))
    return table(*rows)


def slow_map(step, values):
    if step.map == "none":
        return lambda value: value
    low, high = step.scale
    if step.map == "linear":
        return lambda value: low + (high - low) * (value - min(values)) / (max(values) - min(values))

    def rank(value):
        return sum(other < value for other in values) + sum(other == value for other in values) / 2

    return lambda value: low + (high - low) * (rank(value) - rank(min(values))) / (rank(max(values)) - rank(min(values)))


def slow_goal(step, given):
    """(chosen id, goal, origin, margin, first vote) of every row made or passed on."""
    rows = given.to_pylist()
    sides = [
        [row[f"{side}_scores"][-1]["value"] if row[f"{side}_scores"] else None for side in ("chosen", "rejected")] for row in rows
    ]
    to_goal = slow_map(step, [value for values in sides for value in values if value is not None])
    made = []
    for row, values in zip(rows, sides, strict=True):
        votes = [vote["p_chosen"] for vote in row["votes"]]
        if None in values:
            made.append((row["chosen_id"], None, "observed", row["margin"], votes))
            continue
        high, low = (math.floor(to_goal(value) + 0.5) for value in values)
        if high == low and step.ties == "drop":
            made.append((row["chosen_id"], None, "observed", row["margin"], votes))
            continue
        made.append((row["chosen_id"], {"score": high}, "goal_chosen", row["margin"], votes))
        if high != low or step.ties == "keep_both":
            margin = None if row["margin"] is None else -row["margin"]
            made.append((row["rejected_id"], {"score": low}, "goal_rejected", margin, [1 - vote for vote in votes]))
    return made


@pytest.mark.parametrize("mapping", [{}, {"map": "linear", "scale": (1, 10)}, {"map": "quantile", "scale": (1, 10)}], ids=str)
@pytest.mark.parametrize("ties", ["drop", "keep_chosen", "keep_both"])
def test_relabelling_agrees_with_the_slow_version(mapping, ties):
    step = Goal(by="rm", ties=ties, **mapping)
    for seed in range(4):
        given = random_table(seed)
        made = [
            (row["chosen_id"], goal, row["origin"], row["margin"], [vote["p_chosen"] for vote in row["votes"]])
            for row, goal in zip(step(given).to_pylist(), goals(step(given)), strict=True)
        ]
        assert made == slow_goal(step, given)


def test_shards_share_a_scale_and_the_input_stays():
    given = random_table(9)
    before, step = given.to_pylist(), Goal(by="rm", map="quantile", scale=(1, 5))
    state = step.decide(pa.concat_tables([step.features(given.slice(0, 50)), step.features(given.slice(50))]))
    parts = pa.concat_tables([step.apply(given.slice(0, 50), state), step.apply(given.slice(50), state)])
    assert parts.to_pylist() == step(given).to_pylist() and given.to_pylist() == before


def test_every_pair_is_doubled_or_flagged():
    given = random_table(3)
    made = Goal(by="rm", map="linear", scale=(1, 10))(given).to_pylist()
    flagged = {row["pair_id"] for row in made if row["flags"]}
    doubled = [row["parent_id"] for row in made if not row["flags"]]
    assert flagged | set(doubled) == set(given["pair_id"].to_pylist()) and not flagged & set(doubled)
    assert len(doubled) == 2 * len(set(doubled))


def test_rows_have_every_column_of_a_pair_but_row():
    assert Goal(by="rm")(many((8, 2))).column_names == [name for name in tables.SCHEMAS["pairs"].names if name != "row"]


@pytest.mark.parametrize("mapping", [{}, {"map": "linear", "scale": (1, 10)}, {"map": "quantile", "scale": (1, 10)}], ids=str)
def test_empty_in_empty_out(mapping):
    made = Goal(by="rm", **mapping)(tables.empty("pairs"))
    assert made.num_rows == 0 and made.schema.field("goal").type == pa.string()
