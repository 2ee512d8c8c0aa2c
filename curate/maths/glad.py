"""Votes weighed by the ability of raters and the difficulty of pairs, found together.

A rater of ability a names the better side of a pair of clarity b with probability 1/(1 + exp(-a b)): ability 0 guesses, below
0 errs on purpose; the less clear a pair, the more everybody guesses. Source: Whitehill et al., "Whose Vote Should Count More:
Optimal Integration of Labels from Labelers of Unknown Expertise", NIPS 2009, with its priors: a and log b are normal with mean
1 and variance 1, and either side is better equally often.

Letters: N pairs, R raters, V votes.
"""

from typing import NamedTuple

import numpy as np

from curate.maths.raters import logistic
from curate.maths.votes import Votes

MOST_ROUNDS = 1000
TOLERANCE = 1e-5  # largest change of an ability or log clarity at which the fit has come to rest
MEAN = 1.0  # of both priors
LONGEST = 1.0  # step of a log clarity


class Glad(NamedTuple):
    """What the votes say of raters and pairs."""

    ability_R: np.ndarray
    better_N: np.ndarray
    """Probability that the chosen side is better; 0.5 without a vote."""
    clarity_N: np.ndarray
    """How far ability tells on a pair, above 0; e without a vote. Its inverse is the pair's difficulty."""


def glad(votes: Votes) -> Glad:
    """Abilities, sides and clarities of greatest posterior probability, by expectation maximisation with Newton steps."""
    votes = votes.decided()
    ability_R, log_N = np.full(votes.raters, MEAN), np.full(votes.pairs, MEAN)
    for _ in range(MOST_ROUNDS):
        right_V, old_N = _right(votes, ability_R, log_N), log_N
        log_N = _clearer(votes, right_V, ability_R, log_N)
        before, ability_R = ability_R, _abler(votes, right_V, ability_R, log_N)
        if max(np.abs(ability_R - before).max(initial=0.0), np.abs(log_N - old_N).max(initial=0.0)) <= TOLERANCE:
            break
    return judged(votes, ability_R)


def judged(votes: Votes, ability_R: np.ndarray) -> Glad:
    """Sides and clarities for known abilities: every pair for itself, whatever other pairs are there."""
    votes = votes.decided()
    log_N = np.full(votes.pairs, MEAN)
    for _ in range(MOST_ROUNDS):
        before, log_N = log_N, _clearer(votes, _right(votes, ability_R, log_N), ability_R, log_N)
        if np.abs(log_N - before).max(initial=0.0) <= TOLERANCE:
            break
    return Glad(ability_R, _better(votes, ability_R, log_N), np.exp(log_N))


def _better(votes: Votes, ability_R: np.ndarray, log_N: np.ndarray) -> np.ndarray:
    # log P(right) - log P(wrong) of one vote is a b itself
    return logistic(np.exp(log_N) * votes.by_pair(votes.lean_V * ability_R[votes.rater_V]))


def _right(votes: Votes, ability_R: np.ndarray, log_N: np.ndarray) -> np.ndarray:
    """Probability that each vote is right, (V,)."""
    better_V = _better(votes, ability_R, log_N)[votes.pair_V]
    return np.asarray(0.5 + (votes.p_V - 0.5) * (2 * better_V - 1))


def _clearer(votes: Votes, right_V: np.ndarray, ability_R: np.ndarray, log_N: np.ndarray) -> np.ndarray:
    """One step of Newton's method, with the expected curvature, towards the likeliest log clarities."""
    x_V = ability_R[votes.rater_V] * np.exp(log_N)[votes.pair_V]
    told_V = logistic(x_V)
    slope = votes.by_pair((right_V - told_V) * x_V) - (log_N - MEAN)
    bend = votes.by_pair(told_V * (1 - told_V) * x_V * x_V) + 1
    return np.asarray(log_N + np.clip(slope / bend, -LONGEST, LONGEST))


def _abler(votes: Votes, right_V: np.ndarray, ability_R: np.ndarray, log_N: np.ndarray) -> np.ndarray:
    """The same towards the likeliest abilities."""
    clarity_V = np.exp(log_N)[votes.pair_V]
    told_V = logistic(ability_R[votes.rater_V] * clarity_V)
    slope = votes.by_rater((right_V - told_V) * clarity_V) - (ability_R - MEAN)
    bend = votes.by_rater(told_V * (1 - told_V) * clarity_V * clarity_V) + 1
    return np.asarray(ability_R + slope / bend)
