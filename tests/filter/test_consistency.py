"""Agreement of raters with the label, by sign, by number and by share."""

import math

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.filter.consistency import Consistency
from curate.operator import Cut


def pair(votes=(), **margins):
    """A pair with a margin for each rater and (voter, p_chosen, p_swapped) votes."""
    chosen = [{"rater": rater, "aspect": "score", "value": margin} for rater, margin in margins.items()]
    rejected = [{"rater": rater, "aspect": "score", "value": 0.0} for rater in margins]
    listed = [{"rater": rater, "aspect": "score", "p_chosen": shown, "p_swapped": swapped} for rater, shown, swapped in votes]
    return {"chosen_scores": chosen, "rejected_scores": rejected, "votes": listed}


def table(*rows):
    return tables.from_rows(rows, "pairs")


def reasons(columns):
    return [flags[-1]["reason"] if flags else None for flags in columns["flags"].to_pylist()]


def measured(columns, name):
    return tables.value_of(columns["evidence"], by="con", name=name).tolist()


SIX = table(pair(a=1, b=1, c=1), pair(a=1, b=1, c=-1), pair(a=1, b=0), pair(a=-1, b=-1, c=-1), pair(a=1), pair())


def test_sign_drops_a_pair_that_any_rater_contradicts():
    made = Consistency(raters=["a", "b", "c"])(SIX)
    assert reasons(made) == [None, "disagreement", None, "disagreement", None, None]


def test_k_of_n_counts_those_who_prefer_the_chosen_side():
    made = Consistency(raters=["a", "b", "c"], how="k_of_n", k=2)(SIX)
    assert reasons(made) == [None, None, "disagreement", "disagreement", "too_few_raters", "too_few_raters"]


def test_share_compares_the_agreement():
    made = Consistency(raters=["a", "b", "c"], how="share", min_agreement=0.7)(SIX)
    assert reasons(made) == [None, "disagreement", None, "disagreement", None, None]


def test_agreement_counts_ties_half_and_is_null_where_nobody_spoke():
    made = Consistency(raters=["a", "b", "c"], name="con")(SIX)
    assert measured(made, "agreement")[:5] == pytest.approx([1, 2 / 3, 0.75, 0, 1])
    assert made["evidence"].to_pylist()[5][0] == {"by": "con", "name": "agreement", "value": None}
    assert measured(made, "agreeing") == [3, 2, 1, 0, 1, 0]


def test_too_few_raters_are_told_apart():
    made = Consistency(raters=["a", "b", "c"], min_raters=2)(SIX)
    assert reasons(made) == [None, "disagreement", None, "disagreement", "too_few_raters", "too_few_raters"]


def test_a_voter_speaks_through_the_mean_of_both_orders():
    rows = table(
        pair(votes=[("j", 0.9, None)]),
        pair(votes=[("j", 0.2, None)]),
        pair(votes=[("j", 0.9, 0.0)]),
        pair(votes=[("j", None, 0.9)]),
        pair(votes=[("j", 1.0, 0.0)]),
        pair(votes=[("j", None, None)]),
    )
    made = Consistency(voters=["j"], name="con")(rows)
    assert reasons(made) == [None, "disagreement", "disagreement", None, None, None]
    assert measured(made, "agreement")[:5] == [1, 0, 0, 1, 0.5]


def test_of_several_rounds_two_votes_of_three_decide():
    """The last round is for the other side in the first pair, for the label in the second."""
    rows = [pair(votes=[("j", p, None) for p in rounds]) for rounds in ((1, 1, 0), (0, 0, 1), (1, 0, None))]
    for row in rows:
        for place, vote in enumerate(row["votes"]):
            vote["round"] = place
    assert reasons(Consistency(voters=["j"])(table(*rows))) == [None, "disagreement", None]
    assert reasons(Consistency(voters=["j"], round=2)(table(*rows))) == ["disagreement", None, None]


def test_of_several_rounds_of_scores_the_mean_decides():
    row = pair(a=1)
    for side, marks in (("chosen", (5.0, -1.0)), ("rejected", (0.0, 0.0))):
        row[f"{side}_scores"] = [{"rater": "a", "aspect": "score", "value": mark, "round": n} for n, mark in enumerate(marks)]
    assert reasons(Consistency(raters=["a"])(table(row))) == [None]
    assert reasons(Consistency(raters=["a"], round=1)(table(row))) == ["disagreement"]


def test_raters_and_voters_are_heard_together():
    rows = table(pair(a=1, votes=[("j", 0.1, None)]))
    assert measured(Consistency(raters=["a"], voters=["j"], name="con")(rows), "agreement") == [0.5]


