"""Connected rows, against a slow search."""

import time

import numpy as np
import pytest

from curate.maths.clusters import components


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
