"""One score out of several attributes."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from curate.maths.combining import HELPSTEER2, direction, penalty, spearman


def test_a_direction_has_unit_length_and_keeps_its_angle() -> None:
    v = direction([3.0, 4.0])
    assert v == pytest.approx([0.6, 0.8])
    assert np.degrees(np.arctan2(*direction([1.0, 1.0])[::-1])) == pytest.approx(45)
    with pytest.raises(ValueError, match="length above 0"):
        direction([0.0, 0.0])


def test_spearman_is_scipys_ties_included() -> None:
    random = np.random.default_rng(0)
    for size in (5, 200):
        one, other = random.integers(0, 6, size).astype(float), random.normal(size=size)
        assert spearman(one, other) == pytest.approx(spearmanr(one, other)[0], abs=1e-12)
    assert spearman(np.ones(4), np.arange(4.0)) == 0.0


@pytest.mark.parametrize("owed", [0.0, 0.3, 1.0, 3.0])
def test_a_planted_debt_to_length_is_taken_away_and_the_merit_stays(owed: float) -> None:
    random = np.random.default_rng(1)
    merit, length = random.normal(size=4000), random.normal(size=4000)
    raw = merit + owed * length
    score = (raw - raw.mean()) / raw.std()
    taken = penalty(score, length)
    left = score - taken * length
    assert spearman(left, length) <= 0.03
    assert spearman(left, merit) > 0.95
    assert taken == pytest.approx(owed / np.sqrt(1 + owed**2), abs=0.05)


def test_the_penalty_is_the_smallest_that_a_slow_search_finds() -> None:
    random = np.random.default_rng(2)
    for _ in range(5):
        length = random.normal(size=300)
        score = random.normal(size=300) + random.uniform(0, 2) * length
        slow = next(p for p in np.arange(2000) * 0.01 if spearmanr(score - p * length, length)[0] <= 0.03)
        assert penalty(score, length) == pytest.approx(slow)


def test_a_score_that_shortness_pays_is_left_alone() -> None:
    assert penalty(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])) == 0.0


def test_helpsteer2_weights_are_those_published() -> None:
    assert list(HELPSTEER2["helpsteer2-llama3-70b"].values()) == [0.65, 0.8, 0.45, 0.55, -0.4]
    assert list(HELPSTEER2["helpsteer2-nemotron4-340b"].values()) == [0.3, 0.74, 0.46, 0.47, -0.33]
