import numpy as np
import pytest

from curate.errors import DataError
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.noise_rate import area_under_curve
from curate.maths.peer_review import Settings
from curate.maths.reviewers import implied_review, trained_review


def two_margins(rate: float, pairs: int = 2000, units: tuple[float, float] = (1.0, 1.0)) -> tuple[Comparisons, np.ndarray]:
    """Two policies that see the truth through noise of their own, and flips in the labels."""
    random = np.random.default_rng(0)
    truth = np.abs(random.normal(0, 2, pairs))
    wrong = random.random(pairs) < rate
    seen = (truth[:, None] + random.normal(0, 1, (pairs, 2))) * np.where(wrong, -1, 1)[:, None] * units
    rows = np.arange(pairs)
    return comparisons(seen.astype(np.float32), rows, rows, rows + pairs, [1, 1]), wrong


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_two_implied_margins_find_flips_and_tell_the_noise(rate: float) -> None:
    given, wrong = two_margins(rate)
    found = implied_review(given, Settings())
    assert abs(found.noise.rate - rate) <= 0.06
    if rate:
        assert area_under_curve(found.flip_prob, wrong) > 0.9
        assert wrong[found.selected].mean() < rate / 1.5
    else:
        assert (found.flip_prob > 0.5).mean() < 0.05 and found.selected.mean() > 0.9


def test_units_of_implied_margins_do_not_matter() -> None:
    one, _ = two_margins(0.2)
    other, _ = two_margins(0.2, units=(0.01, 50.0))
    first, second = implied_review(one, Settings()), implied_review(other, Settings())
    assert np.allclose(first.flip_prob, second.flip_prob, atol=1e-3)
    assert np.allclose(first.margin_a, second.margin_a, atol=1e-2)


def test_margins_come_out_as_log_odds_whatever_their_unit() -> None:
    random, rows = np.random.default_rng(0), np.arange(5000)
    truth = random.normal(0, 4, 5000)
    signed = np.where(random.random(5000) < 1 / (1 + np.exp(-truth)), truth, -truth)
    given = comparisons(np.stack([signed, signed], axis=1).astype(np.float32) * 40, rows, rows, rows + 5000, [1, 1])
    found = implied_review(given, Settings())
    assert np.polyfit(signed, found.margin_a, 1)[0] == pytest.approx(1, abs=0.3)


def test_what_both_models_would_leave_out_is_not_selected() -> None:
    found = implied_review(two_margins(0.0, 100)[0], Settings(noise=0.3))
    assert set(found.keep_rate.tolist()) <= {0.0, 0.5, 1.0}
    assert (found.selected == (found.keep_rate > 0)).all() and found.keep_rate.mean() == pytest.approx(0.7, abs=0.02)


def test_a_policy_that_is_its_reference_is_refused() -> None:
    given, _ = two_margins(0.2)
    flat = given.differences_ND.copy()
    flat[:, 1] = 0
    rows = np.arange(len(flat))
    with pytest.raises(DataError, match="same model"):
        implied_review(comparisons(flat, rows, rows, rows + len(flat), [1, 1]), Settings())


class Counter:
    """Learns the sign of the majority: a model whose training can be followed by eye."""

    alive = 0

    def __init__(self, seed: int, labels: np.ndarray, log: list[np.ndarray]) -> None:
        Counter.alive += 1
        self.seed, self.labels, self.log, self.heard = seed, labels, log, np.zeros(len(labels))

    def train(self, rows: np.ndarray) -> None:
        self.log.append(rows)
        self.heard[rows] += 1

    def margins(self) -> np.ndarray:
        return self.labels + self.seed % 7 * 1e-6

    def close(self) -> None:
        Counter.alive -= 1


def test_models_are_trained_on_what_the_other_keeps_and_never_on_the_held_out_fold() -> None:
    groups, labels = np.repeat(np.arange(20), 5), np.tile([3.0, 2.0, 1.0, 0.5, -2.0], 20)
    log: list[np.ndarray] = []
    told: list[str] = []
    settings = Settings(noise=0.2, folds=4, rounds=3, warm=1)
    found = trained_review(lambda seed: Counter(seed, labels, log), groups, settings, told.append)
    assert Counter.alive == 0 and len(log) == 4 * 3 * 2 and len(told) == 4 * 3
    for fold in range(4):
        mine = log[6 * fold : 6 * fold + 6]
        out = set(groups.tolist()) - set(groups[np.concatenate(mine)].tolist())
        assert len(out) == 5  # whole groups, unseen by either model
        assert len(mine[0]) == len(mine[1]) == 75 and all((labels[rows] > 0).all() and len(rows) == 60 for rows in mine[2:])
    assert (found.selected == (labels > 0)).all() and (found.keep_rate[labels < 0] == 0).all()
    assert (found.flip_prob[labels < 0] > 0.5).all() and (found.loss_spread < 1e-6).all()


class Fixed(Counter):
    """Every model has its own opinion, drawn by its seed."""

    def margins(self) -> np.ndarray:
        return self.labels + np.random.default_rng(self.seed).normal(0, 1, len(self.labels))


@pytest.mark.parametrize("reviewer", ["peer", "self"])
def test_a_peer_is_the_other_model(reviewer: str) -> None:
    log: list[np.ndarray] = []
    made: list[Fixed] = []

    def new(seed: int) -> Fixed:
        made.append(Fixed(seed, np.zeros(100), log))
        return made[-1]

    trained_review(new, np.arange(100), Settings(noise=0.4, folds=2, rounds=2, warm=1, reviewer=reviewer), lambda text: None)  # type: ignore[arg-type]
    first, second = made[0].margins(), made[1].margins()
    judge, other = (second, first) if reviewer == "peer" else (first, second)
    kept = log[2]  # what the first model is given in the second round
    outside = np.setdiff1d(log[0], kept)
    assert judge[kept].min() > judge[outside].max() and other[kept].min() < other[outside].max()


def test_easy_pairs_come_first_in_a_curriculum() -> None:
    log: list[np.ndarray] = []
    labels = np.linspace(-1, 3, 80)
    trained_review(
        lambda seed: Counter(seed, labels, log), np.arange(80), Settings(noise=0.1, folds=2, rounds=2, curriculum=True)
    )
    assert not (np.diff(labels[log[0]]) < 0).all()
    quarter = len(log[2]) // 4
    assert labels[log[2]][:quarter].min() > labels[log[2]][-quarter:].max()


def test_the_noise_is_read_off_a_first_training_where_it_is_not_told() -> None:
    random = np.random.default_rng(0)
    labels = np.abs(random.normal(3, 1, 1000)) * np.where(random.random(1000) < 0.3, -1, 1)
    log: list[np.ndarray] = []
    trained_review(lambda seed: Counter(seed, labels, log), np.arange(1000), Settings(folds=2, rounds=2, warm=1))
    assert [len(rows) for rows in log[:2]] == [500, 500]
    assert len(log[4]) == pytest.approx(350, abs=15)  # after warming up, 70 % of what is trained on
    assert Counter.alive == 0
