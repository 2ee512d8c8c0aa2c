"""One vote of a crowd's votes, by every way of weighing them."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.maths.dawid_skene import one_coin, reliability
from curate.maths.glad import glad
from curate.maths.raters import weighed
from curate.maths.votes import agreement_with_majority, majority, mean_vote, votes_of, weighted_vote
from curate.score import one_vote
from curate.score.aggregate import Aggregate

ACCURACY = {"ann": 0.95, "bob": 0.9, "cat": 0.8, "dan": 0.7, "eve": 0.55}


def table(*rows, ids=None):
    """Pairs with the votes of each, {rater: p_chosen}."""
    listed = [
        {
            "prompt_id": "p",
            "prompt": [{"role": "user", "content": "?"}],
            "pair_id": str(n),
            "chosen_id": ids[n][0] if ids else f"c{n}",
            "rejected_id": ids[n][1] if ids else f"r{n}",
            "votes": [{"rater": rater, "aspect": "pref", "p_chosen": p} for rater, p in row.items()],
        }
        for n, row in enumerate(rows)
    ]
    return tables.from_rows(listed, "pairs")


def crowd(pairs=300, seed=0):
    """Five planted raters on every pair; whether chosen is better."""
    draw = np.random.default_rng(seed)
    truth = draw.random(pairs) < 0.5
    right = {rater: draw.random(pairs) < accuracy for rater, accuracy in ACCURACY.items()}
    rows = [{rater: float(truth[n] == told[n]) for rater, told in right.items()} for n in range(pairs)]
    return table(*rows), truth


def made(found):
    return tables.value_of(found["votes"], "p_chosen", rater="crowd", aspect="vote").tolist()


def errors(found):
    return [votes[-1]["error"] for votes in found["votes"].to_pylist()]


@pytest.mark.parametrize("how", [how for how in one_vote.HOWS if how not in ("weighted", "stability")])
def test_every_way_finds_the_planted_sides_without_naming_the_crowd(how):
    pairs, truth = crowd()
    step = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how=how, require="any")
    found = np.array(made(step(pairs)))
    assert ((found > 0.5) == truth).mean() > 0.9
    assert ((found >= 0) & (found <= 1)).all()


BY_HAND = {
    "mean": mean_vote,
    "majority": majority,
    "agreement": lambda votes: weighted_vote(votes, agreement_with_majority(votes)),
    "dawid_skene": lambda votes: weighed(votes, reliability(votes)),
    "one_coin": lambda votes: weighed(votes, one_coin(votes).habits),
    "glad": lambda votes: glad(votes).better_N,
}


@pytest.mark.parametrize("how", sorted(BY_HAND))
def test_each_way_is_what_it_is_called(how):
    pairs, _ = crowd(100, seed=5)
    step = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how=how, require="any")
    assert made(step(pairs)) == pytest.approx(BY_HAND[how](votes_of(pairs["votes"], ["*"])[0]).tolist(), abs=1e-4)


def test_weights_that_are_given_are_used():
    pairs = table({"ann": 1, "bob": 0, "cat": 0}, {"ann": 0, "bob": 1})
    step = Aggregate(name="crowd", **{"from": {"ann": 3, "bob": 1, "cat": 1}}, of="votes", how="weighted", require=2)
    assert made(step(pairs)) == pytest.approx([0.6, 0.25])


def test_the_majority_is_one_or_none_or_a_tie():
    pairs = table({"ann": 1, "bob": 0, "cat": 0}, {"ann": 1, "bob": 0.5}, {"ann": 1, "bob": 0})
    assert made(Aggregate(name="crowd", **{"from": ["*:pref"]}, of="votes", how="majority", require="any")(pairs)) == [0, 1, 0.5]


def test_a_pair_on_which_too_few_voted_has_no_vote_and_says_so():
    pairs = table({"ann": 1, "bob": 1}, {"ann": 1}, {})
    found = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how="one_coin", require=2)(pairs)
    assert np.isnan(made(found)[1:]).all() and made(found)[0] > 0.5
    assert errors(found) == [None, "fewer than 2 raters voted", "fewer than 2 raters voted"]
    named = Aggregate(name="crowd", **{"from": ["ann", "bob"]}, of="votes", how="one_coin")(pairs)
    assert errors(named)[1:] == ["1 of 2 raters missing: bob", "2 of 2 raters missing: ann, bob"]


def test_bradley_terry_lets_pairs_that_share_a_response_inform_each_other():
    """a beats b and b beats c by all; one vote has c above a, which the chain outweighs."""
    pairs = table(
        *[{"ann": 1.0, "bob": 1.0, "cat": 1.0}] * 6,
        {"ann": 1.0},
        ids=[("a", "b"), ("b", "c")] * 3 + [("c", "a")],
    )
    alone = made(Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how="one_coin", require="any")(pairs))
    chained = made(Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how="bradley_terry", require="any")(pairs))
    assert alone[6] > 0.5 > chained[6] and chained[0] > 0.6


def test_shards_give_what_the_whole_gives_once_it_is_fitted():
    pairs, _ = crowd(60)
    for how in ("agreement", "dawid_skene", "one_coin", "glad", "bradley_terry"):
        step = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how=how, require="any")
        state = step.decide(pa.concat_tables([step.features(pairs.slice(0, 20)), step.features(pairs.slice(20))]))
        assert (state["rater"].drop_null().to_pylist()) == [f"{rater}:pref" for rater in ACCURACY]
        whole = step.apply(pairs, state)
        parts = pa.concat_tables([step.apply(pairs.slice(0, 20), state), step.apply(pairs.slice(20), state)])
        assert made(parts) == pytest.approx(made(whole), abs=1e-6)


def test_a_shard_that_a_rater_left_out_keeps_the_raters_apart():
    """In the second shard only eve votes: she must not be taken for ann, the first by name."""
    pairs, _ = crowd(200)
    step = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how="one_coin", require="any")
    state = step.decide(step.features(pairs))
    only_eve = step.apply(table({"eve": 1.0}), state)
    assert made(only_eve)[0] == pytest.approx(ACCURACY["eve"], abs=0.08)


def test_empty_in_empty_out():
    for how in (how for how in one_vote.HOWS if how != "weighted"):
        step = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how=how, require="any")
        empty = tables.empty("pairs").select(step.columns("pairs"))
        assert step(empty).num_rows == 0


def test_only_bradley_terry_reads_which_responses_there_are():
    for how, needed in (("glad", False), ("bradley_terry", True)):
        step = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how=how, require="any")
        assert ("chosen_id" in step.reads("pairs")) == needed
        assert step.reads("pairs") >= {"pair_id", "votes.*.*"}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"from": ["*"], "of": "votes"}, "require: any"),
        ({"from": ["*"], "of": "scores", "require": "any"}, "takes \\* for votes"),
        ({"from": ["a"], "of": "scores", "how": "glad"}, "is not for scores"),
        ({"from": ["a"], "of": "votes", "how": "median"}, "is not for votes"),
        ({"from": {"a": -1, "b": 1}, "of": "votes", "how": "weighted"}, "weights of votes are above 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(wrong, why):
    with pytest.raises(ValidationError, match=why):
        Aggregate(name="crowd", **wrong)
