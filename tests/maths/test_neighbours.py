"""Near vectors against all cosines."""

from typing import Any

import numpy as np
import pytest

from curate.maths.crowds import Held
from curate.maths.neighbours import Found, near, near_within


def planted(rows: int, copies: int, width: int = 256, seed: int = 0) -> np.ndarray:
    """Vectors of unit length in random directions; the last `copies` are near others, at cosines from 0.91 to 0.99."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = random.uniform(0.91, 0.99, (copies, 1)).astype(np.float32)
    aside = random.standard_normal((copies, width)).astype(np.float32)
    origin = vectors[random.integers(0, rows - copies, copies)]
    aside -= (aside * origin).sum(axis=1, keepdims=True) * origin
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    vectors[rows - copies :] = cosine * origin + np.sqrt(1 - cosine**2) * aside
    return vectors


def pairs(found: Found) -> dict[tuple[int, int], float]:
    edges = found.edges
    return dict(zip(zip(edges.left.tolist(), edges.right.tolist(), strict=True), edges.likeness.tolist(), strict=True))


def all_pairs(vectors: np.ndarray, floor: float) -> dict[tuple[int, int], float]:
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    left, right = np.nonzero(np.triu(cosines >= floor, 1))
    return {(i, j): float(cosines[i, j]) for i, j in zip(left.tolist(), right.tolist(), strict=True)}


def test_few_rows_are_all_compared() -> None:
    vectors = planted(3000, 700)
    found, wanted = near(vectors, 0.9), all_pairs(vectors, 0.9)
    assert found.how == "exact" and found.recall == 1.0
    assert pairs(found).keys() == wanted.keys() and len(wanted) >= 700
    assert max(abs(cosine - wanted[pair]) for pair, cosine in pairs(found).items()) < 1e-5


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_cells_find_nearly_all_and_nothing_else(kind: type[np.floating[Any]]) -> None:
    vectors = planted(5000, 1000).astype(kind)
    found, wanted = near(vectors, 0.9, exact_below=500), all_pairs(vectors, 0.9)
    assert found.how.startswith("cells")
    assert found.edges.likeness.min() >= 0.9
    assert len(pairs(found).keys() - wanted.keys()) <= 2  # rounding at the floor
    assert len(pairs(found).keys() & wanted.keys()) >= 0.99 * len(wanted)


def test_a_floor_so_low_that_sketches_tell_little_finds_the_same() -> None:
    vectors = planted(5000, 1000)
    found, wanted = pairs(near(vectors, 0.25, exact_below=500)), all_pairs(vectors, 0.25)
    assert found.keys() <= wanted.keys() and max(abs(cosine - wanted[pair]) for pair, cosine in found.items()) < 1e-5
    planted_pairs = {pair for pair, cosine in wanted.items() if cosine > 0.9}
    assert len(found.keys() & planted_pairs) >= 0.99 * len(planted_pairs) and len(wanted) > len(planted_pairs)


def test_a_pair_that_shares_several_cells_is_found_once() -> None:
    vectors, held = planted(5000, 1000), Held(5000)
    found = near(vectors, 0.9, exact_below=500, held=held)
    assert held.number == len(found.edges.left) >= 990


def test_pairs_left_out_of_a_crowd_are_not_taken_for_missed_ones() -> None:
    vectors = planted(3000, 500)
    vectors[:400] = vectors[0]
    found = near(vectors, 0.9, exact_below=500, held=Held(3000, of_row=3))
    assert found.crowd[:400].sum() > 300 and found.recall > 0.95


def test_recall_is_estimated_against_exact_search() -> None:
    vectors = planted(5000, 1500)
    one, many = (near(vectors, 0.9, exact_below=500, probes=probes, sample=5000) for probes in (1, 12))
    wanted = all_pairs(vectors, 0.9)
    for found in (one, many):
        assert found.recall == pytest.approx(len(pairs(found)) / len(wanted), abs=1e-3)
        assert abs(found.checked - len(wanted)) <= 2
    assert one.recall < 0.9 < many.recall


@pytest.mark.parametrize("exact_below", [100_000, 500])
def test_pairs_of_known_rows_are_left_out(exact_below: int) -> None:
    vectors = planted(4000, 1000)
    vectors = vectors[np.random.default_rng(3).permutation(4000)]
    whole = pairs(near(vectors, 0.9, exact_below=exact_below))
    added = pairs(near(vectors, 0.9, 3000, exact_below=exact_below))
    wanted = {pair for pair in all_pairs(vectors, 0.9) if pair[1] >= 3000}
    assert added.keys() <= wanted and len(added) >= 0.99 * len(wanted)
    assert any(pair[1] < 3000 for pair in whole)


@pytest.mark.parametrize("count", [2, 10, 60])
def test_only_rows_of_one_scope_are_compared(count: int) -> None:
    vectors = planted(600, 200)
    scopes = np.arange(600) % count
    everything = all_pairs(vectors, 0.9)
    wanted = {pair for pair in everything if scopes[pair[0]] == scopes[pair[1]]}
    assert pairs(near_within(vectors, scopes, 0.9)).keys() == wanted and 0 < len(wanted) < len(everything)
    later = pairs(near_within(vectors, scopes, 0.9, 500)).keys()
    assert later == {pair for pair in wanted if pair[1] >= 500}


def test_rows_that_have_cells_keep_them_and_added_rows_are_compared_there() -> None:
    vectors = planted(4000, 1000)
    vectors = vectors[np.random.default_rng(3).permutation(4000)]
    before = near(vectors[:3750], 0.9, exact_below=500)
    assert before.homes is not None and len(np.unique(before.homes)) > 100
    found = near(vectors, 0.9, 3750, exact_below=500, homes=before.homes)
    wanted = {pair for pair in all_pairs(vectors, 0.9) if pair[1] >= 3750}
    assert pairs(found).keys() <= wanted and len(pairs(found)) >= 0.98 * len(wanted)
    assert found.homes is not None and found.homes[:3750].tolist() == before.homes.tolist()
    assert set(found.homes[3750:].tolist()) <= set(before.homes.tolist())
    elsewhere = near(vectors, 0.9, 3750, exact_below=500, homes=np.roll(before.homes, 1))  # known rows in wrong cells
    assert len(pairs(elsewhere)) < 0.5 * len(wanted)


@pytest.mark.parametrize("known", [3990, 2000])
def test_a_few_added_rows_meet_all_and_many_are_searched_with_all(known: int) -> None:
    vectors = planted(4000, 1000)
    vectors = vectors[np.random.default_rng(3).permutation(4000)]
    found = near(vectors, 0.9, known, exact_below=500)
    wanted = {pair for pair in all_pairs(vectors, 0.9) if pair[1] >= known}
    assert found.how == ("exact" if known == 3990 else "cells: 252") and pairs(found).keys() <= wanted
    assert len(pairs(found)) >= (len(wanted) if known == 3990 else 0.99 * len(wanted))


def test_cells_are_those_of_a_scope() -> None:
    vectors = planted(4000, 1000)
    vectors = vectors[np.random.default_rng(3).permutation(4000)]
    scopes = np.where(np.arange(4000) % 4, 0, 1)
    before = near_within(vectors[:3800], scopes[:3800], 0.9, exact_below=1500)
    assert before.homes is not None and (before.homes[scopes[:3800] == 1] == -1).all()  # too few to need cells
    at_home = before.homes[scopes[:3800] == 0]
    assert (at_home >= 0).all() and (scopes[at_home] == 0).all()
    found = near_within(vectors, scopes, 0.9, 3800, exact_below=1500, homes=before.homes)
    wanted = {pair for pair in all_pairs(vectors, 0.9) if pair[1] >= 3800 and scopes[pair[0]] == scopes[pair[1]]}
    assert pairs(found).keys() <= wanted and len(pairs(found)) >= 0.98 * len(wanted)
    assert found.homes is not None and found.homes[:3800].tolist() == before.homes.tolist()


def test_no_rows_have_no_neighbours() -> None:
    assert not pairs(near(np.zeros((0, 8), np.float32), 0.9))
    assert not pairs(near_within(np.zeros((0, 8), np.float32), np.zeros(0, np.int64), 0.9))
