"""Reliability of raters found from their votes alone, against raters whose habits are planted."""

import numpy as np
import pytest

from curate.maths import raters
from curate.maths.dawid_skene import reliability
from curate.maths.votes import Votes, dense, mean_vote

TRUTH = np.arange(400) % 2 == 0
"""Whether the chosen side is the better one: both equally often."""
NAN = float("nan")


def votes(accuracy: float, lean: float = 0.0, seed: int = 0) -> np.ndarray:
    """A rater's votes in both orders, (N, O): right with a probability, but for the first shown with another."""
    draw = np.random.default_rng(seed)
    out = np.empty((len(TRUTH), 2))
    for order, first in ((0, 1.0), (1, 0.0)):
        right = np.where(draw.random(len(TRUTH)) < accuracy, TRUTH, ~TRUTH)
        out[:, order] = np.where(draw.random(len(TRUTH)) < lean, first, right)
    return out


def panel(*judges: np.ndarray) -> Votes:
    return dense(np.stack(judges, axis=1))


def right(better: np.ndarray) -> float:
    return float(np.where(better == 0.5, 0.5, (better > 0.5) == TRUTH).mean())


MIXED = panel(votes(0.9, seed=1), *(votes(0.55, seed=seed) for seed in range(2, 9)))


@pytest.mark.parametrize("how", [raters.stability, reliability])
def test_one_good_judge_among_poor_ones_is_found(how) -> None:  # type: ignore[no-untyped-def]
    found = raters.weighed(MIXED, how(MIXED))
    assert right(mean_vote(MIXED)) < 0.85 < 0.92 < right(found)


def test_planted_habits_are_recovered() -> None:
    judges = panel(*(votes(accuracy, seed=seed) for seed, accuracy in enumerate((0.9, 0.8, 0.8, 0.7))))
    assert reliability(judges).accuracy_R == pytest.approx([0.9, 0.8, 0.8, 0.7], abs=0.05)
    assert raters.stability(judges).accuracy_R == pytest.approx([0.9, 0.8, 0.8, 0.7], abs=0.06)


def test_a_judge_that_always_names_the_first_counts_for_nothing() -> None:
    judges = panel(votes(0.8, seed=1), votes(0.8, seed=2), votes(0.5, lean=1.0, seed=3))
    for habits in (raters.stability(judges), reliability(judges)):
        assert habits.accuracy_R[2] == pytest.approx(0.5, abs=0.02)
        assert raters.weighed(judges, habits) == pytest.approx(raters.weighed(judges.where(judges.rater_V < 2), habits), abs=0.05)


def test_judges_who_err_together_outvote_the_one_who_is_right_but_not_by_stability() -> None:
    """Four judges whose verdicts come from one mistaken idea, each with noise of its own."""
    rng = np.random.default_rng(0)
    idea = np.where(rng.random(len(TRUTH)) < 0.65, ~TRUTH, TRUTH)
    noisy = [np.where(rng.random((len(TRUTH), 2)) < 0.25, ~idea[:, None], idea[:, None]).astype(float) for _ in range(4)]
    judges = panel(votes(0.95, seed=1), *noisy)
    assert right(raters.weighed(judges, reliability(judges))) < 0.5
    assert right(raters.weighed(judges, raters.stability(judges))) > right(mean_vote(judges)) + 0.15


def test_which_side_is_called_chosen_does_not_matter() -> None:
    turned = MIXED._replace(p_V=1 - MIXED.p_V)
    for how in (raters.stability, reliability):
        assert raters.weighed(turned, how(turned)) == pytest.approx(1 - raters.weighed(MIXED, how(MIXED)), abs=1e-6)


def test_missing_votes_and_ties_say_nothing() -> None:
    judges = dense(np.array([[[1.0, NAN], [NAN, NAN]], [[0.5, 0.5], [0.5, NAN]], [[NAN, NAN], [NAN, NAN]]]))
    habits = raters.Habits(np.array([0.8, 0.7]), np.array([0.2, 0.3]))
    assert raters.weighed(judges, habits) == pytest.approx([0.8, 0.5, 0.5])
    assert mean_vote(judges).tolist() == [1.0, 0.5, 0.5]


def test_the_order_shown_second_speaks_of_the_other_side() -> None:
    """A judge that names the first 9 times of 10 where it is better, 6 of 10 where it is not."""
    habits = raters.Habits(np.array([0.9]), np.array([0.6]))
    judges = dense(np.array([[[1.0, NAN]], [[0.0, NAN]], [[NAN, 1.0]], [[NAN, 0.0]]]))
    assert raters.weighed(judges, habits) == pytest.approx([0.6, 0.2, 0.8, 0.4])


def test_nobody_and_nothing() -> None:
    nothing = dense(np.empty((0, 2, 2)))
    assert raters.weighed(nothing, reliability(nothing)).tolist() == []
    assert raters.stability(nothing).accuracy_R.tolist() == [0.5, 0.5]