def test_order_drops_what_a_voter_judges_otherwise_with_the_sides_exchanged():
    rows = table(
        pair(votes=[("j", 1, 1)]),
        pair(votes=[("j", 1, 0)]),
        pair(votes=[("j", 0, 0)]),  # against the label, but sure of it
        pair(votes=[("j", 0.5, 1)]),
        pair(votes=[("j", 0.5, 0.5)]),
        pair(votes=[("j", 1, None)]),
        pair(),
        pair(votes=[("j", 0.6, 0.9)]),
    )
    made = Consistency(voters=["j"], how="order", name="con")(rows)
    flip = "order_flip"
    assert reasons(made) == [None, flip, None, flip, None, None, None, None]
    assert [flags[0]["value"] for flags in made["flags"].to_pylist() if flags] == [1.0, 1.0]
    told = [[entry["value"] for entry in row if entry["name"] == flip][0] for row in made["evidence"].to_pylist()]
    assert told == [0, 1, 0, 1, 0, None, None, 0]


def test_order_flip_is_the_share_of_those_who_saw_both_orders():
    rows = table(pair(votes=[("j", 1, 0), ("k", 1, 1), ("l", 1, None)]))
    made = Consistency(voters=["j", "k", "l"], name="con")(rows)
    assert measured(made, "order_flip") == [0.5]
    assert reasons(made) == [None]  # a flip contradicts nobody unless asked
    assert reasons(Consistency(voters=["k", "l"], how="order")(rows)) == [None]
    assert reasons(Consistency(voters=["j", "k"], how="order")(rows)) == ["order_flip"]


def test_order_still_asks_for_enough_voters():
    assert reasons(Consistency(voters=["j"], how="order", min_raters=1)(table(pair()))) == ["too_few_raters"]


def test_a_label_is_reproduced_by_a_voter_who_names_chosen_in_every_order_it_was_asked_in():
    shown = [(1, 1), (1, None), (None, 0.9), (1, 0), (1, 0.5), (0, 0), (None, None)]
    rows = table(*[pair(votes=[("j", *orders)]) for orders in shown], pair())
    made = Consistency(voters=["j"], how="reproduced", name="con")(rows)
    assert reasons(made) == [None] * 3 + ["not_reproduced"] * 5
    both = table(pair(votes=[("j", 1, 1), ("k", 1, 1)]), pair(votes=[("j", 1, 1), ("k", 0, 0)]), pair(votes=[("j", 1, 1)]))
    assert reasons(Consistency(voters=["j", "k"], how="reproduced")(both)) == [None, "not_reproduced", "not_reproduced"]


@pytest.mark.parametrize(("how", "more", "expected"), [("sign", {}, None), ("k_of_n", {"k": 1}, "disagreement")])
def test_two_orders_that_cancel_out_are_a_tie(how, more, expected):
    """One verdict for either side: contradicts nobody, and is no voice for the label."""
    assert reasons(Consistency(voters=["j"], how=how, **more)(table(pair(votes=[("j", 1, 0)])))) == [expected]


def test_a_flag_holds_the_agreement():
    made = Consistency(raters=["a", "b", "c"], name="con", how="share", min_agreement=0.7)(SIX)
    assert made["flags"].to_pylist()[3] == [{"by": "con", "reason": "disagreement", "value": 0.0, "other": None}]


def test_cuts_move_share_and_number():
    assert Consistency(raters=["a"], how="share", min_agreement=0.7).cut() == Cut("agreement", ">=", 0.7, "min_agreement")
    assert Consistency(raters=["a", "b"], how="k_of_n", k=2).cut() == Cut("agreeing", ">=", 2, "k")
    assert Consistency(raters=["a"]).cut() is None


def test_reads_tell_scores_from_votes():
    step = Consistency(raters=["rm"], voters=["judge:help"])
    assert step.reads("pairs") == {"chosen_scores.rm.*", "rejected_scores.rm.*", "votes.judge.help"}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"raters": ["a"], "how": "k_of_n"},
        {"raters": ["a"], "k": 1},
        {"raters": ["a"], "how": "share"},
        {"raters": ["a"], "min_agreement": 0.5},
        {"raters": ["a"], "how": "k_of_n", "k": 2},
        {"raters": ["a"], "min_raters": 2},
        {"raters": ["a"], "how": "order"},
        {"raters": ["a"], "voters": ["j"], "how": "order"},
        {"raters": ["a"], "how": "reproduced"},
    ],
)
def test_parameters_that_contradict_are_refused(wrong):
    with pytest.raises(ValidationError):
        Consistency(**wrong)


