"""Find out how far raters can be relied on from their votes alone, and weigh their votes by it.

Source: Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979, with the two
answers of a comparison, first and second, as the classes: a judge that names the side shown first whatever it holds is then
found out by its own votes in the two orders, and counts for nothing.

Letters: N comparisons, R raters, O orders (chosen first, rejected first).
"""

from typing import NamedTuple

import numpy as np

MOST_ROUNDS = 500
TOLERANCE = 1e-8  # largest change of a probability at which the fit has come to rest
SMOOTHING = 1.0  # votes of either kind that every rater is given first


class Habits(NamedTuple):
    """How each rater votes."""

    first_R: np.ndarray
    """Probability of naming the side shown first where it is the better one."""
    wrong_first_R: np.ndarray
    """Probability of naming the side shown first where it is the worse one."""

    @property
    def accuracy_R(self) -> np.ndarray:
        """Share of right votes where the better side stands first half of the time."""
        right: np.ndarray = (self.first_R + 1 - self.wrong_first_R) / 2
        return right


def reliability(votes_NRO: np.ndarray) -> Habits:
    """The habits under which the votes are likeliest, sides with the majority before any is known.

    votes_NRO: probability that the chosen side is better as a rater says it with chosen first (O = 0) and with rejected
    first (O = 1); NaN for no vote. Which side is called chosen does not enter: both are taken to be better equally often.
    """
    votes_NRO = votes_NRO.astype(np.float64)
    better_N = mean_vote(votes_NRO)
    for _ in range(MOST_ROUNDS):
        habits = _habits(votes_NRO, better_N)
        new_N = weighed(votes_NRO, habits)
        rested = np.abs(new_N - better_N).max(initial=0.0) <= TOLERANCE
        better_N = new_N
        if rested:
            break
    return _habits(votes_NRO, better_N)


def stability(votes_NRO: np.ndarray) -> Habits:
    """Habits without a liking for a place, from how often a rater's two orders agree; one without both orders says nothing.

    A rater that is right with probability a in either order agrees with itself in a^2 + (1-a)^2 of all comparisons; one
    that agrees half of the time or less says nothing.
    """
    sides_NRO = np.sign(votes_NRO - 0.5)
    both_NR = ~np.isnan(votes_NRO).any(axis=2)
    same_R = (both_NR & (sides_NRO[:, :, 0] == sides_NRO[:, :, 1])).sum(axis=0)
    agree_R = (same_R + SMOOTHING) / (both_NR.sum(axis=0) + 2 * SMOOTHING)
    right_R = (1 + np.sqrt(np.maximum(2 * agree_R - 1, 0.0))) / 2
    return Habits(right_R, 1 - right_R)


def weighed(votes_NRO: np.ndarray, habits: Habits) -> np.ndarray:
    """Probability that the chosen side is better, (N,), given the votes and the habits; 0.5 where nobody leans."""
    yes_R = np.log(habits.first_R) - np.log(habits.wrong_first_R)
    no_R = np.log1p(-habits.first_R) - np.log1p(-habits.wrong_first_R)
    odds = np.zeros(len(votes_NRO))
    for order, sign in ((0, 1.0), (1, -1.0)):
        first_NR, spoke_NR = _named_first(votes_NRO, order)
        odds += sign * np.where(spoke_NR, first_NR * yes_R + (1 - first_NR) * no_R, 0.0).sum(axis=1)
    better: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * odds))
    return better


def _named_first(votes_NRO: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """How far each vote is for the side shown first, 0 where there is none, and whether it leans to a side at all."""
    votes_NR = votes_NRO[:, :, order]
    spoke_NR = ~np.isnan(votes_NR) & (votes_NR != 0.5)
    told_NR = np.where(spoke_NR, votes_NR, 0.0)
    return (told_NR if order == 0 else np.where(spoke_NR, 1 - told_NR, 0.0)), spoke_NR


def _habits(votes_NRO: np.ndarray, better_N: np.ndarray) -> Habits:
    counts = np.full((2, 2, votes_NRO.shape[1]), SMOOTHING)  # (first is better, first is named, R)
    for order, right_N in ((0, better_N), (1, 1 - better_N)):
        first_NR, spoke_NR = _named_first(votes_NRO, order)
        for kind, share_N in enumerate((1 - right_N, right_N)):
            counts[kind, 1] += share_N @ first_NR
            counts[kind, 0] += share_N @ np.where(spoke_NR, 1 - first_NR, 0.0)
    rates = counts[:, 1] / counts.sum(axis=1)
    return Habits(rates[1], rates[0])


def mean_vote(votes_NRO: np.ndarray) -> np.ndarray:
    """Mean vote of each comparison, (N,); 0.5 without one."""
    told = ~np.isnan(votes_NRO)
    total, count = np.where(told, votes_NRO, 0.0).sum(axis=(1, 2)), told.sum(axis=(1, 2))
    mean: np.ndarray = np.divide(total, count, out=np.full(len(votes_NRO), 0.5), where=count > 0)
    return mean
