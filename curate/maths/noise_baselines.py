"""Plain ways to find wrong labels, in the same frame as `peer_review`: what any better way must be held against.

All use the same head, and each is tuned as `peer_review` is, by the likelihood of held-out noisy labels, for what it does: heads
that are trained on all labels have the strength that suits this, those trained on what was kept the one chosen for trimming.
Methods that judge out of fold, too, may learn from other pairs of the same prompt, where that makes the labels likelier.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from curate.maths import pair_heads, peer_review
from curate.maths.label_em import label_em
from curate.maths.noise_frame import Comparisons, couple_folds, folds_of
from curate.maths.noise_rate import estimate, flip_probability, logistic
from curate.maths.pair_heads import Frame
from curate.maths.peer_review import Prepared, Settings, held_out, prepare

METHODS = (
    "untreated",
    "small_loss",
    "margin",
    "confident_learning",
    "cleanlab",
    "two_averaged",
    "self_review",
    "trimmed",
    "label_em",
    "peer_review",
    "peer_review_apart",
    "peer_review_mlp",
    "oracle",
)


OUT_OF_FOLD = ("margin", "confident_learning", "cleanlab")
"""Methods that go by margins of heads that did not see the pair."""
LIBRARIES = {"cleanlab": "cleanlab is not installed: pip install 'curate[noise]' adds its row"}
"""By method that is a library's own: what to do where that is missing."""


def missing(methods: Sequence[str]) -> dict[str, str]:
    """Methods that cannot run on this machine, and what to do about it."""
    return {name: said for name, said in LIBRARIES.items() if name in methods and find_spec(name) is None}


class Verdict(NamedTuple):
    """What one method makes of N labels."""

    suspicion: np.ndarray
    """Larger for labels more likely wrong."""
    flip_prob: np.ndarray
    """Probability that the label is wrong."""
    dropped: np.ndarray
    noise: float
    low: float
    high: float
    head_D: np.ndarray
    """A head trained on what the method keeps."""


class Shared:
    """What several methods need of the same pairs, worked out once."""

    def __init__(self, given: Comparisons, settings: Settings, prepared: Prepared | None = None) -> None:
        self.given, self.settings = given, settings
        self._prepared, self._out_of_fold = prepared, np.zeros(0)
        self._seconds = {"prepared": 0.0, "out_of_fold": 0.0}

    def prepared(self) -> Prepared:
        """What all begin with."""
        if self._prepared is None:
            started = time.process_time()
            self._prepared = prepare(self.given, self.settings)
            self._seconds["prepared"] = time.process_time() - started
        return self._prepared

    def out_of_fold(self) -> np.ndarray:
        """Margins by heads that saw no pair of the prompt, or only not the pair and its copies: those that fit labels better."""
        frame, tuned = self.prepared()
        if not len(self._out_of_fold):
            started, settings = time.process_time(), self.settings
            folds = [folds_of(self.given.groups_N, settings.folds, settings.seed)]
            if settings.related == "together":
                folds.append(couple_folds(self.given.sides_N2, settings.folds, settings.seed))
            found = [held_out(frame, fold, np.array([tuned.untrimmed]), 0.0)[:, 0] for fold in folds]
            self._out_of_fold = max(found, key=lambda margin: estimate(margin, self.given.groups_N, resamples=0).likelihood)
            self._seconds["out_of_fold"] = time.process_time() - started
        return self._out_of_fold

    def work_out(self, method: str) -> float:
        """See that all is there which the method needs; the CPU seconds that this took, now or before.

        Importing a library is not counted.
        """
        if method == "oracle":
            return 0.0
        if method in LIBRARIES:
            import_module(f"{method}.filter")
        self.prepared()
        if method not in OUT_OF_FOLD:
            return self._seconds["prepared"]
        self.out_of_fold()
        return sum(self._seconds.values())


def verdict(
    method: str, given: Comparisons, settings: Settings, wrong: np.ndarray | None = None, shared: Shared | None = None
) -> Verdict:
    """The verdict of a method by name. wrong: which labels are wrong, for the oracle alone. shared: of the same pairs."""
    if method == "oracle":
        assert wrong is not None
        return _oracle(given, wrong)
    shared = shared or Shared(given, settings)
    if method == "label_em":
        return _of_em(given, settings, shared.prepared())
    if method.startswith("peer_review") or method == "self_review":
        return _of_review(given, _variant(method, settings), shared.prepared())
    if method == "cleanlab":
        return _of_cleanlab(given, shared)
    return _plain(method, given, settings, shared)


def _variant(method: str, settings: Settings) -> Settings:
    changes = {
        "peer_review": {},
        "self_review": {"reviewer": "self"},
        "peer_review_apart": {"related": "apart"},
        "peer_review_mlp": {"learner": "mlp", "related": "apart"},
    }
    return replace(settings, **changes[method])  # type: ignore[arg-type]


def _of_em(given: Comparisons, settings: Settings, prepared: Prepared) -> Verdict:
    found = label_em(given, np.zeros(len(given.groups_N), dtype=np.int64), settings, prepared=prepared)
    wrong, noise = 1 - found.label_prob, found.noise  # the spread of a reliability leaves out that of the margins' scale
    return Verdict(wrong, wrong, wrong > 0.5, noise.rate, noise.low, noise.high, found.head_D)


