"""Find out from votes alone how often each rater is right, together with which sides are better.

Source: Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics 28,
1979; with one number a rater (one coin): Zhang, Chen, Zhou and Jordan, "Spectral Methods Meet EM: A Provably Optimal Algorithm
for Crowdsourcing", JMLR 17, 2016, section 2; of the interval: Louis, "Finding the Observed Information Matrix when Using the EM
Algorithm", JRSS B 44, 1982.

Letters: N pairs, R raters, V votes.
"""

from typing import NamedTuple

import numpy as np

from curate.maths.raters import SMOOTHING, Habits, even, logistic, said
from curate.maths.votes import Votes, mean_vote

MOST_ROUNDS = 500
TOLERANCE = 1e-6  # largest change of a rate at which the fit has come to rest
Z95 = 1.959964


class _Cells(NamedTuple):
    """Votes by rater, side named and order, (R, 2, 2) cells: named rejected or chosen; chosen or rejected shown first.

    A vote between the sides is a part of a vote for either.
    """

    pair_V: np.ndarray
    cell_V: np.ndarray
    weight_V: np.ndarray | None
    """None where each counts 1."""
    pairs: int
    counts_RSO: np.ndarray

    def chosen_better(self, better_N: np.ndarray) -> np.ndarray:
        """Votes of each cell on pairs whose chosen side is better, as far as is known, (R, 2, 2)."""
        return self._filled(better_N[self.pair_V])

    def odds(self, say_RSO: np.ndarray) -> np.ndarray:
        """Sum over the votes of each pair of what a vote of each cell says, (N,)."""
        said_V = say_RSO.ravel()[self.cell_V]
        return np.bincount(self.pair_V, said_V if self.weight_V is None else said_V * self.weight_V, self.pairs)

    def _filled(self, share_V: np.ndarray) -> np.ndarray:
        weights = share_V if self.weight_V is None else share_V * self.weight_V
        return np.bincount(self.cell_V, weights, self.counts_RSO.size).reshape(self.counts_RSO.shape)


def _cells(votes: Votes) -> _Cells:
    whole = ((votes.p_V == 0) | (votes.p_V == 1)).all()
    cell_V = (votes.rater_V * 2 + (1 if not whole else votes.p_V.astype(np.int64))) * 2 + votes.swapped_V
    pair_V, weight_V = votes.pair_V, None
    if not whole:
        pair_V, cell_V = np.concatenate([pair_V, pair_V]), np.concatenate([cell_V, cell_V - 2])
        weight_V = np.concatenate([votes.p_V, 1 - votes.p_V])
    counts_RSO = np.bincount(cell_V, weight_V, 4 * votes.raters).reshape(votes.raters, 2, 2)
    return _Cells(pair_V, cell_V, weight_V, votes.pairs, counts_RSO)


def reliability(votes: Votes) -> Habits:
    """The habits under which the votes are likeliest, sides with the majority before any is known.

    With votes in both orders the classes are the places, and which side is called chosen does not enter. With chosen always
    shown first, as far as anybody knows, they are the sides, and how often the chosen one is better is found along with them.
    Every rater is given two votes of the crowd's mean habits first: those with few votes are taken for one of the crowd.
    """
    votes = votes.decided()
    cells, one_order = _cells(votes), not votes.swapped_V.any()
    all_R, firsts_R = cells.counts_RSO.sum(axis=(1, 2)), cells.counts_RSO[:, 1, 0] + cells.counts_RSO[:, 0, 1]
    told_N = votes.by_pair() > 0
    better_N = mean_vote(votes)
    rates_2R = np.zeros((2, votes.raters))
    for _ in range(MOST_ROUNDS):
        chosen_RSO = cells.chosen_better(better_N)
        rejected_RSO = cells.counts_RSO - chosen_RSO
        named_R = chosen_RSO[:, 1, 0] + rejected_RSO[:, 0, 1]
        at_best_R = chosen_RSO[:, :, 0].sum(axis=1) + rejected_RSO[:, :, 1].sum(axis=1)  # the side shown first is the better one
        before, rates_2R = rates_2R, np.stack([_rates(named_R, at_best_R), _rates(firsts_R - named_R, all_R - at_best_R)])
        habits = Habits(rates_2R[0], rates_2R[1], _share(better_N[told_N]) if one_order else 0.5)
        if np.abs(rates_2R - before).max(initial=0.0) <= TOLERANCE:
            break
        yes_R, no_R = said(habits)
        odds = cells.odds(np.stack([np.stack([no_R, -yes_R], axis=1), np.stack([yes_R, -no_R], axis=1)], axis=1))
        better_N = logistic(odds + np.log(habits.prior) - np.log1p(-habits.prior))
    return habits


