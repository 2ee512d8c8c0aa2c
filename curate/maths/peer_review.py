"""Two reward heads that choose each other's training pairs, and what that tells about every label.

Each round both heads put all pairs in order of their margins, and each is then trained on the share that the *other*
head ranks highest; the share falls from all pairs to 1 - noise while they warm up. Selection is by rank among all pairs,
never within a batch: batches cut from a sorted list are all alike, and selecting within them keeps the noise.

Source: Collaborative Reward Modeling; the schedule is that of Han et al., "Co-teaching", 2018, arXiv:1804.06872. What is
added here: strength of the prior, noise and flip probabilities are read off margins of heads that did not see the pair; and a
level of each response's own beside its features (a random effect), which is what the other pairs of a response tell of it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curate.maths import pair_heads
from curate.maths.noise_frame import Comparisons, couple_folds, folds_of, some_groups
from curate.maths.noise_rate import Noise, estimate, flip_probability
from curate.maths.pair_heads import Frame, Heads

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
LEVELS = (0.5, 1.0, 3.0)
"""Spreads of responses' own levels that are tried, log odds."""
NEAR = 10.0
"""Largest ratio of the strength beside levels, or of its inverse, to the strength chosen for heads without them."""
BAG = 0.9
"""Share of the training pairs each reviewer is given: what makes the two differ."""
DRAWS = 4
"""Most draws of folds over which margins that weigh related labels are averaged; of many pairs one tells as much."""
TUNING_PAIRS = 20_000
UNREADABLE = 0.45
"""Noise above which labels hardly tell anything: such an estimate is no ground for trimming further."""
Learner = Literal["linear", "mlp"]
Reviewer = Literal["peer", "self"]


@dataclass(frozen=True)
class Settings:
    """How pairs are reviewed."""

    learner: Learner = "linear"
    noise: float | None = None
    """Share of wrong labels; None to estimate it."""
    strength: float | None = None
    """Strength of the prior on the head's weights; None to choose it by the likelihood of held-out noisy labels."""
    folds: int = 5
    rounds: int = 8
    warm: int = 3
    """Rounds over which the share of kept pairs falls."""
    curriculum: bool = False
    """mlp: easy pairs first within the selection."""
    related: Literal["together", "apart"] = "together"
    """Whether the flip probability of a pair also weighs the labels of other pairs of its prompt and responses."""
    reviewer: Reviewer = "peer"
    hidden: int = 16
    seed: int = 0


class Review(NamedTuple):
    """What the review tells about N pairs."""

    margin_a: np.ndarray
    """Log odds that the label is right, by a head that saw no pair of the same group."""
    margin_b: np.ndarray
    keep_rate: np.ndarray
    """Share of the rounds after warming up in which a reviewer would have kept the pair, of both reviewers."""
    loss_mean: np.ndarray
    """Mean over rounds of log(1 + exp(-margin)), nats."""
    loss_spread: np.ndarray
    """Standard deviation of it over rounds, nats."""
    flip_prob: np.ndarray
    """Probability that the label is wrong."""
    selected: np.ndarray
    """Whether the pair is kept: its keep rate is at least one half."""
    noise: Noise
    strength: float
    level: float
    """Spread of responses' own levels that was used, log odds; 0 where they did not help."""
    head_D: np.ndarray
    """Weights of the features as given, of a linear head trained on the labels as corrected."""

    def kinds(self) -> np.ndarray:
        """0 robust, 1 ambiguous, 2 wrong, (N,): by flip probability, and by how much the loss changes over rounds."""
        unsure = self.loss_spread > np.quantile(self.loss_spread, 0.8) if len(self.loss_spread) else self.selected
        return np.where(self.flip_prob > 0.5, 2, np.where((self.flip_prob > 0.2) | unsure, 1, 0))


class Tuned(NamedTuple):
    """What cross-validation chose."""

    strength: float
    noise: Noise
    untrimmed: float
    """The strength for heads that are trained on all labels."""


class Prepared(NamedTuple):
    """What every method that judges some pairs begins with."""

    frame: Frame
    tuned: Tuned


def prepare(given: Comparisons, settings: Settings) -> Prepared:
    """The pairs ready for fitting, and what cross-validation chooses."""
    frame = pair_heads.frame_of(given.differences_ND, given.scales_D)
    return Prepared(frame, tune(given, settings, frame))


