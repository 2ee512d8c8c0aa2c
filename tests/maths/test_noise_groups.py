import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.maths.noise_groups import at_rate, shares_wrong, wilson


def test_the_share_of_a_group_is_the_mean_probability_of_its_own_pairs() -> None:
    found = shares_wrong(np.array([0.5, 0.1, 0.3, 1.0]), np.array([0, 1, 1, 3]), np.arange(4), 4)
    assert found.n.tolist() == [1, 2, 0, 1]
    assert found.value[[0, 1, 3]] == pytest.approx([0.5, 0.2, 1.0])
    assert np.isnan([found.value[2], found.low[2], found.high[2]]).all()
    told = [0, 1, 3]
    assert (found.low[told] <= found.value[told]).all() and (found.value[told] <= found.high[told]).all()


def test_pairs_alone_in_their_clusters_have_the_binomial_interval_however_sure_the_probabilities_are() -> None:
    low, high = wilson(np.array([0.25]), np.array([400.0]))
    for wrong in (np.repeat([0.0, 1.0], [300, 100]), np.full(400, 0.25)):
        found = shares_wrong(wrong, np.zeros(400, dtype=int), np.arange(400), 1)
        assert (found.low[0], found.high[0]) == pytest.approx((low[0], high[0]))
    # 0.25 +- 1.96 sqrt(0.25 * 0.75 / 400), but for the pull of Wilson's interval towards one half
    assert (low[0], high[0]) == pytest.approx((0.2076, 0.2924), abs=0.003)


def test_labels_wrong_together_tell_less() -> None:
    wrong = np.repeat(np.tile([0.0, 0.0, 0.0, 1.0], 10), 10)
    apart = shares_wrong(wrong, np.zeros(400, dtype=int), np.arange(400), 1)
    together = shares_wrong(wrong, np.zeros(400, dtype=int), np.repeat(np.arange(40), 10), 1)
    low, high = wilson(np.array([0.25]), np.array([40.0]))  # as many as there are prompts
    assert (together.low[0], together.high[0]) == pytest.approx((low[0], high[0]))
    assert together.high[0] - together.low[0] > 2.5 * (apart.high[0] - apart.low[0])


def test_a_cluster_that_two_groups_share_counts_in_each_by_itself() -> None:
    wrong, groups, clusters = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1]), np.array([7, 8, 7, 8])
    both = shares_wrong(wrong, groups, clusters, 2)
    alone = shares_wrong(wrong[:2], groups[:2], clusters[:2], 1)
    assert both.low.tolist() == pytest.approx([alone.low[0]] * 2)


def test_the_interval_holds_the_share_about_95_times_of_100() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        prompts = random.beta(2, 6, 60)
        drawn = random.random((60, 4)) < prompts[:, None]  # four pairs to a prompt
        found = shares_wrong(drawn.ravel().astype(float), np.zeros(240, dtype=int), np.repeat(np.arange(60), 4), 1)
        inside += bool(found.low[0] <= 0.25 <= found.high[0])
    assert 365 <= inside <= 395


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 30))
def test_an_interval_is_within_0_and_1_and_holds_its_share(wrong: list[float], clusters: int) -> None:
    found = shares_wrong(np.array(wrong), np.zeros(len(wrong), dtype=int), np.arange(len(wrong)) % clusters, 1)
    assert 0 <= found.low[0] <= found.value[0] + 1e-9 and found.value[0] <= found.high[0] + 1e-9 <= 1 + 1e-8


def test_probabilities_under_another_rate_are_those_of_bayes() -> None:
    agree = np.array([0.9, 0.2])  # how often a right label is like these

    def wrong(rate: float) -> np.ndarray:
        return rate * (1 - agree) / (rate * (1 - agree) + (1 - rate) * agree)

    assert at_rate(wrong(0.2), 0.2, 0.4) == pytest.approx(wrong(0.4))
    assert at_rate(wrong(0.2), 0.2, 0.0) == pytest.approx([0, 0])
    assert at_rate(np.array([0.0, 0.0]), 0.0, 0.1).tolist() == [0, 0]
