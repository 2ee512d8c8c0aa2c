"""Reliabilities by expectation maximisation, held against what was planted."""

import itertools

import numpy as np
import pytest

from curate.maths.label_em import common_reliability, label_em, likeliest, of_annotators, posterior, reliabilities
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.noise_rate import area_under_curve, calibration_error, logistic
from curate.maths.peer_review import Settings


def made(odds: np.ndarray, features: int = 12, seed: int = 0) -> tuple[Comparisons, np.ndarray]:
    """Independent pairs labelled by a teacher, five to a prompt; each label is wrong by its own odds."""
    random = np.random.default_rng(seed)
    total = len(odds)
    d = random.normal(size=(total, features))
    d *= np.where(d @ random.normal(size=features) > 0, 1, -1)[:, None]
    wrong = random.random(total) < odds
    rows = np.arange(total)
    signed = (d * np.where(wrong, -1, 1)[:, None]).astype(np.float32)
    return comparisons(signed, rows // 5, rows, rows + total, [features]), wrong


def tournaments(rate: float, prompts: int, features: int = 12, own: float = 0.0) -> tuple[Comparisons, np.ndarray]:
    """Four responses a prompt, all six pairs of them: each response stands in three. own: worth that no feature shows."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(4 * prompts, features))
    worth = vectors @ random.normal(size=features) / np.sqrt(features) + own * random.normal(size=4 * prompts)
    first, second = np.array(list(itertools.combinations(range(4), 2))).T
    a, b = ((np.arange(prompts)[:, None] * 4 + side).ravel() for side in (first, second))
    wrong = random.random(len(a)) < rate
    right = (worth[a] > worth[b]) ^ wrong
    chosen, rejected = np.where(right, a, b), np.where(right, b, a)
    return comparisons((vectors[chosen] - vectors[rejected]).astype(np.float32), chosen // 4, chosen, rejected, [features]), wrong


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.3, 0.4])
def test_one_annotators_reliability_is_recovered(rate: float) -> None:
    given, wrong = made(np.full(2500, rate))
    found = label_em(given, np.zeros(2500, dtype=np.int64), Settings())
    assert abs(found.reliability[0] - (1 - rate)) <= 0.05
    if rate:
        assert area_under_curve(-found.label_prob, wrong) > 0.9


@pytest.mark.parametrize("related", ["together", "apart"])
@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4])
def test_labels_of_shared_responses_do_not_vouch_for_themselves(rate: float, related: str) -> None:
    given, wrong = tournaments(rate, 500)
    found = label_em(given, np.zeros(len(wrong), dtype=np.int64), Settings(related=related))  # type: ignore[arg-type]
    assert abs(found.reliability[0] - (1 - rate)) <= 0.05
    assert abs(found.label_prob.mean() - (1 - rate)) <= 0.06


def test_what_is_said_of_a_response_elsewhere_helps_where_features_tell_little() -> None:
    given, wrong = tournaments(0.2, 700, own=3.0)
    one = np.zeros(len(wrong), dtype=np.int64)
    together, apart = (label_em(given, one, Settings(related=related)) for related in ("together", "apart"))
    assert area_under_curve(-together.label_prob, wrong) > area_under_curve(-apart.label_prob, wrong) + 0.05
    assert abs(together.reliability[0] - 0.8) <= 0.1


def test_features_that_tell_nothing_make_nobody_sure() -> None:
    random = np.random.default_rng(0)
    rows = np.arange(1000)
    given = comparisons(random.normal(size=(1000, 3)).astype(np.float32), rows, rows, rows + 1000, [3])
    found = label_em(given, np.zeros(1000, dtype=np.int64), Settings())
    assert found.label_prob.min() > 0.5 and np.ptp(found.label_prob) < 0.05


def test_five_annotators_are_told_apart() -> None:
    truth = np.array([0.95, 0.90, 0.80, 0.70, 0.55])
    who = np.arange(4000) % 5
    given, wrong = made(1 - truth[who])
    found = label_em(given, who, Settings())
    assert np.abs(found.reliability - truth).max() <= 0.05
    assert (np.diff(found.reliability) < 0).all() and (found.labels == 800).all()
    assert area_under_curve(-found.label_prob, wrong) > 0.9


def test_without_cross_fit_a_head_that_memorises_finds_every_label_right() -> None:
    given, _ = made(np.full(300, 0.3), features=200)
    who, settings = np.zeros(300, dtype=np.int64), Settings(strength=0.01)
    assert label_em(given, who, settings, cross_fit=False).reliability[0] > 0.95
    assert label_em(given, who, settings).reliability[0] < 0.9  # what is done unless asked otherwise


def test_told_apart_no_label_is_judged_by_others_of_its_prompt() -> None:
    random, which = np.random.default_rng(0), np.repeat(np.arange(60), 10)
    d = np.zeros((600, 62))
    d[np.arange(600), which] = random.normal(0, 2, 600)
    d[:, 60:] = random.normal(size=(600, 2))
    taste = random.choice([-1, 1], 60)  # each prompt's own, which only its other pairs teach
    wrong = random.random(600) < 0.2
    signs = np.where(d[np.arange(600), which] * taste[which] > 0, 1, -1) * np.where(wrong, -1, 1)
    given = comparisons((d * signs[:, None]).astype(np.float32), which, np.arange(600), np.arange(600) + 600, [1] * 62)
    found = label_em(given, np.zeros(600, dtype=np.int64), Settings(related="apart"))
    assert area_under_curve(-found.label_prob, wrong) < 0.65


def test_factor_and_reliability_are_found_together() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(0, 3, 20_000)
    better = random.random(20_000) < logistic(truth)  # whether the first side is
    first = better ^ (random.random(20_000) < 0.3)  # whether the label says so
    margin = np.where(first, truth, -truth)
    factor, told = likeliest(margin / 5)
    assert factor == pytest.approx(5, rel=0.25) and told == pytest.approx(0.7, abs=0.02)
    factor, told = likeliest(margin / 5, 0.7)
    assert factor == pytest.approx(5, rel=0.2) and told == pytest.approx(0.7)
    right = posterior(margin, np.full(20_000, 0.7))
    assert right.mean() == pytest.approx(0.7, abs=0.02)  # a fixed point of expectation and maximisation


@pytest.mark.parametrize("told", [[0.7, 0.7], [0.95, 0.45]])
@pytest.mark.parametrize("labels", [5, 50])
def test_the_factor_is_found_however_many_annotators_there_are_and_whether_they_differ(told: list[float], labels: int) -> None:
    margin, who, _ = votes(np.tile(told, 10_000 // labels), labels)
    factor, found = of_annotators(margin / 5, who, 3.0)
    assert 3 < factor < 6.3 and found.value.mean() == pytest.approx(0.7, abs=0.05)


def test_the_reliability_is_the_maximum_of_the_likelihood() -> None:
    side = np.array([0.9, 0.8, 0.3, 0.95, 0.6, 0.1, 0.7])
    grid = np.linspace(0.001, 0.999, 999)
    likelihood = np.log(side[:, None] * grid + (1 - side[:, None]) * (1 - grid)).sum(axis=0)
    assert common_reliability(side) == pytest.approx(grid[likelihood.argmax()], abs=2e-3)
    told = reliabilities(side, np.zeros(7, dtype=np.int64), 0.9, 0.0)
    assert told.value == pytest.approx([common_reliability(side)]) and (told.others == told.value[0]).all()


def test_an_annotator_of_one_label_is_taken_to_be_like_the_others() -> None:
    side, who = np.r_[np.full(400, 0.99), np.full(100, 0.01), 0.01], np.r_[np.zeros(500, dtype=np.int64), 1]
    told = reliabilities(side, who, 0.8, 5.0)
    assert told.value[0] == pytest.approx(0.8, abs=0.02) and 0.5 < told.value[1] < told.value[0]
    assert told.others[-1] == pytest.approx(0.8, abs=0.05)  # its own label says nothing of itself


def votes(reliability: np.ndarray, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of annotators with these reliabilities: margins of what they say, who said it, and which labels are wrong."""
    random = np.random.default_rng(seed)
    who = np.repeat(np.arange(len(reliability)), labels)
    truth = random.normal(0, 2, len(who))
    better = random.random(len(who)) < logistic(truth)
    wrong = random.random(len(who)) > reliability[who]
    return np.where(better ^ wrong, truth, -truth), who, wrong


def test_what_others_tell_of_an_annotator_is_as_if_the_label_were_not_there() -> None:
    margin, who, _ = votes(np.array([0.95, 0.6, 0.8]), 40)
    side = logistic(margin)
    told = reliabilities(side, who, 0.8, 5.0)
    for row in (0, 5, 41, 77, 119):
        rest = np.arange(120) != row
        anew = reliabilities(side[rest], who[rest], 0.8, 5.0).value[who[row]]
        assert told.others[row] == pytest.approx(anew, abs=0.01)


def test_annotators_who_do_not_differ_are_all_alike_and_those_who_do_are_told_apart() -> None:
    margin, who, _ = votes(np.full(300, 0.7), 6)
    assert np.ptp(of_annotators(margin, who, 1.0)[1].value) < 0.05
    told = np.tile([0.55, 0.95], 40)
    margin, who, _ = votes(told, 60)
    assert np.corrcoef(of_annotators(margin, who, 1.0)[1].value, told)[0, 1] > 0.8


@pytest.mark.parametrize("labels", [4, 20])
@pytest.mark.parametrize("rate", [0.2, 0.35])
def test_many_annotators_make_nobody_surer_than_they_should_be(rate: float, labels: int) -> None:
    given, wrong = tournaments(rate, 500)
    total = len(wrong)
    who = np.random.default_rng(1).permutation(total) % (total // labels)
    found, alone = label_em(given, who, Settings()), label_em(given, np.zeros(total, dtype=np.int64), Settings())
    assert calibration_error(1 - found.label_prob, wrong) < calibration_error(1 - alone.label_prob, wrong) + 0.02
    assert found.reliability.mean() == pytest.approx(1 - rate, abs=0.04)
    kept = found.label_prob > 0.5
    assert (1 - found.label_prob[kept]).mean() == pytest.approx(wrong[kept].mean(), abs=0.04)


def test_a_noise_that_is_told_is_kept() -> None:
    given, _ = made(np.full(400, 0.2))
    assert label_em(given, np.zeros(400, dtype=np.int64), Settings(noise=0.1)).reliability.tolist() == [0.9]