def review(given: Comparisons, settings: Settings, prepared: Prepared | None = None) -> Review:
    """Review all pairs. Time grows with pairs x features x folds. prepared: of the same pairs, where it is there already."""
    frame, tuned = prepared or prepare(given, settings)
    rate = tuned.noise.rate if settings.noise is None else settings.noise
    fold = folds_of(given.groups_N, settings.folds, settings.seed)
    if settings.learner == "mlp":
        told = _network_rounds(given, fold, rate, settings)
    else:
        told = _told(_rounds(frame, fold, rate, tuned.strength, settings))
    noise = estimate((told.margin_a + told.margin_b) / 2, given.groups_N, settings.seed)
    told_by, noise, level = _with_related(given, frame, told, noise, rate, tuned.strength, settings)
    flip = flip_probability(told_by, noise if settings.noise is None else noise._replace(rate=settings.noise))
    head = final_head(frame, flip, tuned.strength)
    return Review(*told, flip, told.keep_rate >= 0.5, noise, tuned.strength, level, head)


def tune(given: Comparisons, settings: Settings, frame: Frame | None = None) -> Tuned:
    """Strength and noise under which labels of held-out groups are most likely, on at most TUNING_PAIRS pairs.

    frame: of all pairs, where it is there already.
    """
    rows = some_groups(given.groups_N, TUNING_PAIRS, settings.seed)
    groups = given.groups_N[rows]
    fold = folds_of(groups, settings.folds, settings.seed)
    frame = _of_rows(given, rows, frame)
    strengths = np.array(STRENGTHS if settings.strength is None else [settings.strength])
    plain = held_out(frame, fold, strengths, 0.0)
    best = _best(plain, strengths, groups)
    rate = best.noise.rate if settings.noise is None else settings.noise
    if rate <= 0:
        return best
    trimmed = _best(held_out(frame, fold, strengths, min(rate, UNREADABLE)), strengths, groups)
    better = trimmed.noise.likelihood > best.noise.likelihood or settings.noise is not None
    return trimmed._replace(untrimmed=best.strength) if better else best


def _of_rows(given: Comparisons, rows: np.ndarray, frame: Frame | None) -> Frame:
    """The frame of some pairs: that of all, if it is these."""
    if frame is not None and len(rows) == len(given.groups_N):
        return frame
    return pair_heads.frame_of(given.differences_ND, given.scales_D, rows)


def held_out(frame: Frame, fold_N: np.ndarray, strengths: np.ndarray, rate: float, rounds: int = 6) -> np.ndarray:
    """Margins by heads that did not see the pair's fold, trained on all or on the best 1 - rate, (N, strengths)."""
    folds, count = int(fold_N.max()) + 1, len(strengths)
    base = np.repeat((fold_N[:, None] != np.arange(folds)).astype(np.float32), count, axis=1)
    found = trimmed(frame, base, np.tile(strengths, folds), rate, rounds)
    margin = pair_heads.margins(frame, found)
    return np.asarray(margin[np.arange(len(fold_N))[:, None], fold_N[:, None] * count + np.arange(count)])


def trimmed(frame: Frame, base_NK: np.ndarray, strength_K: np.ndarray, rate: float, rounds: int = 6, warm: int = 2) -> Heads:
    """Heads trained again and again on the pairs of `base` that they themselves rank highest."""
    keep, heads = base_NK, None
    for number in range(rounds if rate > 0 else 1):
        heads = pair_heads.fit(frame, keep, strength_K, start=heads)
        margin = pair_heads.margins(frame, heads)
        keep = base_NK * (margin >= thresholds(margin, base_NK, rate * min(1.0, (number + 1) / warm)))
    assert heads is not None
    return heads


def thresholds(margins_NK: np.ndarray, base_NK: np.ndarray, rate: float) -> np.ndarray:
    """The margin that all but a share `rate` of each column's own pairs reach, (K,)."""
    found = np.full(margins_NK.shape[1], -np.inf, dtype=np.float32)
    if rate <= 0:
        return found
    for column in range(len(found)):
        own = margins_NK[base_NK[:, column] > 0, column]
        place = min(int(rate * len(own)), len(own) - 1)
        found[column] = np.partition(own, place)[place]
    return found


