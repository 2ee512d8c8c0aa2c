"""Choose which candidates of a prompt to compare, for all prompts at once.

Candidates are ranked within their prompt; a place is a position in that ranking, prompts one after the other.
Comparisons are given as two arrays of places, the better and the worse side, the comparisons of a prompt together
and in order of preference: a limit per prompt takes them from the front.
"""

from typing import NamedTuple

import numpy as np

Comparisons = tuple[np.ndarray, np.ndarray]


class Ranking(NamedTuple):
    """Candidates by prompt, then by falling score, then by position in the table: M places."""

    rows_M: np.ndarray
    """Row number of the candidate at each place."""
    first_M: np.ndarray
    """Place of the best candidate of the same prompt."""
    size_M: np.ndarray
    """How many candidates its prompt has."""


def rank(prompts_N: np.ndarray, scores_N: np.ndarray, usable_N: np.ndarray) -> Ranking:
    """Rank the usable rows. prompts_N: a number per prompt, whose rows need not be together."""
    rows = np.flatnonzero(usable_N)
    prompts = prompts_N[rows]
    order = np.lexsort((-scores_N[rows], prompts))  # stable: equal scores keep the table's order
    prompts = prompts[order]
    starts = np.flatnonzero(np.diff(prompts, prepend=prompts[:1] - 1)) if len(rows) else np.zeros(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(rows)))
    return Ranking(rows[order], np.repeat(starts, sizes), np.repeat(sizes, sizes))


def within(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... count-1 for each count, one after the other."""
    numbers: np.ndarray = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers


def best_against_others(ranking: Ranking) -> Comparisons:
    """Each prompt's best against every other, the worst first."""
    bests = np.flatnonzero(ranking.first_M == np.arange(len(ranking.rows_M)))
    counts = ranking.size_M[bests] - 1
    better = np.repeat(bests, counts)
    return better, better + ranking.size_M[better] - 1 - within(counts)


def every_two(ranking: Ranking) -> Comparisons:
    """Every candidate against every one ranked below it, in order of rank."""
    places = np.arange(len(ranking.rows_M))
    counts = ranking.size_M - 1 - (places - ranking.first_M)
    better = np.repeat(places, counts)
    return better, better + 1 + within(counts)


def neighbours(ranking: Ranking) -> Comparisons:
    """Every candidate against the next in rank, the best first."""
    places = np.arange(len(ranking.rows_M))
    better = places[places - ranking.first_M < ranking.size_M - 1]
    return better, better + 1


def right_against_wrong(ranking: Ranking, right_M: np.ndarray, draw_M: np.ndarray) -> Comparisons:
    """Every right candidate against every wrong one, ordered so that each is used once before any is used again.

    draw_M: random numbers that shuffle the right ones and the wrong ones of a prompt. The i-th comparison takes right
    number i mod R and wrong number (i + i // lcm(R, W)) mod W, which meets each of the R x W couples once.
    """
    shuffled = np.lexsort((draw_M, ~right_M, ranking.first_M))
    firsts = np.flatnonzero(ranking.first_M == np.arange(len(ranking.rows_M)))
    rights = np.add.reduceat(right_M, firsts, dtype=np.int64) if len(firsts) else firsts
    wrongs = ranking.size_M[firsts] - rights
    counts = rights * wrongs
    first, right, wrong = (np.repeat(each, counts) for each in (firsts, rights, wrongs))
    turn = within(counts)
    better = first + turn % right
    worse = first + right + (turn + turn // np.lcm(right, wrong)) % wrong
    return shuffled[better], shuffled[worse]


def sort_within(prompts_P: np.ndarray, keys_P: np.ndarray) -> np.ndarray:
    """Order of the comparisons by rising key within each prompt, prompts kept together; equal keys keep their order."""
    order: np.ndarray = np.lexsort((keys_P, prompts_P))
    return order


def first_of_each(prompts_P: np.ndarray, limit: int | None) -> np.ndarray:
    """Whether each comparison is among the first `limit` of its prompt, whose comparisons lie together; None: all."""
    if limit is None or not len(prompts_P):
        return np.ones(len(prompts_P), dtype=bool)
    starts = np.flatnonzero(np.diff(prompts_P, prepend=prompts_P[0] - 1))
    among_first: np.ndarray = within(np.diff(np.append(starts, len(prompts_P)))) < limit
    return among_first
