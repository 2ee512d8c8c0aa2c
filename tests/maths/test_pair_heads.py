"""Heads of pairs that are scaled and turned only as they are read, held against copies that are scaled beforehand."""

import tracemalloc

import numpy as np
import pytest

from curate.errors import DataError
from curate.maths import pair_heads, peer_review
from curate.maths.label_em import label_em
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.peer_review import Learner, Settings, review

UNITS = np.array([1e-3, 1.0, 1.0, 50.0, 1e4, 1.0])


def made(pairs: int = 900, seed: int = 0) -> Comparisons:
    """Features of very different units, the last one constant, five pairs to a prompt, a fifth of the labels turned."""
    random = np.random.default_rng(seed)
    d = random.normal(size=(pairs, 6))
    d[:, 5] = 0
    d *= (np.where(d @ [1, 2, -1, 1, 0.5, 0] > 0, 1, -1) * np.where(random.random(pairs) < 0.2, -1, 1))[:, None]
    rows = np.arange(pairs)
    return comparisons((d * UNITS).astype(np.float32), rows // 5, rows, rows + pairs, [1, 2, 1, 1, 1])


def scaled(given: Comparisons) -> Comparisons:
    """The same pairs as a copy in scaled features."""
    ones = np.ones_like(given.scales_D)
    return given._replace(differences_ND=given.differences_ND * given.scales_D, scales_D=ones)


def newton(x_ND: np.ndarray, weights_N: np.ndarray, strength: float) -> np.ndarray:
    """The regularised logistic regression without intercept, by Newton's method in float64."""
    head = np.zeros(x_ND.shape[1])
    for _ in range(50):
        wrong = 1 / (1 + np.exp(x_ND @ head))
        slope = x_ND.T @ (weights_N * wrong) - strength * head
        curve = (x_ND * (weights_N * wrong * (1 - wrong))[:, None]).T @ x_ND + strength * np.eye(len(head))
        head += np.linalg.solve(curve, slope)
    return head


@pytest.fixture(params=["turned", "as given"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pairs are kept turned, or as they were given; and are read in several blocks."""
    monkeypatch.setattr(pair_heads, "TURNED_PAIRS", 10**9 if request.param == "turned" else 0)
    monkeypatch.setattr(pair_heads, "BLOCK", 128)
    return str(request.param)


@pytest.mark.parametrize("some", [None, np.arange(0, 900, 3)])
def test_heads_are_those_of_scaled_copies(kept: str, some: np.ndarray | None) -> None:
    given, strengths = made(), np.array([3.0, 300.0])
    rows = np.arange(900) if some is None else some
    weights = (np.random.default_rng(1).random((len(rows), 2)) < 0.7).astype(np.float32)
    frame = pair_heads.frame_of(given.differences_ND, given.scales_D, some)
    assert frame.is_turned == (kept == "turned")
    heads = pair_heads.fit(frame, weights, strengths, steps=2000, tolerance=1e-8)
    x = scaled(given).differences_ND[rows].astype(np.float64)
    slow = np.stack([newton(x, weights[:, k], strengths[k]) for k in range(2)], axis=1)
    assert np.allclose(pair_heads.margins(frame, heads), x @ slow, atol=2e-3)
    assert np.allclose(given.differences_ND[rows] @ pair_heads.weights_of(frame, heads), x @ slow, atol=2e-3)


@pytest.mark.parametrize("learner", ["linear", "mlp"])
def test_a_review_is_that_of_scaled_copies(kept: str, learner: Learner) -> None:
    given, settings = made(), Settings(learner=learner, folds=3, rounds=4)
    found, slow = review(given, settings), review(scaled(given), settings)
    assert (found.strength, found.noise.rate, found.level) == (slow.strength, slow.noise.rate, slow.level)
    for name in ("margin_a", "margin_b", "loss_mean", "flip_prob"):
        assert np.allclose(getattr(found, name), getattr(slow, name), atol=5e-3), name
    assert np.allclose(found.head_D, slow.head_D * given.scales_D, rtol=1e-2, atol=1e-3 * np.abs(found.head_D))


def test_label_em_is_that_of_scaled_copies(kept: str) -> None:
    given, who = made(), np.arange(900) % 3
    found, slow = (label_em(one, who, Settings(folds=3)) for one in (given, scaled(given)))
    assert np.allclose(found.label_prob, slow.label_prob, atol=5e-3)
    assert np.allclose(found.reliability, slow.reliability, atol=2e-3)


def test_networks_read_scaled_differences() -> None:
    given = made()
    copy, rows = scaled(given), np.arange(900)
    network = pair_heads.new_network(6, 4, np.random.default_rng(0))
    trained = [
        pair_heads.train_epoch(one.differences_ND, one.scales_D, rows, network, pair_heads.no_moments(network), 1e-3)[0]
        for one in (given, copy)
    ]
    assert np.allclose(trained[0].inner_DH, trained[1].inner_DH) and not np.allclose(trained[0].inner_DH, network.inner_DH)
    read = pair_heads.network_margins(given.differences_ND, given.scales_D, trained[0])
    assert np.allclose(read, np.tanh(copy.differences_ND @ trained[1].inner_DH) @ trained[1].outer_H, atol=1e-5)


@pytest.mark.parametrize("learner", ["linear", "mlp"])
def test_many_pairs_are_never_copied(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, pairs in (
        (pair_heads, "TURNED_PAIRS", 500),
        (pair_heads, "BLOCK", 100),
        (peer_review, "TUNING_PAIRS", 500),
    ):
        monkeypatch.setattr(module, name, pairs)
    random, rows = np.random.default_rng(0), np.arange(20_000)
    d = random.standard_normal((20_000, 400), dtype=np.float32)
    d *= np.where(d[:, 0] > 0, 1, -1)[:, None]
    given = comparisons(d, rows // 50, rows, rows + 20_000, [400])
    assert given.differences_ND is d
    tracemalloc.start()
    try:
        review(given, Settings(learner=learner, folds=2, rounds=2, noise=0.1, strength=100.0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.9 * d.nbytes


def test_features_too_large_to_add_up_are_refused() -> None:
    random, rows = np.random.default_rng(0), np.arange(30)
    with pytest.raises(DataError, match="give it in a larger unit"):
        comparisons(random.normal(0, 1e35, (30, 2)).astype(np.float32), rows, rows, rows + 30, [1, 1])