def _best(margins_NS: np.ndarray, strengths: np.ndarray, groups_N: np.ndarray) -> Tuned:
    noises = [estimate(column, groups_N, resamples=0) for column in margins_NS.T]
    place = int(np.argmax([noise.likelihood for noise in noises]))
    return Tuned(float(strengths[place]), noises[place], float(strengths[place]))


# -- rounds of review


class Round(NamedTuple):
    """What is made of each judged pair by the two heads that were not trained on its fold, each (N,)."""

    margin_a: np.ndarray
    margin_b: np.ndarray
    kept: np.ndarray
    """Share of the two that rank the pair among those to keep."""


class Told(NamedTuple):
    """Evidence gathered over rounds, each (N,)."""

    margin_a: np.ndarray
    margin_b: np.ndarray
    keep_rate: np.ndarray
    loss_mean: np.ndarray
    loss_spread: np.ndarray


def _rounds(
    frame: Frame, fold_N: np.ndarray, rate: float, strength: float, settings: Settings, judged: range | None = None
) -> list[Round]:
    """Rounds in which the heads of each fold choose the other's pairs. judged: folds to judge, whose pairs alone are told of."""
    judged = range(int(fold_N.max()) + 1) if judged is None else judged
    folds, outside = len(judged), fold_N[:, None] != np.array(judged)
    row = np.flatnonzero((fold_N >= judged.start) & (fold_N < judged.stop))
    column = fold_N[row] - judged.start
    random = np.random.default_rng(settings.seed)
    base = np.concatenate([outside & (random.random(outside.shape) < BAG) for _ in "ab"], axis=1).astype(np.float32)
    everyone = np.concatenate([outside, outside], axis=1)
    keep, heads, rounds = base, None, []
    for number in range(settings.rounds):
        heads = pair_heads.fit(frame, keep, np.full(2 * folds, strength), start=heads)
        margin = pair_heads.margins(frame, heads)
        kept = margin >= thresholds(margin, everyone, rate * min(1.0, (number + 1) / settings.warm))
        own, other = (row, column), (row, column + folds)
        rounds.append(Round(margin[own], margin[other], kept[own] * 0.5 + kept[other] * 0.5))
        chosen = kept if settings.reviewer == "self" else np.roll(kept, folds, axis=1)
        keep = base * chosen
    return rounds


def _told(rounds: list[Round], warm: int = 3) -> Told:
    """The evidence of all rounds."""
    losses = np.stack([np.logaddexp(0, -(r.margin_a + r.margin_b) / 2) for r in rounds])
    kept = np.stack([r.kept for r in rounds[min(warm, len(rounds) - 1) :]])
    return Told(rounds[-1].margin_a, rounds[-1].margin_b, kept.mean(axis=0), losses.mean(axis=0), losses.std(axis=0))


