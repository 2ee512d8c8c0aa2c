"""Votes as numbers: who counts, what is heard once, and answers that take every rater as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import tables
from curate.maths import votes as ballots
from curate.maths.votes import dense, votes_of

NAN = float("nan")


def column(*rows):
    """Votes of each pair as (rater, aspect, p_chosen, p_swapped, round)."""
    names = ("rater", "aspect", "p_chosen", "p_swapped", "round")
    listed = [{"votes": [dict(zip(names, vote, strict=False)) for vote in row]} for row in rows]
    return tables.from_rows(listed, "pairs")["votes"]


def listed(votes):
    return list(zip(*(each.tolist() for each in votes[:4]), strict=True))


def test_each_order_of_each_rater_is_a_vote():
    told = column([("a", "h", 1, 0.5), ("b", "h", None, 0)], [], [("a", "h", 0)])
    votes, names = votes_of(told, ["a", "b"])
    assert names == ["a", "b"] and (votes.pairs, votes.raters) == (3, 2)
    assert listed(votes) == [(0, 0, 1.0, False), (0, 0, 0.5, True), (0, 1, 0.0, True), (2, 0, 0.0, False)]


def test_of_two_entries_the_last_counts_and_rounds_are_averaged():
    told = column([("a", "h", 0), ("a", "h", 1)], [("a", "h", 0, None, 0), ("a", "h", 1, None, 1)])
    assert listed(votes_of(told, ["a"])[0]) == [(0, 0, 1.0, False), (1, 0, 0.5, False)]
    assert listed(votes_of(told, ["a"], round=1)[0]) == [(1, 0, 1.0, False)]


def test_an_aspect_may_be_asked_for_and_one_entry_may_count_for_two_series():
    told = column([("a", "h", 1), ("a", "s", 0)])
    assert listed(votes_of(told, ["a:h"])[0]) == [(0, 0, 1.0, False)]
    assert listed(votes_of(told, ["a", "a:h"])[0]) == [(0, 0, 0.0, False), (0, 1, 1.0, False)]


def test_a_star_finds_the_raters_and_each_is_one():
    told = column([("w1", "h", 1), ("w2", "h", 0), ("judge", "h", 1), ("w1", "s", 0)])
    assert votes_of(told, ["w*:h"])[1] == ["w1:h", "w2:h"]
    assert votes_of(told, ["*"])[1] == ["judge:h", "w1:h", "w1:s", "w2:h"]
    assert votes_of(column([("w[1]", "h", 1), ("w1", "h", 1)]), ["w[1]*"])[1] == ["w[1]:h"]


def test_known_raters_keep_their_numbers_in_a_part_of_the_rows():
    votes, names = votes_of(column([("w3", "h", 1), ("w9", "h", 1)]), ["*"], known=["w1:h", "w3:h"])
    assert names == ["w1:h", "w3:h"] and listed(votes) == [(0, 1, 1.0, False)]


def test_nothing_in_nothing_out():
    for lists in (column(), column([]), column([("a", "h", None)])):
        votes, _ = votes_of(lists, ["*"])
        assert listed(votes) == [] and ballots.mean_vote(votes).tolist() == [0.5] * len(lists)


votes_arrays = st.lists(
    st.lists(st.lists(st.sampled_from([NAN, 0.0, 0.5, 1.0]), min_size=2, max_size=2), min_size=3, max_size=3), max_size=6
).map(lambda rows: np.array(rows, np.float64).reshape(-1, 3, 2))


@given(votes_arrays)
def test_dense_and_listed_votes_say_the_same(votes_NRO):
    rows = [[(f"r{r}", "h", *(None if np.isnan(p) else p for p in pair[r])) for r in range(3)] for pair in votes_NRO]
    found, names = votes_of(column(*rows), [f"r{r}" for r in range(3)])
    assert sorted(listed(found)) == sorted(listed(dense(votes_NRO))) and len(names) == 3


def slow_voice(votes_O):
    told = votes_O[~np.isnan(votes_O)]
    return None if not len(told) else np.sign((2 * told - 1).sum())


@given(votes_arrays)
def test_voices_and_majorities_are_those_of_a_count_by_hand(votes_NRO):
    votes = dense(votes_NRO)
    voices = [[slow_voice(votes_NRO[n, r]) for r in range(3)] for n in range(len(votes_NRO))]
    sides = [np.sign(sum(v for v in row if v is not None)) for row in voices]
    assert ballots.majority(votes).tolist() == [(side + 1) / 2 for side in sides]
    agreed, seen = ballots.agreement_with_others(votes)
    for rater in range(3):
        met = [(row[rater], np.sign(sum(v for r, v in enumerate(row) if r != rater and v is not None))) for row in voices]
        met = [(mine, others) for mine, others in met if mine not in (None, 0) and others != 0]
        assert (agreed[rater], seen[rater]) == (sum(mine == others for mine, others in met), len(met))
        mine = [
            1 if row[rater] == side else 0.5 if side == 0 else 0 for row, side in zip(voices, sides, strict=True) if row[rater]
        ]
        assert ballots.agreement_with_majority(votes)[rater] == pytest.approx(np.mean(mine) if mine else 0)


def test_weights_count():
    votes = dense(np.array([[[1.0, NAN], [0.0, NAN]], [[NAN, NAN], [0.0, NAN]], [[NAN, NAN], [NAN, NAN]]]))
    assert ballots.weighted_vote(votes, np.array([3.0, 1.0])).tolist() == [0.75, 0.0, 0.5]
    assert ballots.weighted_vote(votes, np.array([3.0, 0.0])).tolist() == [1.0, 0.5, 0.5]
