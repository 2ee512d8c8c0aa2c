"""Win matrices, vote shares, logit targets and Bradley-Terry fits, beside slow and obvious versions of them."""

import math

import numpy as np
import pytest

from curate.maths import preference


def slow_wins(groups: list[int], scores: list[float], itself: bool) -> list[float]:
    """One response after the other, as the paper writes it."""
    out = []
    for i, group in enumerate(groups):
        others = [j for j, other in enumerate(groups) if other == group and not math.isnan(scores[j]) and (itself or j != i)]
        if math.isnan(scores[i]) or not others:
            out.append(math.nan)
            continue
        out.append(sum(1 / (1 + math.exp(scores[j] - scores[i])) for j in others) / len(others))
    return out


@pytest.mark.parametrize("itself", [True, False])
def test_win_probabilities_are_those_of_the_slow_version(itself: bool) -> None:
    random = np.random.default_rng(3)
    groups, scores = random.integers(0, 40, 150), random.normal(0, 3, 150)
    scores[random.random(150) < 0.2] = np.nan
    fast = preference.win_probabilities(groups, scores, itself)
    np.testing.assert_allclose(fast, slow_wins(groups.tolist(), scores.tolist(), itself), atol=1e-12)


def test_win_probabilities_of_a_group_average_one_half() -> None:
    wins = preference.win_probabilities(np.array([0, 0, 0]), np.array([1.0, 0.0, -4.0]), itself=True)
    assert wins.mean() == pytest.approx(0.5)
    assert wins[0] == pytest.approx((0.5 + 0.7310586 + 0.9933071) / 3)


def test_a_single_response_wins_one_half_against_itself_and_nothing_without() -> None:
    groups, scores = np.array([5]), np.array([3.0])
    assert preference.win_probabilities(groups, scores, itself=True).tolist() == [0.5]
    assert np.isnan(preference.win_probabilities(groups, scores, itself=False)).all()


def test_the_win_matrix_does_not_overflow_and_mirrors() -> None:
    matrix = preference.win_matrix(np.array([[0.0, 1e6, -1e6]]))[0]
    assert np.isfinite(matrix).all() and matrix[1, 2] == 1.0
    np.testing.assert_allclose(matrix + matrix.T, 1)


def test_rows_of_a_group_keep_their_order() -> None:
    found = [rows.tolist() for rows in preference.same_sized(np.array([7, 2, 7, 1, 2, 9]))]
    assert found == [[[3], [5]], [[1, 4], [0, 2]]]


def test_a_share_of_votes_is_smoothed_towards_one_half() -> None:
    won, votes = np.array([3.0, 0.0, 0.5, 0.0]), np.array([3, 2, 1, 0])
    assert preference.smoothed_share(won, votes, 1.0)[:3] == pytest.approx([4 / 5, 1 / 4, 0.5])
    assert preference.smoothed_share(won, votes, 0.0)[:3] == pytest.approx([1, 0, 0.5])
    assert np.isnan(preference.smoothed_share(won, votes, 1.0)[3])


def test_a_logit_target_stays_half_a_vote_from_certainty() -> None:
    target = preference.logit_target(np.array([1.0, 0.0, 0.75, np.nan]), np.array([4, 4, 4, 0]))
    assert target[:3] == pytest.approx([math.log(7), -math.log(7), math.log(3)])
    assert np.isnan(target[3])


def likelihood(strengths: np.ndarray, wins: np.ndarray) -> float:
    gaps = strengths[:, None] - strengths[None, :]
    return float((wins * -np.log1p(np.exp(-gaps))).sum())


def slow_fit(wins: np.ndarray) -> np.ndarray:
    """Uphill on the likelihood by small steps along its gradient."""
    strengths = np.zeros(len(wins))
    for _ in range(20_000):
        chance = 1 / (1 + np.exp(-(strengths[:, None] - strengths[None, :])))
        strengths += 0.05 * (wins - (wins + wins.T) * chance).sum(axis=1)
    return 1 / (1 + np.exp(-(strengths[:, None] - strengths[None, :])))


def test_bradley_terry_finds_the_likeliest_strengths() -> None:
    wins = np.array([[0, 3, 2, 4], [1, 0, 2.5, 1], [1, 1.5, 0, 3], [0.5, 1, 1, 0]])
    probability = preference.bradley_terry(wins, smoothing=0)
    np.testing.assert_allclose(probability, slow_fit(wins), atol=1e-5)
    strengths = np.log(probability[:, 0] / probability[0, :])
    best = likelihood(strengths, wins)
    nudges = np.random.default_rng(0).normal(0, 0.05, (50, 4))
    assert all(likelihood(strengths + nudge, wins) <= best for nudge in nudges)


def test_bradley_terry_smooths_only_the_comparisons_that_took_place() -> None:
    wins = np.array([[0, 2, 0], [0, 0, 1], [0, 0, 0]], dtype=float)
    smoothed = wins + np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(preference.bradley_terry(wins, smoothing=1), slow_fit(smoothed), atol=1e-5)


def test_of_two_responses_bradley_terry_is_the_share_of_wins() -> None:
    assert preference.bradley_terry(np.array([[0, 3], [1, 0.0]]), 0)[0, 1] == pytest.approx(0.75)
    assert preference.bradley_terry(np.array([[0, 3], [1, 0.0]]), 1)[0, 1] == pytest.approx(4 / 6)


def test_bradley_terry_infers_what_nobody_compared_but_not_across_islands() -> None:
    chain = np.zeros((5, 5))
    chain[0, 1], chain[1, 0], chain[1, 2], chain[2, 1] = 3, 1, 3, 1
    chain[3, 4], chain[4, 3] = 1, 1
    probability = preference.bradley_terry(chain, 0)
    assert probability[0, 2] == pytest.approx(0.9)  # odds 3 times odds 3
    assert np.isnan(probability[0, 3]) and probability[3, 4] == pytest.approx(0.5)


def test_one_who_won_everything_is_certain_without_smoothing() -> None:
    assert preference.bradley_terry(np.array([[0, 2], [0, 0.0]]), 0)[0, 1] == 1.0