def _with_related(
    given: Comparisons, frame: Frame, told: Told, noise: Noise, rate: float, strength: float, settings: Settings
) -> tuple[np.ndarray, Noise, float]:
    """Margins that also weigh other labels of the same prompts and responses, if those make held-out labels likelier.

    Each pair's own label, and those of its copies, are left out of what judges it. Where pairs too close to call were left out
    beforehand, levels find flips better still: heads that keep the pairs with the largest margins also learn the order of a
    prompt's responses from which of them are paired at all.
    """
    best = (told.margin_a + told.margin_b) / 2, noise, 0.0
    if settings.related == "apart":
        return best
    rate = min(noise.rate if settings.noise is None else rate, UNREADABLE)
    level, strength = _tune_related(given, frame, rate, strength, settings)
    frame = frame._replace(sides_N2=given.sides_N2, level=level)
    draws = int(np.clip(TUNING_PAIRS // len(given.groups_N), 1, DRAWS))
    margin = np.zeros(len(given.groups_N), dtype=np.float32)
    for seed in range(settings.seed, settings.seed + draws):
        fold = couple_folds(given.sides_N2, 2 * settings.folds, seed)
        for begin in range(0, 2 * settings.folds, settings.folds):  # a part of the folds at a time, for the sake of memory
            judged = range(begin, begin + settings.folds)
            last = _rounds(frame, fold, rate, strength, settings, judged)[-1]
            margin[np.isin(fold, judged)] += (last.margin_a + last.margin_b) / (2 * draws)
    anew = estimate(margin, given.groups_N, settings.seed)
    return (margin, anew, level) if anew.likelihood > noise.likelihood else best


def _tune_related(given: Comparisons, frame: Frame, rate: float, strength: float, settings: Settings) -> tuple[float, float]:
    """Level of responses and strength under which labels of held-out pairs are most likely."""
    rows = some_groups(given.groups_N, TUNING_PAIRS, settings.seed)
    numbers, sides = np.unique(given.sides_N2[rows], return_inverse=True)
    sides_N2 = sides.reshape(-1, 2)
    fold = couple_folds(sides_N2, settings.folds, settings.seed)
    near = [s for s in STRENGTHS if strength / NEAR <= s <= strength * NEAR] if settings.strength is None else [strength]
    strengths = np.array(near)
    frame, found = _of_rows(given, rows, frame), []
    for level in (0.0, *LEVELS) if len(numbers) < 2 * len(rows) else (0.0,):
        levelled = frame._replace(sides_N2=sides_N2, level=level)
        tuned = _best(held_out(levelled, fold, strengths, rate), strengths, given.groups_N[rows])
        found.append((tuned.noise.likelihood, level, tuned.strength))
    _, level, strength = max(found)
    return level, strength


def final_head(frame: Frame, flip_N: np.ndarray, strength: float) -> np.ndarray:
    """A head trained on every pair with its label as probable as found, (D,)."""
    one = np.ones((len(flip_N), 1), dtype=np.float32)
    heads = pair_heads.fit(frame, one, np.array([strength]), (1 - flip_N[:, None]).astype(np.float32), tolerance=1e-4)
    return np.asarray(pair_heads.weights_of(frame, heads)[:, 0])


# -- networks


def _network_rounds(given: Comparisons, fold_N: np.ndarray, rate: float, settings: Settings) -> Told:
    """The same review by small networks, one epoch a round."""
    folds = int(fold_N.max()) + 1
    shape = (settings.rounds, len(fold_N))
    margin_a, margin_b, kept = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for fold in range(folds):
        held = fold_N == fold
        for number, (margins, keeps) in enumerate(_network_fold(given, ~held, rate, settings, fold)):
            margin_a[number, held], margin_b[number, held] = margins[0][held], margins[1][held]
            kept[number, held] = (keeps[0][held] * 0.5 + keeps[1][held] * 0.5).astype(np.float32)
    losses = np.logaddexp(0, -(margin_a + margin_b) / 2)
    after = kept[min(settings.warm, len(kept) - 1) :]
    return Told(margin_a[-1], margin_b[-1], after.mean(axis=0), losses.mean(axis=0), losses.std(axis=0))


def _network_fold(
    given: Comparisons, training_N: np.ndarray, rate: float, settings: Settings, fold: int
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Each round's margins and keeps of all pairs, by both networks."""
    random, differences, scales = np.random.default_rng([settings.seed, fold]), given.differences_ND, given.scales_D
    networks = [pair_heads.new_network(len(scales), settings.hidden, random) for _ in "ab"]
    memory = [pair_heads.no_moments(network) for network in networks]
    keeps = [training_N.copy(), training_N.copy()]
    found: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
    decay = 1e-3
    for number in range(settings.rounds):
        for own in range(2):
            reviewer = own if settings.reviewer == "self" else 1 - own
            rows = random.permutation(np.flatnonzero(keeps[reviewer] & training_N))
            if settings.curriculum and found:
                margin = found[-1][0][reviewer]
                rows = rows[np.argsort(-np.digitize(margin[rows], _quarters(margin)), kind="stable")]
            networks[own], memory[own] = pair_heads.train_epoch(differences, scales, rows, networks[own], memory[own], decay)
        margins = [pair_heads.network_margins(differences, scales, network) for network in networks]
        share = rate * min(1.0, (number + 1) / settings.warm)
        keeps = [m >= thresholds(m[:, None], training_N[:, None], share)[0] for m in margins]
        found.append((margins, keeps))
    return found


def _quarters(margin_N: np.ndarray) -> np.ndarray:
    return np.asarray(np.quantile(margin_N, [0.25, 0.5, 0.75]))


def held_out_accuracy(head_D: np.ndarray, differences_ND: np.ndarray) -> float:
    """Share of pairs whose chosen side a head scores higher; ties count half."""
    margin = differences_ND @ head_D
    return float((margin > 0).mean() + 0.5 * (margin == 0).mean()) if len(margin) else float("nan")
