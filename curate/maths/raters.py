"""Weigh raters' votes by their habits, and find habits out from how seldom a verdict changes with the order.

Source of the weighing: Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979,
with the two answers of a comparison, first and second, as the classes: a judge that names the side shown first whatever it
holds counts for nothing.

Letters: N pairs, R raters, V votes.
"""

from typing import NamedTuple

import numpy as np

from curate.maths.votes import Votes

SMOOTHING = 1.0  # votes of either kind that every rater is given first


class Habits(NamedTuple):
    """How each rater votes."""

    first_R: np.ndarray
    """Probability of naming the side shown first where it is the better one."""
    wrong_first_R: np.ndarray
    """Probability of naming the side shown first where it is the worse one."""
    prior: float = 0.5
    """Share of pairs whose chosen side is better, before any vote."""

    @property
    def accuracy_R(self) -> np.ndarray:
        """Share of right votes where the better side stands first half of the time."""
        right: np.ndarray = (self.first_R + 1 - self.wrong_first_R) / 2
        return right


def even(accuracy_R: np.ndarray) -> Habits:
    """Habits of raters who are right equally often wherever the better side stands."""
    return Habits(accuracy_R, 1 - accuracy_R)


def stability(votes: Votes) -> Habits:
    """Habits without a liking for a place, from how often a rater's two orders agree; one without both orders says nothing.

    A rater that is right with probability a in either order agrees with itself in a^2 + (1-a)^2 of all comparisons; one
    that agrees half of the time or less says nothing.
    """
    shown, swapped = both_orders(votes)
    same_V = np.sign(votes.lean_V[shown]) == np.sign(votes.lean_V[swapped])
    raters = votes.rater_V[shown]
    same_R, both_R = np.bincount(raters, same_V, votes.raters), np.bincount(raters, minlength=votes.raters)
    agree_R = (same_R + SMOOTHING) / (both_R + 2 * SMOOTHING)
    return even((1 + np.sqrt(np.maximum(2 * agree_R - 1, 0.0))) / 2)


def both_orders(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """Where a rater saw a pair in both orders: the vote with chosen shown first, and the one with rejected first."""
    key = votes.pair_V * max(votes.raters, 1) + votes.rater_V
    order = np.lexsort((votes.swapped_V, key))
    twice = np.diff(key[order]) == 0
    return order[:-1][twice], order[1:][twice]


def weighed(votes: Votes, habits: Habits) -> np.ndarray:
    """Probability that the chosen side is better, (N,), given the votes and the habits; the prior where nobody leans."""
    yes_R, no_R = said(habits)
    told = votes.decided()
    first_V, sign_V = np.where(told.swapped_V, 1 - told.p_V, told.p_V), np.where(told.swapped_V, -1.0, 1.0)
    said_V = sign_V * (first_V * (yes_R - no_R)[told.rater_V] + no_R[told.rater_V])
    return logistic(told.by_pair(said_V) + np.log(habits.prior) - np.log1p(-habits.prior))


def said(habits: Habits) -> tuple[np.ndarray, np.ndarray]:
    """What it says for the side shown first, in log odds, that a rater names it, and that it does not, (R,) each."""
    yes_R = np.log(habits.first_R) - np.log(habits.wrong_first_R)
    return yes_R, np.log1p(-habits.first_R) - np.log1p(-habits.wrong_first_R)


def logistic(odds: np.ndarray) -> np.ndarray:
    """Probability of log odds, without overflow."""
    probability: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * odds))
    return probability
