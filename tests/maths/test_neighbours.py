"""Near vectors against all cosines."""

import numpy as np
import pytest

from curate.maths.neighbours import Found, near, near_within, same_rows


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
def test_cells_find_nearly_all_and_nothing_else(kind: type) -> None:
    vectors = planted(5000, 1000).astype(kind)
    found, wanted = near(vectors, 0.9, exact_below=500), all_pairs(vectors, 0.9)
    assert found.how.startswith("cells")
    assert found.edges.likeness.min() >= 0.9
    assert len(pairs(found).keys() - wanted.keys()) <= 2  # rounding at the floor
    assert len(pairs(found).keys() & wanted.keys()) >= 0.99 * len(wanted)


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


def test_only_rows_of_one_scope_are_compared() -> None:
    vectors = planted(600, 200)
    scopes = np.arange(600) % 2
    wanted = {pair for pair in all_pairs(vectors, 0.9) if pair[0] % 2 == pair[1] % 2}
    assert pairs(near_within(vectors, scopes, 0.9)).keys() == wanted
    later = pairs(near_within(vectors, scopes, 0.9, 500)).keys()
    assert later == {pair for pair in wanted if pair[1] >= 500}


def test_equal_rows_of_a_scope_are_the_first_of_them() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float16)
    assert same_rows(vectors, np.zeros(4, np.int64)).tolist() == [0, 1, 0, 0]
    assert same_rows(vectors, np.array([0, 0, 1, 1])).tolist() == [0, 1, 2, 2]


def test_no_rows_have_no_neighbours() -> None:
    assert not pairs(near(np.zeros((0, 8), np.float32), 0.9))
    assert not pairs(near_within(np.zeros((0, 8), np.float32), np.zeros(0, np.int64), 0.9))
