"""Strengths of responses and reliability of raters from votes on pairs, found together.

A rater of reliability r votes for i over j with probability r P(i > j) + (1 - r) P(j > i), P(i > j) = 1/(1 + exp(s_j - s_i)):
1/2 guesses, below it votes against the order. Source: Chen et al., "Pairwise Ranking Aggregation in a Crowdsourced Setting",
WSDM 2013, sections 3 and 4, with its virtual item of strength 0 that every response meets, here with half a win for either.

Letters: I responses, R raters, V votes.
"""

from typing import NamedTuple

import numpy as np

from curate.maths.raters import SMOOTHING, logistic
from curate.maths.votes import Votes

VIRTUAL = 0.5  # wins of a response over the virtual item, and losses to it
MOST_ROUNDS = 500
START = 1.0  # log odds of every rater's reliability before any vote: which end of the order is up has to be said once


class CrowdBradleyTerry(NamedTuple):
    """What the votes say of responses and raters."""

    strength_I: np.ndarray
    """In logits, around 0 among responses that some chain of pairs links."""
    reliability_R: np.ndarray
    """Probability that a rater votes by the order of the strengths and not against it."""


def crowd_bradley_terry(votes: Votes, chosen_N: np.ndarray, rejected_N: np.ndarray, items: int) -> CrowdBradleyTerry:
    """Strengths and reliabilities of greatest posterior probability. chosen_N, rejected_N: numbers of the responses of pairs.

    Every rater is given one vote by the order and one against it first. Solved by L-BFGS from equal strengths.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    votes = votes.decided()
    one_V, other_V = chosen_N[votes.pair_V], rejected_N[votes.pair_V]

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        strength_I, odds_R = point[:items], point[items:]
        up_V, by_V = logistic(strength_I[one_V] - strength_I[other_V]), logistic(odds_R)[votes.rater_V]
        yes_V = np.clip(by_V * up_V + (1 - by_V) * (1 - up_V), 1e-12, 1 - 1e-12)
        value = votes.p_V @ np.log(yes_V) + (1 - votes.p_V) @ np.log1p(-yes_V)
        slope_V = (votes.p_V - yes_V) / (yes_V * (1 - yes_V))
        gap_V = slope_V * (2 * by_V - 1) * up_V * (1 - up_V)
        of_I = np.bincount(one_V, gap_V, items) - np.bincount(other_V, gap_V, items)
        of_R = votes.by_rater(slope_V * (2 * up_V - 1) * by_V * (1 - by_V))
        for part, weight in ((strength_I, VIRTUAL), (odds_R, SMOOTHING)):
            value -= weight * (np.logaddexp(0, part) + np.logaddexp(0, -part)).sum()
        to_middle = [VIRTUAL * (1 - 2 * logistic(strength_I)), SMOOTHING * (1 - 2 * logistic(odds_R))]
        return -float(value), -np.concatenate([of_I, of_R]) - np.concatenate(to_middle)

    start = np.concatenate([np.zeros(items), np.full(votes.raters, START)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_ROUNDS, "ftol": 1e-10, "gtol": 1e-5})
    return CrowdBradleyTerry(found.x[:items], logistic(found.x[items:]))
