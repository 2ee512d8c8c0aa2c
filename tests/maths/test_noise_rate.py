"""The interval of the noise, and what it is drawn from."""

import numpy as np
import pytest

from curate.maths import noise_rate
from curate.maths.noise_rate import Noise, estimate, flip_probability


def margins(pairs: int, seed: int = 0) -> np.ndarray:
    """Labels of which a quarter is wrong, beside margins that are otherwise right."""
    random = np.random.default_rng(seed)
    size = np.abs(random.normal(2, 1, pairs))
    return np.where(random.random(pairs) < 0.25, -size, size)


def width(noise: Noise) -> float:
    return noise.high - noise.low


def test_many_groups_put_together_leave_the_interval_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told, groups = margins(6000), np.arange(6000)
    few = estimate(told, groups)
    monkeypatch.setattr(noise_rate, "CLUSTERS", 10_000)
    all_of_them = estimate(told, groups)
    assert few.rate == all_of_them.rate == pytest.approx(0.25, abs=0.02)
    assert few.low < few.high and abs(width(few) - width(all_of_them)) <= 0.015


def test_pairs_of_one_group_count_as_one() -> None:
    told = margins(200)
    alone = estimate(told, np.arange(200))
    repeated = estimate(np.tile(told, 20), np.tile(np.arange(200), 20))
    assert repeated.rate == alone.rate and width(repeated) == pytest.approx(width(alone), abs=0.02)
    assert width(estimate(np.tile(told, 20), np.arange(4000))) < width(alone) / 2


@pytest.mark.parametrize("seed", range(5))
def test_margins_that_tell_nothing_of_the_labels_claim_no_noise(seed: int) -> None:
    noise = estimate(np.random.default_rng(seed).normal(size=500), np.arange(500))
    assert (noise.rate, noise.low, noise.high) == (0, 0, pytest.approx(0.49))
    assert not flip_probability(np.array([-9.0, 9.0]), noise).any()


def test_wrong_labels_that_few_margins_tell_for_sure_are_claimed() -> None:
    assert estimate(margins(100), np.arange(100)).low > 0
