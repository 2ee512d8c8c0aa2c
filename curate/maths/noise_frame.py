"""What every method that looks for wrong labels is given: differences, their scales, groups that folds keep whole, and folds."""

from typing import NamedTuple

import numpy as np

from curate.errors import DataError
from curate.maths.chance import splitmix64, uniform
from curate.maths.clusters import components

MIN_PAIRS = 20
MIN_GROUPS = 2
SAME = 1e-12  # mean square of a difference that is rounding alone
LARGEST = 1e33  # beyond that, sums over pairs overflow float32


class Comparisons(NamedTuple):
    """N labelled pairs, all of whose numbers are finite."""

    differences_ND: np.ndarray
    """Features of the chosen side minus the rejected side's, as they were given, float32: no copy is made of them."""
    groups_N: np.ndarray
    """Pairs that share a prompt or a response, directly or through others, have one number."""
    sides_N2: np.ndarray
    """Numbers of the chosen and the rejected response, from 0; equal numbers are the same response."""
    scales_D: np.ndarray
    """What each feature is to be multiplied with before it is learnt from, (D,) float32; 0 for one that never differs."""


def comparisons(
    differences_ND: np.ndarray, prompts_N: np.ndarray, chosen_N: np.ndarray, rejected_N: np.ndarray, blocks: list[int]
) -> Comparisons:
    """The pairs with their groups. prompts, chosen, rejected: any labels that are equal for the same thing.

    blocks: how many neighbouring features belong together (a vector's numbers, a single score), adding up to D.
    Raises DataError by name where nothing can be learnt: too few pairs, one group, features that never differ.
    """
    if len(differences_ND) < MIN_PAIRS:
        raise DataError(f"{len(differences_ND)} pairs with features; at least {MIN_PAIRS} are needed to tell wrong labels")
    _, sides = np.unique(np.concatenate([chosen_N, rejected_N]), return_inverse=True)
    sides_N2 = sides.reshape(2, -1).T
    groups = groups_of(prompts_N, sides_N2)
    if len(np.unique(groups)) < MIN_GROUPS:
        raise DataError(
            "all pairs share one prompt, or are linked by responses they share: no fold can be held out; add other prompts"
        )
    scales = scales_of(differences_ND, blocks)
    return Comparisons(differences_ND.astype(np.float32, copy=False), groups, sides_N2, scales)


def groups_of(prompts_N: np.ndarray, sides_N2: np.ndarray) -> np.ndarray:
    """A number for each set of pairs linked by prompts or responses, (N,) int64."""
    total = len(prompts_N)
    _, prompts = np.unique(prompts_N, return_inverse=True)
    keys = np.concatenate([prompts, prompts.max(initial=-1) + 1 + sides_N2[:, 0], prompts.max(initial=-1) + 1 + sides_N2[:, 1]])
    return components(np.tile(np.arange(total), 3), keys, total)


def scales_of(differences_ND: np.ndarray, blocks: list[int]) -> np.ndarray:
    """Factors, (D,) float32, that give each block a mean square of 2 sqrt(its size): a vector of 384 counts as 20 scores.

    The spread is taken about zero, so that exchanging the sides of a pair changes no scale. A block that is the same on
    both sides of every pair gets the factor 0.
    """
    factors, begin = np.zeros(differences_ND.shape[1], dtype=np.float32), 0
    for size in blocks:
        part = differences_ND[:, begin : begin + size]
        square = float(np.einsum("nd,nd->", part, part, dtype=np.float64)) / len(part)
        if square > LARGEST**2:
            raise DataError(f"a feature differs by about {np.sqrt(square):.0e} between the sides; give it in a larger unit")
        if square > SAME:
            factors[begin : begin + size] = np.sqrt(2 * np.sqrt(size) / square)
        begin += size
    if not factors.any():
        raise DataError("the features are the same on both sides of every pair: they tell nothing about any label")
    return factors


def folds_of(groups_N: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each pair, (N,) in [0, folds'): groups stay whole, sizes are evened out; never more folds than groups."""
    distinct, which, counts = np.unique(groups_N, return_inverse=True, return_counts=True)
    random = np.random.default_rng(seed)
    order = random.permutation(len(distinct))
    order = order[np.argsort(-counts[order], kind="stable")]
    folds = min(folds, len(distinct))
    if len(distinct) > 50 * folds:  # many small groups even out by themselves
        fold_of = np.empty(len(distinct), dtype=np.int64)
        fold_of[order] = np.arange(len(distinct)) % folds
        return np.asarray(fold_of[which])
    load, fold_of = np.zeros(folds), np.empty(len(distinct), dtype=np.int64)
    for group in order:
        fold_of[group] = int(load.argmin())
        load[fold_of[group]] += counts[group]
    return np.asarray(fold_of[which])


def couple_folds(sides_N2: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each pair drawn by its two responses: copies of a pair, turned ones too, are in one fold."""
    low, high = sides_N2.min(axis=1).astype(np.uint64), sides_N2.max(axis=1).astype(np.uint64)
    drawn = splitmix64(splitmix64(low + np.uint64(seed) * np.uint64(0x9E3779B1)) ^ high)
    return np.asarray((uniform(drawn) * folds).astype(np.int64))


def some_groups(groups_N: np.ndarray, pairs: int, seed: int) -> np.ndarray:
    """Rows of whole groups drawn until about so many pairs are in, ascending; all where there are no more."""
    if len(groups_N) <= pairs:
        return np.arange(len(groups_N))
    _, which, counts = np.unique(groups_N, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    taken = max(int(np.searchsorted(np.cumsum(counts[order]), pairs, side="right")), MIN_GROUPS)
    drawn = np.zeros(len(counts), dtype=bool)
    drawn[order[:taken]] = True
    return np.flatnonzero(drawn[which])
