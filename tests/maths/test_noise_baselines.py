"""The plain methods are each given their best: the strength for what they do, and the pairs they may learn from."""

from dataclasses import replace

import numpy as np
import pytest

from curate.maths import noise_baselines, pair_heads
from curate.maths.label_em import label_em
from curate.maths.noise_baselines import Shared, Verdict, verdict
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.noise_rate import area_under_curve, estimate, logistic
from curate.maths.peer_review import Prepared, Settings, Tuned, tune

PLAIN = ("small_loss", "margin", "confident_learning", "cleanlab", "two_averaged", "trimmed")


def prompts_of_their_own(rate: float, prompts: int = 60, pairs: int = 10) -> tuple[Comparisons, np.ndarray]:
    """Each prompt has its own taste, told by its own feature: only other pairs of the prompt teach it."""
    random = np.random.default_rng(0)
    which = np.repeat(np.arange(prompts), pairs)
    total = len(which)
    d = np.zeros((total, prompts + 2))
    taste = random.choice([-1, 1], prompts)
    gap = random.normal(0, 2, total)
    d[np.arange(total), which] = gap
    d[:, prompts:] = random.normal(size=(total, 2))
    wrong = random.random(total) < rate
    d *= (np.where(gap * taste[which] > 0, 1, -1) * np.where(wrong, -1, 1))[:, None]
    rows = np.arange(total)
    return comparisons(d.astype(np.float32), which, rows, rows + total, [1] * d.shape[1]), wrong


def told(method: str, strength: float, settings: Settings = Settings(folds=3)) -> Verdict:  # noqa: B008
    """With the strength that trimming is said to want."""
    given, wrong = prompts_of_their_own(0.2)
    noise = estimate(np.ones(10), np.arange(10), resamples=0)._replace(rate=0.2)
    frame = pair_heads.frame_of(given.differences_ND, given.scales_D)
    tuned = Tuned(strength, noise, tune(given, replace(settings, noise=0.0), frame).strength)
    return verdict(method, given, settings, wrong, Shared(given, settings, Prepared(frame, tuned)))


def test_what_is_trained_on_all_labels_has_a_strength_of_its_own() -> None:
    given, _ = prompts_of_their_own(0.2)
    own = tune(given, Settings(folds=3, noise=0.0)).strength
    one = np.ones((len(given.groups_N), 1), np.float32)
    frame = pair_heads.frame_of(given.differences_ND, given.scales_D)
    expected = pair_heads.weights_of(frame, pair_heads.fit(frame, one, np.array([own]), tolerance=1e-4))[:, 0]
    assert np.allclose(told("untreated", 5e3).head_D, expected)
    assert np.array_equal(told("untreated", 5e3).suspicion, told("untreated", 3.0).suspicion)


@pytest.mark.parametrize("method", PLAIN)
def test_the_last_head_of_every_other_has_the_strength_for_what_was_kept(method: str) -> None:
    strong, weak = told(method, 5e3), told(method, 3.0)
    assert np.abs(strong.head_D).max() < np.abs(weak.head_D).max() / 2
    if method != "trimmed":
        assert np.array_equal(strong.suspicion, weak.suspicion)


@pytest.mark.parametrize("method", ["margin", "confident_learning", "cleanlab"])
def test_out_of_fold_methods_may_learn_from_other_pairs_of_the_prompt_unless_told_apart(method: str) -> None:
    given, wrong = prompts_of_their_own(0.2)
    together, apart = (
        area_under_curve(verdict(method, given, Settings(related=related)).suspicion, wrong) for related in ("together", "apart")
    )
    assert together > 0.75 and apart < 0.65


def test_the_librarys_own_row_is_what_it_says_of_the_same_out_of_fold_probabilities() -> None:
    cleanlab = pytest.importorskip("cleanlab.filter")
    from cleanlab.rank import get_label_quality_scores

    given, wrong = prompts_of_their_own(0.2)
    shared = Shared(given, Settings(folds=3))
    found = verdict("cleanlab", given, Settings(folds=3), shared=shared)
    right = logistic(shared.out_of_fold().astype(np.float64))
    both = np.concatenate([np.column_stack([1 - right, right]), np.column_stack([right, 1 - right])])
    labels = np.repeat([1, 0], len(right))
    assert np.array_equal(found.dropped, cleanlab.find_label_issues(labels, both)[: len(right)])
    assert np.allclose(found.flip_prob, 1 - get_label_quality_scores(labels, both)[: len(right)])
    ours = verdict("confident_learning", given, Settings(folds=3), shared=shared)
    assert (found.dropped != ours.dropped).sum() <= 2 and np.allclose(found.head_D, ours.head_D, atol=0.05)
    assert area_under_curve(found.suspicion, wrong) > 0.7


def test_what_methods_share_is_worked_out_once_and_counts_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = prompts_of_their_own(0.2)
    shared = Shared(given, Settings(folds=3))
    first = {method: shared.work_out(method) for method in ("trimmed", "margin")}
    monkeypatch.setattr(noise_baselines, "prepare", None)
    monkeypatch.setattr(noise_baselines, "held_out", None)
    for method in ("trimmed", "peer_review", "margin", "confident_learning"):
        verdict(method, given, Settings(folds=3), shared=shared)
    assert shared.work_out("trimmed") == shared.work_out("label_em") == first["trimmed"] > 0
    assert shared.work_out("confident_learning") == first["margin"] > first["trimmed"]
    assert shared.work_out("oracle") == 0


def test_the_noise_of_label_em_has_the_interval_of_resampled_groups() -> None:
    given, _ = prompts_of_their_own(0.2)
    found, noise = (
        verdict("label_em", given, Settings(folds=3)),
        label_em(given, np.zeros(600, dtype=np.int64), Settings(folds=3)).noise,
    )
    assert (found.noise, found.low, found.high) == (noise.rate, noise.low, noise.high) and noise.low < noise.high


def test_a_method_whose_library_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert noise_baselines.missing(("margin", "oracle")) == {}
    monkeypatch.setattr(noise_baselines, "find_spec", lambda name: None)
    assert list(noise_baselines.missing(noise_baselines.METHODS)) == ["cleanlab"]
    assert noise_baselines.missing(("margin", "oracle")) == {}