def _of_review(given: Comparisons, settings: Settings, prepared: Prepared) -> Verdict:
    found = peer_review.review(given, settings, prepared)
    noise = found.noise
    return Verdict(found.flip_prob, found.flip_prob, found.flip_prob > 0.5, noise.rate, noise.low, noise.high, found.head_D)


def _oracle(given: Comparisons, wrong: np.ndarray) -> Verdict:
    """A head trained on the right labels, its strength chosen on them, too."""
    signs = np.where(wrong, -1, 1).astype(np.float32)[:, None]
    clean = given._replace(differences_ND=given.differences_ND * signs)
    frame, tuned = prepare(clean, Settings())
    head = _head(frame, np.ones(len(wrong), dtype=np.float32), tuned.strength)
    rate, told = float(wrong.mean()), wrong.astype(np.float64)
    return Verdict(told, told, wrong, rate, rate, rate, head)


def _plain(method: str, given: Comparisons, settings: Settings, shared: Shared) -> Verdict:
    frame, tuned = shared.prepared()
    rate = tuned.noise.rate if settings.noise is None else settings.noise
    margin = shared.out_of_fold() if method in OUT_OF_FOLD else _seen_margin(method, shared.prepared(), settings.seed, rate)
    noise = estimate(margin, given.groups_N, settings.seed)
    rate = noise.rate if settings.noise is None else settings.noise
    flip = flip_probability(margin, noise._replace(rate=rate))
    dropped = confident(margin) if method == "confident_learning" else _lowest(margin, rate)
    if method == "margin":
        dropped = margin < 0
    if method == "untreated":
        dropped = np.zeros(len(margin), dtype=bool)
    head = _head(frame, (~dropped).astype(np.float32), tuned.untrimmed if method == "untreated" else tuned.strength)
    return Verdict(-margin, flip, dropped, noise.rate, noise.low, noise.high, head)


def _seen_margin(method: str, prepared: Prepared, seed: int, rate: float) -> np.ndarray:
    """Margins of the labels by heads that saw them, for the methods that know no folds."""
    frame, tuned = prepared
    total = len(frame.rows_ND)
    one = np.ones((total, 1), dtype=np.float32)
    if method == "trimmed":
        return pair_heads.margins(frame, peer_review.trimmed(frame, one, np.array([tuned.strength]), rate))[:, 0]
    told = np.array([tuned.untrimmed])
    if method == "two_averaged":
        bags = (np.random.default_rng(seed).random((total, 2)) < 0.5).astype(np.float32)
        return np.asarray(pair_heads.margins(frame, pair_heads.fit(frame, bags, np.repeat(told, 2))).mean(axis=1))
    return pair_heads.margins(frame, pair_heads.fit(frame, one, told))[:, 0]


def _of_cleanlab(given: Comparisons, shared: Shared) -> Verdict:
    """What the library makes of the same out-of-fold probabilities, as it comes.

    Both orders of a pair are given, which makes two classes that mirror each other. Its probability of a wrong label is one
    minus its label quality, its noise what lies off the diagonal of its estimated joint; it tells no interval.
    """
    from cleanlab.count import estimate_joint
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    frame, tuned = shared.prepared()
    right = logistic(shared.out_of_fold().astype(np.float64))
    total = len(right)
    labels = np.repeat([1, 0], total)
    both = np.concatenate([np.column_stack([1 - right, right]), np.column_stack([right, 1 - right])])
    dropped = np.asarray(find_label_issues(labels, both, n_jobs=1))[:total]
    wrong = 1 - np.asarray(get_label_quality_scores(labels, both))[:total]
    joint = estimate_joint(labels, both)
    noise = float(joint[0, 1] + joint[1, 0])
    return Verdict(wrong, wrong, dropped, noise, noise, noise, _head(frame, (~dropped).astype(np.float32), tuned.strength))


def _lowest(margin: np.ndarray, rate: float) -> np.ndarray:
    dropped = np.zeros(len(margin), dtype=bool)
    dropped[np.argsort(margin, kind="stable")[: int(rate * len(margin))]] = True
    return dropped


def _head(frame: Frame, weights_N: np.ndarray, strength: float) -> np.ndarray:
    heads = pair_heads.fit(frame, weights_N[:, None], np.array([strength]), tolerance=1e-4)
    return np.asarray(pair_heads.weights_of(frame, heads)[:, 0])


def confident(margin: np.ndarray) -> np.ndarray:
    """Labels that confident learning drops (prune by noise rate), given out-of-fold margins.

    A comparison is two classes that mirror each other: which side is named first tells nothing, so both orders are given
    and the two thresholds are one, the mean probability of the given label. A pair counts as wrong where the other label's
    probability reaches it and is the larger; as many as that, calibrated by the share counted at all, are dropped, the
    least probable labels first. Source: Northcutt, Jiang and Chuang, "Confident Learning", 2021, arXiv:1911.00068.
    """
    right = logistic(margin)
    threshold = right.mean()
    wrong, told = (1 - right >= threshold) & (right < 0.5), (right >= threshold) & (right >= 0.5)
    share = wrong.sum() / max(wrong.sum() + told.sum(), 1)
    return _lowest(margin, float(share))
