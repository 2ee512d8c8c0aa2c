"""Connected rows, against a slow search."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.maths.clusters import complete, components, first_equal, in_order, nearest_better, single
from curate.maths.jaccard import Edges


def slow(rows, keys, total):
    labels = list(range(total))
    changed = True
    while changed:
        changed = False
        for first, one in zip(rows, keys, strict=True):
            for second, other in zip(rows, keys, strict=True):
                if one == other and labels[second] > labels[first]:
                    labels[second], changed = labels[first], True
    return labels


@pytest.mark.parametrize("seed", range(20))
def test_components_agree_with_a_slow_search(seed):
    rng = np.random.default_rng(seed)
    total, links = 15, int(rng.integers(0, 25))
    rows, keys = rng.integers(0, total, links), rng.integers(0, 12, links)
    assert components(rows, keys, total).tolist() == slow(rows, keys, total)


def test_a_long_shuffled_chain_takes_few_rounds():
    place = np.random.default_rng(0).permutation(40_000)
    rows = np.concatenate([place[:-1], place[1:]])
    start = time.process_time()
    assert (components(rows, np.tile(np.arange(39_999), 2), 40_000) == 0).all()
    assert time.process_time() - start < 3  # a dozen rounds take 0.01 s, a round for each link half a minute


def test_no_rows():
    assert len(components(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 0)) == 0


def edges_of(*pairs):
    left, right, likeness = zip(*pairs, strict=True) if pairs else ((), (), ())
    return Edges.of(np.array(left, np.int64), np.array(right, np.int64), np.array(likeness, np.float32))


def test_the_preferred_row_is_kept_and_the_chain_behind_it_is_not_dropped():
    """0 - 1 - 2: 1 is alike to both, 0 and 2 are not alike."""
    chain = edges_of((0, 1, 0.9), (1, 2, 0.8))
    assert complete(chain, np.array([0, 1, 2])).kept.tolist() == [0, 0, 2]
    assert complete(chain, np.array([1, 0, 2])).kept.tolist() == [1, 1, 1]
    assert complete(chain, np.array([1, 0, 2])).likeness.tolist() == pytest.approx([0.9, 1, 0.8])


def test_a_dropped_row_joins_the_most_alike_of_the_kept_rows_preferred_to_it():
    found = complete(edges_of((0, 2, 0.7), (1, 2, 0.9), (2, 3, 0.95)), np.array([0, 1, 2, 3]))
    assert found.kept.tolist() == [0, 1, 1, 3]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.tuples(st.integers(0, 14), st.integers(0, 14)), st.integers(1, 9)), st.permutations(range(15)))
def test_each_cluster_keeps_one_row_and_no_two_kept_rows_are_alike(links, order):
    pairs = [(min(i, j), max(i, j), v / 10) for (i, j), v in links.items() if i != j]
    edges, place = edges_of(*pairs), np.array(order)
    alike = {(i, j): v for i, j, v in zip(edges.left.tolist(), edges.right.tolist(), edges.likeness.tolist(), strict=True)}
    found = complete(edges, place)
    for row, kept in enumerate(found.kept.tolist()):
        assert found.kept[kept] == kept
        if row != kept:
            assert place[kept] < place[row] and found.likeness[row] == alike[min(row, kept), max(row, kept)]
    standing = set(found.kept.tolist())
    assert not any(i in standing and j in standing for i, j in alike)


def test_single_linkage_follows_the_chain_and_tells_its_path_and_its_weakest_link():
    found = single(edges_of((0, 1, 0.9), (1, 2, 0.8), (0, 2, 0.5), (3, 4, 0.7)), np.array([0, 1, 2, 4, 3]))
    assert found.kept.tolist() == [0, 0, 0, 4, 4]
    assert found.path(2) == [2, 1, 0] and found.path(3) == [3, 4] and found.path(0) == [0]
    assert found.likeness.tolist() == pytest.approx([1, 0.9, 0.8, 0.7, 1])


def test_the_nearest_preferred_row_is_measured_whether_or_not_it_is_kept():
    near = nearest_better(edges_of((0, 1, 0.9), (1, 2, 0.8)), np.array([0, 1, 2]))
    assert np.isnan(near[0]) and near[1:].tolist() == pytest.approx([0.9, 0.8])


def test_order_puts_the_highest_first_equals_as_they_stand_and_no_rank_last():
    assert in_order(np.array([1, np.nan, 3, 3], np.float32)).tolist() == [2, 3, 0, 1]
    assert in_order(np.array([1, np.nan, 3, 5], np.float32), ahead=2).tolist() == [0, 1, 3, 2]


def test_equal_rows_of_a_scope_are_the_first_of_them():
    digests, has = np.array([5, 6, 5, 5, 0, 0], np.uint64), np.array([True] * 4 + [False] * 2)
    assert first_equal(digests, np.zeros(6, np.int64), has).tolist() == [0, 1, 0, 0, 4, 5]
    assert first_equal(digests, np.array([0, 0, 1, 1, 0, 0]), has).tolist() == [0, 1, 2, 2, 4, 5]