def _rates(named_R: np.ndarray, of_R: np.ndarray) -> np.ndarray:
    mean = (named_R.sum() + SMOOTHING) / (of_R.sum() + 2 * SMOOTHING)
    return np.asarray((named_R + 2 * SMOOTHING * mean) / (of_R + 2 * SMOOTHING))


def _share(better_N: np.ndarray) -> float:
    return float((better_N.sum() + SMOOTHING) / (len(better_N) + 2 * SMOOTHING))


class Accuracy(NamedTuple):
    """How often each rater is right, whichever side is called chosen and wherever it stands, (R,) each."""

    right_R: np.ndarray
    low_R: np.ndarray
    """Lower end of the 95 % interval."""
    high_R: np.ndarray
    """Upper end of it."""

    @property
    def habits(self) -> Habits:
        """As habits without a liking for a place."""
        return even(self.right_R)


def one_coin(votes: Votes) -> Accuracy:
    """The accuracies under which the votes are likeliest; every rater is given two votes of the crowd's mean accuracy first.

    Only pairs with two votes or more tell something of a rater. The mean is 2/3 before any vote: better than chance.
    """
    votes = votes.decided()
    votes = votes.where(votes.by_pair()[votes.pair_V] >= 2)
    cells, counts_R, better_N = _cells(votes), votes.by_rater(), mean_vote(votes)
    right_R = np.zeros(votes.raters)
    for _ in range(MOST_ROUNDS):
        chosen_RSO = cells.chosen_better(better_N)
        agreed_R = (chosen_RSO[:, 1] + cells.counts_RSO[:, 0] - chosen_RSO[:, 0]).sum(axis=1)
        mean = (agreed_R.sum() + 2) / (counts_R.sum() + 3)
        before, right_R = right_R, (agreed_R + 2 * SMOOTHING * mean) / (counts_R + 2 * SMOOTHING)
        if np.abs(right_R - before).max(initial=0.0) <= TOLERANCE:
            break
        odds_R = np.log(right_R) - np.log1p(-right_R)
        better_N = logistic(cells.odds(np.repeat(np.stack([-odds_R, odds_R], axis=1)[:, :, None], 2, axis=2)))
    return Accuracy(right_R, *_interval(votes, right_R, better_N))


def _agreeing(votes: Votes, better_N: np.ndarray) -> np.ndarray:
    """Probability that each vote is right, (V,)."""
    return np.asarray(0.5 + (votes.p_V - 0.5) * (2 * better_N[votes.pair_V] - 1))


def _interval(votes: Votes, right_R: np.ndarray, better_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval on the scale of log odds: what is not known of the better sides counts as missing votes."""
    known_V = _agreeing(votes, better_N)
    whole_R = (votes.by_rater() + 2 * SMOOTHING) * right_R * (1 - right_R)
    left_R = np.maximum(whole_R - votes.by_rater(known_V * (1 - known_V)), np.finfo(float).tiny)
    odds_R, width_R = np.log(right_R) - np.log1p(-right_R), Z95 / np.sqrt(left_R)
    return logistic(odds_R - width_R), logistic(odds_R + width_R)