def test_shards_give_what_the_whole_gives_and_the_input_stays():
    before, step = SIX.to_pylist(), Consistency(raters=["a", "b", "c"], name="con")
    parts = pa.concat_tables([step(SIX.slice(0, 2)), step(SIX.slice(2))])
    assert parts.to_pylist() == step(SIX).to_pylist() and SIX.to_pylist() == before


def test_empty_in_empty_out():
    assert Consistency(raters=["a"])(tables.empty("pairs")).num_rows == 0


# -- what raters say of one another


def test_internal_keeps_pairs_on_which_all_find_the_chosen_side_better():
    """Voter alone for chosen; both; both for rejected; a tie; sure enough or not; one silent."""
    pairs = [(-1.0, 1, 1), (1.0, 1, 0.5), (-1.0, 0, 0), (1.0, 1, 0), (0.2, 1, 1)]
    rows = [pair([("j", shown, swapped)], rm=margin) for margin, shown, swapped in pairs] + [pair(rm=3.0)]
    made = Consistency(how="internal", raters=["rm"], voters=["j"], min_confidence=0.5, name="con")(table(*rows))
    assert reasons(made) == ["disagreement", None, "disagreement", "disagreement", None, "disagreement"]
    logistic = 1 / (1 + math.exp(-1))
    assert made["label_prob"].to_pylist()[:2] == pytest.approx([(1 - logistic + 1) / 2, (logistic + 0.75) / 2])
    assert made["label_prob"].to_pylist()[5] is None
    assert measured(made, "divergence")[0] > measured(made, "divergence")[1] > 0
    surer = Consistency(how="internal", raters=["rm"], voters=["j"], min_confidence=0.6)(table(*rows))
    assert reasons(surer)[1] is None and reasons(surer)[4] == "disagreement"  # a margin of 0.2 is a probability of .55
    scaled = Consistency(how="internal", raters=["rm"], voters=["j"], min_confidence=0.6, scale=0.1)(table(*rows))
    assert reasons(scaled)[4] is None


def responses(*scores):
    """Responses of one prompt after the other, (prompt, {rater: score})."""
    listed = [
        {"prompt_id": prompt, "scores": [{"rater": rater, "aspect": "s", "value": value} for rater, value in told.items()]}
        for prompt, told in scores
    ]
    return tables.from_rows(listed, "responses")


TWO = responses(("p", {"a": 1, "b": 10}), ("p", {"a": 2, "b": 20}), ("q", {"a": 1, "b": 2}), ("q", {"a": 2, "b": 1}))


def test_orders_of_a_prompts_responses_are_compared():
    made = Consistency(how="kendall", raters=["a", "b"], name="con")(TWO)
    assert tables.score_of(made, "con", "agreement").tolist() == [1, 1, 0, 0]
    assert reasons(made) == [None] * 4
    assert reasons(Consistency(how="spearman", raters=["a", "b"], min_agreement=0.5)(TWO)) == [None, None] + ["disagreement"] * 2


def test_marks_too_far_apart_are_dropped_and_the_threshold_can_be_moved():
    table_ = responses(("p", {"a": 0, "b": 2, "c": 1}), ("p", {"a": 0, "b": 3, "c": 1}), ("q", {"a": 4}))
    step = Consistency(how="spread", raters=["a", "b", "c"], max_spread=2, name="con")
    assert reasons(step(table_)) == [None, "disagreement", None]
    assert measured(step(table_), "spread")[:2] == [2, 3]
    assert step.cut() == Cut("spread", "<=", 2, "max_spread")


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"how": "kendall", "raters": ["a"]}, "compares the scores of two raters or more"),
        ({"how": "spread", "raters": ["a", "b"]}, "max_spread belongs to how: spread"),
        ({"how": "sign", "raters": ["a"], "max_spread": 1}, "max_spread belongs to how: spread"),
        ({"how": "internal", "raters": ["a"]}, "internal compares two raters or voters or more"),
        ({"how": "share", "raters": ["a"]}, "needs min_agreement"),
        ({"how": "kendall", "raters": ["a", "a"]}, "each once, got a, a"),
        ({"how": "k_of_n", "k": 2, "voters": ["j", "j"]}, "each once, got j, j"),
    ],
)
def test_what_does_not_fit_together_is_refused(parameters, why):
    with pytest.raises(ValidationError, match=why):
        Consistency(**parameters)


def test_a_way_that_is_for_the_other_grain_is_refused():
    kendall = Consistency(how="kendall", raters=["a", "b"])
    with pytest.raises(ValueError, match="how: kendall is for responses, and these rows are pairs"):
        kendall(SIX)
    assert kendall.refuses("pairs") and kendall.refuses("responses") is None
    assert kendall.reads("pairs") == set()  # the refusal says it all
    with pytest.raises(ValueError, match="how: sign is for pairs"):
        Consistency(raters=["a"])(TWO)
