"""The nearest of other vectors."""

import numpy as np
import pytest

from curate.maths import nearest as searched
from curate.maths.nearest import nearest


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(rows, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_each_vector_has_its_nearest_and_the_cosine_to_it() -> None:
    index, cosine = nearest(unit((1, 0), (1, 2), (-1, 0)), unit((1, 1), (0, 1)))
    assert index.tolist() == [0, 0, 1]
    assert cosine.tolist() == pytest.approx([0.5**0.5, 3 / 10**0.5, 0], abs=1e-6)


def test_of_equals_the_first_is_named_though_rounding_may_differ() -> None:
    others = np.array([(0, 1), (1 - 2e-7, 0), (1, 0)], np.float32)
    assert nearest(unit((1, 0), (2, 0)), others)[0].tolist() == [1, 1]


def test_no_vectors_have_none() -> None:
    index, cosine = nearest(np.zeros((0, 2), np.float32), unit((1, 0)))
    assert index.shape == cosine.shape == (0,) and cosine.dtype == np.float32


def test_a_vector_is_answered_alike_alone_and_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    vectors, others = (unit(*random.normal(size=(count, 24))) for count in (301, 77))
    whole = nearest(vectors, others)
    assert whole[0].tolist() == (vectors.astype(float) @ others.T.astype(float)).argmax(axis=1).tolist()
    monkeypatch.setattr(searched, "CELLS", 77 * 5)  # five rows at a time
    for ours, parts in zip(whole, nearest(vectors, others), strict=True):
        assert ours.tolist() == parts.tolist()
