from typing import Literal

import numpy as np
import pytest
from scipy.optimize import minimize  # type: ignore[import-untyped]

from curate.errors import DataError
from curate.maths import noise_baselines, noise_bench, pair_heads, peer_review
from curate.maths.label_em import label_em
from curate.maths.noise_frame import Comparisons, comparisons, couple_folds, folds_of, groups_of
from curate.maths.noise_rate import area_under_curve, calibration_error, estimate, flip_probability
from curate.maths.peer_review import Settings, review
from curate.maths.planted import KINDS, chances

TEACHER = np.array([2.0, -1.5, 1.0, 0.5, 0, 0, 0, 0])


def made(rate: float, pairs: int = 1500, seed: int = 0, annotators: list[float] | None = None) -> tuple[Comparisons, np.ndarray]:
    """Pairs of 8 features labelled by a teacher, five to a prompt, with flips of which it tells."""
    random = np.random.default_rng(seed)
    d = random.normal(size=(pairs, 8))
    d *= np.where(d @ TEACHER > 0, 1, -1)[:, None]
    odds = np.full(pairs, rate) if annotators is None else 1 - np.array(annotators)[np.arange(pairs) % len(annotators)]
    wrong = random.random(pairs) < odds
    d *= np.where(wrong, -1, 1)[:, None]
    sides = np.arange(2 * pairs).reshape(2, -1)
    return comparisons(d.astype(np.float32), np.arange(pairs) // 5, sides[0], sides[1], [1] * 8), wrong


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_planted_flips_are_found_and_their_share_is_told(rate: float) -> None:
    given, wrong = made(rate)
    found = review(given, Settings())
    assert abs(found.noise.rate - rate) <= 0.05
    assert found.noise.low <= found.noise.rate <= found.noise.high
    if rate:
        assert area_under_curve(found.flip_prob, wrong) > 0.9
        assert wrong[found.flip_prob > 0.5].mean() > 0.85
        assert wrong[found.selected].mean() < rate / 2
    else:
        assert (found.flip_prob > 0.5).mean() <= 0.05


def test_a_label_turned_has_its_margin_turned() -> None:
    given, _ = made(0.2, 400)
    settings = Settings(noise=0.2, strength=10.0, related="apart")
    turned = given._replace(differences_ND=-given.differences_ND)
    assert np.allclose(review(given, settings).margin_a, review(turned, settings).margin_a)  # every label turned: the same task


def test_no_label_is_judged_by_a_head_trained_on_its_group() -> None:
    given, _ = made(0.2, 300)
    fold = folds_of(given.groups_N, 5, 0)
    frame = pair_heads.frame_of(given.differences_ND, given.scales_D)
    before = peer_review.held_out(frame, fold, np.array([10.0]), 0.0)[:, 0]
    signs = np.where(fold == 2, -1, 1).astype(np.float32)[:, None]
    after = peer_review.held_out(frame._replace(rows_ND=frame.rows_ND * signs), fold, np.array([10.0]), 0.0)[:, 0]
    assert np.allclose(after[fold == 2], -before[fold == 2], atol=0.02)
    assert not np.allclose(after[fold != 2], before[fold != 2], atol=0.02)


def test_pairs_linked_by_prompt_or_response_are_one_group_and_one_fold() -> None:
    prompts = np.array([0, 0, 1, 2, 3])
    sides = np.array([[0, 1], [2, 3], [4, 3], [5, 6], [7, 8]])  # pair 2 shares response 3 with pair 1
    groups = groups_of(prompts, sides)
    assert groups[0] == groups[1] == groups[2] and len(set(groups.tolist())) == 3
    fold = folds_of(groups, 5, 0)
    assert fold[0] == fold[1] == fold[2] and len(set(fold.tolist())) == 3


def test_copies_of_a_pair_do_not_vouch_for_it() -> None:
    sides = np.array([[0, 1], [1, 0], [0, 1], [2, 3]])
    assert len(set(couple_folds(sides, 50, 0)[:3].tolist())) == 1


def test_the_schedule_keeps_by_rank_among_all() -> None:
    margin = np.arange(10, dtype=np.float32)[:, None]
    assert peer_review.thresholds(margin, np.ones((10, 1)), 0.3)[0] == 3
    half = (np.arange(10) >= 5).astype(float)[:, None]
    assert peer_review.thresholds(margin, half, 0.4)[0] == 7
    assert peer_review.thresholds(margin, half, 0.0)[0] == -np.inf


def test_the_network_finds_flips_too() -> None:
    given, wrong = made(0.3, 800)
    found = review(given, Settings(learner="mlp", related="apart", noise=0.3, rounds=10, folds=3))
    assert area_under_curve(-(found.margin_a + found.margin_b), wrong) > 0.85


def test_what_cannot_be_learnt_from_is_refused_by_name() -> None:
    d = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    rows = np.arange(30)
    with pytest.raises(DataError, match="at least 20"):
        comparisons(d[:10], rows[:10], rows[:10], rows[:10] + 30, [2])
    with pytest.raises(DataError, match="one prompt"):
        comparisons(d, np.zeros(30), rows, rows + 30, [2])
    with pytest.raises(DataError, match="same on both sides"):
        comparisons(np.zeros_like(d), rows, rows, rows + 30, [2])


def test_the_fit_is_the_minimum_and_levels_are_fitted_to_responses() -> None:
    given, _ = made(0.2, 300)
    frame = pair_heads.frame_of(given.differences_ND, given.scales_D)
    heads = pair_heads.fit(frame, np.ones((300, 1), np.float32), np.array([5.0]), steps=500, tolerance=1e-7)
    margin = pair_heads.margins(frame, heads)[:, 0]
    slope = frame.rows_ND.T @ (1 / (1 + np.exp(margin))) - 5 * heads.turned_DK[:, 0]
    assert np.abs(slope).max() < 1e-2
    sides = np.array([[0, 1]] * 30 + [[1, 2]] * 30)
    levels = pair_heads.frame_of(np.zeros((60, 1), np.float32), np.ones(1, np.float32))._replace(sides_N2=sides, level=1.0)
    told = pair_heads.fit(levels, np.ones((60, 1), np.float32), np.array([1.0]), steps=300, tolerance=1e-6).levels_RK[:, 0]
    assert told[0] > told[1] > told[2]


def test_features_and_levels_are_held_back_each_by_its_own_prior() -> None:
    random = np.random.default_rng(0)
    d, sides = random.normal(size=(200, 3)).astype(np.float32), random.permuted(np.tile(np.arange(12), (200, 1)), axis=1)[:, :2]
    strengths, level = np.array([0.5, 20.0]), 0.7
    frame = pair_heads.frame_of(d, np.ones(3, np.float32))._replace(sides_N2=sides, level=level)
    heads = pair_heads.fit(frame, np.ones((200, 2), np.float32), strengths, steps=3000, tolerance=1e-7)

    def loss(both: np.ndarray, strength: float) -> float:
        weights, levels = both[:3], both[3:]
        margin = d @ weights + levels[sides[:, 0]] - levels[sides[:, 1]]
        return float(np.logaddexp(0, -margin).sum() + strength / 2 * weights @ weights + levels @ levels / (2 * level**2))

    for place, strength in enumerate(strengths):
        least = minimize(loss, np.zeros(15), (strength,), tol=1e-10).x
        assert np.allclose(pair_heads.weights_of(frame, heads)[:, place], least[:3], atol=2e-3)
        assert np.allclose(heads.levels_RK[:, place], least[3:], atol=2e-3)


def debates(rate: float, seed: int = 0) -> tuple[Comparisons, np.ndarray]:
    """Twelve prompts of 24 responses, 150 of the pairs of each, their worth hardly told by three features, with flips."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(12, 24, 3))
    worth = (0.5 * features[..., 0] + random.normal(size=(12, 24))).ravel()
    left, right = np.triu_indices(24, 1)
    drawn = [24 * prompt + np.stack([left, right], axis=1)[random.permutation(276)[:150]] for prompt in range(12)]
    sides = np.concatenate(drawn)
    wrong = random.random(len(sides)) < rate
    sides[(worth[sides[:, 0]] < worth[sides[:, 1]]) ^ wrong] = sides[(worth[sides[:, 0]] < worth[sides[:, 1]]) ^ wrong][:, ::-1]
    flat = features.reshape(-1, 3)
    difference = (flat[sides[:, 0]] - flat[sides[:, 1]]).astype(np.float32)
    return comparisons(difference, sides[:, 0] // 24, sides[:, 0], sides[:, 1], [3]), wrong


@pytest.mark.parametrize("reviewer", ["peer", "self"])
def test_responses_that_recur_are_judged_by_how_they_fare_elsewhere(reviewer: Literal["peer", "self"]) -> None:
    given, wrong = debates(0.2)
    together = review(given, Settings(reviewer=reviewer))
    apart = review(given, Settings(reviewer=reviewer, related="apart"))
    assert together.level in peer_review.LEVELS and apart.level == 0
    assert area_under_curve(apart.flip_prob, wrong) < 0.75
    assert area_under_curve(together.flip_prob, wrong) > 0.87
    assert abs(together.noise.rate - 0.2) <= 0.05
    assert calibration_error(together.flip_prob, wrong) < 0.05


def test_noise_is_read_off_margins() -> None:
    random = np.random.default_rng(1)
    margin = np.abs(random.normal(2, 1, 20_000))
    wrong = random.random(20_000) < 0.25
    honest = random.random(20_000) < 1 / (1 + np.exp(-2 * margin))
    told = np.where(wrong ^ ~honest, -margin, margin)
    noise = estimate(told, np.arange(20_000))
    assert abs(noise.rate - 0.25) <= 0.02
    assert calibration_error(flip_probability(told, noise), wrong) < 0.03


def test_em_tells_how_reliable_five_annotators_are() -> None:
    truth = [0.95, 0.90, 0.80, 0.70, 0.55]
    given, wrong = made(0.0, 4000, annotators=truth)
    found = label_em(given, np.arange(4000) % 5, Settings())
    assert np.abs(found.reliability - truth).max() <= 0.05
    assert area_under_curve(-found.label_prob, wrong) > 0.9


def test_in_sample_em_of_a_head_that_memorises_finds_no_noise() -> None:
    random = np.random.default_rng(0)
    d = random.normal(size=(300, 200)).astype(np.float32)
    d *= np.where(d[:, 0] > 0, 1, -1)[:, None]
    d[random.random(300) < 0.3] *= -1
    given = comparisons(d, np.arange(300), np.arange(300), np.arange(300) + 300, [200])
    who, settings = np.zeros(300, dtype=int), Settings(strength=0.01, related="apart")
    assert label_em(given, who, settings, cross_fit=False).reliability[0] > 0.95
    assert label_em(given, who, settings).reliability[0] < 0.9


@pytest.mark.parametrize("method", [m for m in noise_baselines.METHODS if m != "peer_review_mlp"])
def test_every_method_says_more_than_chance(method: str) -> None:
    given, wrong = made(0.3, 600)
    found = noise_baselines.verdict(method, given, Settings(folds=3), wrong=wrong)
    assert area_under_curve(found.suspicion, wrong) > 0.8
    assert peer_review.held_out_accuracy(found.head_D, made(0.0, 500, 7)[0].differences_ND) > 0.8


def test_confident_learning_is_what_cleanlab_does() -> None:
    cleanlab = pytest.importorskip("cleanlab.filter")
    margin = np.random.default_rng(0).normal(1, 1.5, 2000)
    right = 1 / (1 + np.exp(-margin))
    both = np.concatenate([np.column_stack([1 - right, right]), np.column_stack([right, 1 - right])])
    labels = np.repeat([1, 0], 2000)
    theirs = cleanlab.find_label_issues(labels, both, filter_by="prune_by_noise_rate", min_examples_per_class=0)
    assert (theirs[:2000] != noise_baselines.confident(margin)).sum() <= 2  # they round another way


@pytest.mark.parametrize("kind", KINDS)
def test_planted_shares_are_what_was_asked_for(kind: str) -> None:
    measure = np.linspace(-1, 1, 1000)
    odds = chances(kind, 0.2, 1000, measure, np.arange(1000) % 4)  # type: ignore[arg-type]
    assert abs(odds.mean() - 0.2) < 1e-6
    if kind == "length":
        assert not odds[measure > 0].any()
    if kind == "gap":
        assert odds[500] > odds[0]


def test_no_held_out_label_is_flipped_and_groups_stay_whole() -> None:
    given, _ = made(0.0, 500)
    held = noise_bench.held_out(given.groups_N, 0.3, 0)
    wrong = noise_bench.plant(given, held, "symmetric", 0.4, None, 0)
    assert not (wrong & held).any() and 0.3 < wrong[~held].mean() < 0.5
    assert all(len(set(held[given.groups_N == group].tolist())) == 1 for group in np.unique(given.groups_N))


@pytest.mark.parametrize("seed", range(3))  # chance alone would pass for knowledge in one of twenty draws
def test_features_that_say_nothing_flag_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    sides = np.arange(600).reshape(2, -1)
    given = comparisons(random.normal(size=(300, 2)).astype(np.float32), np.arange(300) // 2, sides[0], sides[1], [1] * 2)
    found = review(given, Settings())
    assert found.noise.low == 0 and not (found.flip_prob > 0.5).any()
