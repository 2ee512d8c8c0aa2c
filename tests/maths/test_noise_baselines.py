"""The plain methods are each given their best: the strength for what they do, and the pairs they may learn from."""

import numpy as np
import pytest

from curate.maths import pair_heads
from curate.maths.noise_baselines import Verdict, verdict
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.noise_rate import area_under_curve, estimate
from curate.maths.peer_review import Settings, Tuned, tune

PLAIN = ("small_loss", "margin", "confident_learning", "two_averaged", "trimmed")


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
    return verdict(method, given, settings, Tuned(strength, noise), wrong)


def test_what_is_trained_on_all_labels_has_a_strength_of_its_own() -> None:
    given, _ = prompts_of_their_own(0.2)
    own = tune(given, Settings(folds=3, noise=0.0)).strength
    one = np.ones((len(given.groups_N), 1), np.float32)
    frame = pair_heads.frame_of(given.differences_ND)
    expected = pair_heads.weights_of(frame, pair_heads.fit(frame, one, np.array([own]), tolerance=1e-4))[:, 0]
    assert np.allclose(told("untreated", 5e3).head_D, expected)
    assert np.array_equal(told("untreated", 5e3).suspicion, told("untreated", 3.0).suspicion)


@pytest.mark.parametrize("method", PLAIN)
def test_the_last_head_of_every_other_has_the_strength_for_what_was_kept(method: str) -> None:
    strong, weak = told(method, 5e3), told(method, 3.0)
    assert np.abs(strong.head_D).max() < np.abs(weak.head_D).max() / 2
    if method != "trimmed":
        assert np.array_equal(strong.suspicion, weak.suspicion)


@pytest.mark.parametrize("method", ["margin", "confident_learning"])
def test_out_of_fold_methods_may_learn_from_other_pairs_of_the_prompt_unless_told_apart(method: str) -> None:
    given, wrong = prompts_of_their_own(0.2)
    together, apart = (
        area_under_curve(verdict(method, given, Settings(related=related)).suspicion, wrong) for related in ("together", "apart")
    )
    assert together > 0.75 and apart < 0.65
