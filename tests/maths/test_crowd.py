"""Raters and sides found together, against planted raters, slow versions and crowd-kit."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.maths import votes as ballots
from curate.maths.crowd_bt import VIRTUAL, crowd_bradley_terry
from curate.maths.dawid_skene import SMOOTHING, one_coin, reliability
from curate.maths.glad import glad, judged
from curate.maths.raters import logistic, weighed
from curate.maths.votes import Votes

FIVE = np.array([0.95, 0.90, 0.80, 0.70, 0.55])


def crowd(accuracy_R, pairs=400, seed=0, share=1.0, clear=True):
    """Votes in one order by raters who are right as told, guessing on pairs that are not clear; and whether chosen is better."""
    draw = np.random.default_rng(seed)
    truth_N, clear_N = draw.random(pairs) < 0.5, np.broadcast_to(clear, pairs)
    pair_V, rater_V = np.nonzero(draw.random((pairs, len(accuracy_R))) < share)
    odds_V = np.where(clear_N[pair_V], np.asarray(accuracy_R)[rater_V], 0.5)
    p_V = (truth_N[pair_V] == (draw.random(len(pair_V)) < odds_V)).astype(np.float64)
    return Votes(pair_V, rater_V, p_V, np.zeros(len(pair_V), bool), pairs, len(accuracy_R)), truth_N


def right(better_N, truth_N):
    return float(np.where(better_N == 0.5, 0.5, (better_N > 0.5) == truth_N).mean())


def turned(votes, turned_N):
    """The same votes with the sides of some pairs named the other way round."""
    turn = turned_N[votes.pair_V]
    return votes._replace(p_V=np.where(turn, 1 - votes.p_V, votes.p_V), swapped_V=votes.swapped_V ^ turn)


# -- Dawid and Skene


@pytest.mark.parametrize("seed", range(3))
def test_five_planted_annotators_are_recovered(seed):
    votes, truth = crowd(FIVE, 2000, seed)
    for found in (one_coin(votes).right_R, reliability(votes).accuracy_R):
        assert found == pytest.approx(FIVE, abs=0.05)
    assert right(weighed(votes, one_coin(votes).habits), truth) > right(ballots.majority(votes), truth)


def slow_dawid_skene(votes, rounds):
    """Two coins a rater and a prior, vote by vote; sides with the mean vote before any is known."""
    named = list(zip(votes.pair_V.tolist(), votes.rater_V.tolist(), votes.p_V.tolist(), strict=True))
    better = ballots.mean_vote(votes).tolist()
    for _ in range(rounds):
        counts = [[[0.0, 0.0], [0.0, 0.0]] for _ in range(votes.raters)]
        for pair, rater, p in named:
            for side, share in ((0, better[pair]), (1, 1 - better[pair])):
                counts[rater][side][0] += share * p
                counts[rater][side][1] += share * (1 - p)
        firsts, seen = ([sum(rater[side][n] for rater in counts for n in of) for side in (0, 1)] for of in ((0,), (0, 1)))
        mean = [(n + SMOOTHING) / (t + 2 * SMOOTHING) for n, t in zip(firsts, seen, strict=True)]
        given = 2 * SMOOTHING  # votes of the crowd's mean
        rates = [[(side[0] + given * m) / (sum(side) + given) for side, m in zip(rater, mean, strict=True)] for rater in counts]
        prior = (sum(better) + SMOOTHING) / (len(better) + 2 * SMOOTHING)
        odds = [math.log(prior / (1 - prior))] * votes.pairs
        for pair, rater, p in named:
            (first, wrong) = rates[rater]
            odds[pair] += p * math.log(first / wrong) + (1 - p) * math.log((1 - first) / (1 - wrong))
        better = [1 / (1 + math.exp(-o)) for o in odds]
    return np.array(rates), prior


@pytest.mark.parametrize("sure", [1.0, 0.9])
def test_dawid_skene_is_that_of_the_book(sure):
    """Votes of the second rater may be probabilities: each is then a part of a vote for either side."""
    votes, _ = crowd([0.9, 0.8, 0.6], 40, seed=4)
    votes = votes._replace(p_V=np.where(votes.rater_V == 1, 0.5 + sure * (votes.p_V - 0.5), votes.p_V))
    rates, prior = slow_dawid_skene(votes, 300)
    found = reliability(votes)
    assert np.stack([found.first_R, found.wrong_first_R], axis=1) == pytest.approx(rates, abs=1e-3)
    assert found.prior == pytest.approx(prior, abs=1e-3)


def test_a_side_that_is_mostly_the_better_one_is_no_habit_of_the_raters():
    """Chosen is better in eight of ten pairs and always shown first: to name it often is to be right often."""
    draw = np.random.default_rng(0)
    truth = draw.random(8000) < 0.8
    p = np.where(draw.random((8000, 5)) < 0.8, truth[:, None], ~truth[:, None]).astype(float)
    found = reliability(ballots.dense(np.stack([p, np.full_like(p, np.nan)], axis=2)))
    assert found.prior == pytest.approx(0.8, abs=0.02)
    assert found.first_R == pytest.approx([0.8] * 5, abs=0.03) and found.wrong_first_R == pytest.approx([0.2] * 5, abs=0.05)


def test_with_votes_in_both_orders_it_does_not_matter_which_side_is_called_chosen():
    """Chosen is better in eight of ten pairs. Where places tell the sides apart, that is no knowledge beforehand."""
    draw = np.random.default_rng(1)
    truth = draw.random(300) < 0.8
    p = np.where(draw.random((300, 3, 2)) < 0.8, truth[:, None, None], ~truth[:, None, None]).astype(float)
    votes, turn = ballots.dense(p), draw.random(300) < 0.5
    plain, other = reliability(votes), reliability(turned(votes, turn))
    assert plain.prior == other.prior == 0.5
    assert other.first_R == pytest.approx(plain.first_R, abs=1e-4)
    found, renamed = weighed(votes, plain), weighed(turned(votes, turn), other)
    assert renamed == pytest.approx(np.where(turn, 1 - found, found), abs=1e-3)


def test_the_interval_covers_the_planted_accuracy():
    inside, width = [], []
    for seed in range(40):
        found = one_coin(crowd(FIVE, 150, seed)[0])
        inside.append((found.low_R <= FIVE) & (found.high_R >= FIVE))
        width.append(found.high_R - found.low_R)
        assert ((found.low_R < found.right_R) & (found.right_R < found.high_R)).all()
    assert np.mean(inside) > 0.9
    assert np.mean(width) < 0.25


def test_the_interval_counts_what_is_not_known_of_the_sides_as_missing():
    """Two raters with nobody else: where they differ nobody knows who is right, and the interval is wide."""
    votes, _ = crowd([0.8, 0.8], 200, seed=1)
    known = one_coin(crowd([0.8, 0.8] + [0.9] * 20, 200, seed=1)[0])
    alone = one_coin(votes)
    assert (alone.high_R - alone.low_R).min() > 1.5 * (known.high_R - known.low_R)[:2].max()


def test_pairs_with_one_vote_tell_nothing_of_a_rater():
    """Rater 1 is alone on 500 pairs and disagrees with nobody there."""
    votes, _ = crowd([0.8, 0.8, 0.8], 200, seed=3)
    alone = votes._replace(
        pair_V=np.append(votes.pair_V, np.arange(200, 700)),
        rater_V=np.append(votes.rater_V, np.full(500, 1)),
        p_V=np.append(votes.p_V, np.ones(500)),
        swapped_V=np.zeros(len(votes.p_V) + 500, bool),
        pairs=700,
    )
    assert one_coin(alone).right_R == pytest.approx(one_coin(votes).right_R)
    assert weighed(alone, one_coin(alone).habits)[200:] == pytest.approx(one_coin(votes).right_R[1])


def test_a_rater_whom_nobody_met_is_taken_for_one_of_the_crowd():
    votes, _ = crowd([0.9, 0.9, 0.9], 300, seed=3)
    found = one_coin(votes._replace(raters=4))
    assert found.right_R[3] == pytest.approx(found.right_R[:3].mean(), abs=0.01)
    assert found.low_R[3] < 0.55
    nobody = one_coin(votes.where(np.zeros(len(votes.p_V), bool)))
    assert nobody.right_R == pytest.approx([2 / 3] * 3)


METHODS = {
    "one_coin": lambda votes: weighed(votes, one_coin(votes).habits),
    "glad": lambda votes: glad(votes).better_N,
    "majority": ballots.majority,
}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), method=st.sampled_from(sorted(METHODS)))
def test_which_side_of_a_pair_is_called_chosen_does_not_matter(seed, method):
    votes, _ = crowd(FIVE, 60, seed, share=0.6)
    turn = np.random.default_rng(seed + 1).random(60) < 0.5
    plain, other = METHODS[method](votes), METHODS[method](turned(votes, turn))
    assert other == pytest.approx(np.where(turn, 1 - plain, plain), abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), method=st.sampled_from(sorted(METHODS)))
def test_the_order_of_raters_does_not_matter(seed, method):
    votes, _ = crowd(FIVE, 60, seed, share=0.6)
    mixed = np.random.default_rng(seed).permutation(5)
    assert METHODS[method](votes._replace(rater_V=mixed[votes.rater_V])) == pytest.approx(METHODS[method](votes), abs=1e-3)


def test_pairs_without_votes_and_ties_stay_open():
    votes = Votes(np.array([0, 1]), np.array([0, 0]), np.array([1.0, 0.5]), np.zeros(2, bool), 3, 1)
    for method in METHODS.values():
        found = method(votes)
        assert found[0] > 0.5 and found[1:].tolist() == [0.5, 0.5]


# -- GLAD


def slow_posterior(votes, ability, log_clarity):
    """Log posterior density of abilities and log clarities, the sides summed out, vote by vote."""
    total = -0.5 * (sum((a - 1) ** 2 for a in ability) + sum((b - 1) ** 2 for b in log_clarity))
    for pair in range(votes.pairs):
        sides = [math.log(0.5), math.log(0.5)]
        for n, rater, p in zip(votes.pair_V, votes.rater_V, votes.p_V, strict=True):
            if n == pair:
                chance = 1 / (1 + math.exp(-ability[rater] * math.exp(log_clarity[pair])))
                for side in (0, 1):
                    sides[side] += math.log(chance if p == side else 1 - chance)
        total += np.logaddexp(*sides)
    return float(total)


def test_glad_stands_on_a_maximum_of_the_posterior():
    votes, _ = crowd([0.9, 0.9, 0.8, 0.4], 12, seed=3)
    found = glad(votes)
    point = np.concatenate([found.ability_R, np.log(found.clarity_N)])
    best = slow_posterior(votes, point[:4], point[4:])
    for place in range(len(point)):
        for step in (-0.02, 0.02):
            moved = point.copy()
            moved[place] += step
            assert slow_posterior(votes, moved[:4], moved[4:]) < best + 1e-7


def test_glad_tells_able_raters_and_clear_pairs():
    """Half of the pairs are guessed by everybody."""
    accuracy = np.linspace(0.55, 0.97, 30)
    clear = np.arange(1500) < 750
    votes, _ = crowd(accuracy, 1500, seed=2, share=0.3, clear=clear)
    found = glad(votes)
    assert np.corrcoef(found.ability_R, accuracy)[0, 1] > 0.9
    assert found.clarity_N[clear].mean() > 1.2 * found.clarity_N[~clear].mean()


def test_a_rater_that_errs_on_purpose_is_heard_the_other_way_round():
    votes, truth = crowd([0.9, 0.9, 0.9, 0.05], 300, seed=1)
    found = glad(votes)
    assert found.ability_R[3] < 0 < found.ability_R[:3].min()
    against = votes.where(votes.rater_V == 3)
    assert right(judged(against, found.ability_R).better_N, truth) > 0.9


def test_a_pair_is_judged_by_itself_as_among_others():
    votes, _ = crowd(FIVE, 50, seed=6)
    whole = glad(votes)
    part = judged(votes.where(votes.pair_V < 10), whole.ability_R)
    assert part.better_N[:10] == pytest.approx(whole.better_N[:10], abs=1e-9)


# -- Bradley and Terry with reliability


def matches(reliability_R, items=12, pairs=400, seed=0):
    """Votes on random pairs of responses with planted strengths."""
    draw = np.random.default_rng(seed)
    strength = draw.normal(0, 1.5, items)
    chosen = draw.integers(0, items, pairs)
    rejected = (chosen + draw.integers(1, items, pairs)) % items
    up = draw.random((pairs, len(reliability_R))) < logistic(strength[chosen] - strength[rejected])[:, None]
    p = np.where(draw.random(up.shape) < np.asarray(reliability_R), up, ~up).astype(float)
    return ballots.dense(np.stack([p, np.full_like(p, np.nan)], axis=2)), chosen, rejected, strength


def test_strengths_and_reliabilities_are_recovered():
    planted = np.array([0.95, 0.9, 0.8, 0.5, 0.1])
    votes, chosen, rejected, strength = matches(planted, pairs=1500)
    found = crowd_bradley_terry(votes, chosen, rejected, 12)
    assert found.reliability_R == pytest.approx(planted, abs=0.06)
    assert np.corrcoef(found.strength_I, strength)[0, 1] > 0.98


def slow_bradley_terry(votes, chosen, rejected, strength, reliability_R):
    total = sum(VIRTUAL * (math.log(logistic(s)) + math.log(logistic(-s))) for s in strength)
    total += sum(SMOOTHING * (math.log(r) + math.log(1 - r)) for r in reliability_R)
    for pair, rater, p in zip(votes.pair_V, votes.rater_V, votes.p_V, strict=True):
        up = 1 / (1 + math.exp(strength[rejected[pair]] - strength[chosen[pair]]))
        yes = reliability_R[rater] * up + (1 - reliability_R[rater]) * (1 - up)
        total += p * math.log(yes) + (1 - p) * math.log(1 - yes)
    return total


def test_crowd_bradley_terry_stands_on_a_maximum_of_the_posterior():
    votes, chosen, rejected, _ = matches([0.9, 0.7, 0.6], items=5, pairs=30, seed=1)
    found = crowd_bradley_terry(votes, chosen, rejected, 5)
    best = slow_bradley_terry(votes, chosen, rejected, found.strength_I, found.reliability_R)
    for part in range(2):
        for place in range(len(found[part])):
            for step in (-0.01, 0.01):
                moved = [each.copy() for each in found]
                moved[part][place] += step
                assert slow_bradley_terry(votes, chosen, rejected, *moved) < best


# -- crowd-kit


@pytest.fixture(scope="module")
def crowdkit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("crowdkit.aggregation")


def fitted(method, votes):
    """crowd-kit's method after the same votes."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"task": votes.pair_V, "worker": votes.rater_V, "label": votes.p_V.astype(int)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method.fit(frame)


def theirs(made, votes):
    """Its probabilities of the chosen side."""
    return made.probas_[1].reindex(range(votes.pairs)).to_numpy()


def test_dawid_skene_agrees_with_crowdkit(crowdkit):
    votes, _ = crowd(np.linspace(0.6, 0.95, 20), 2000, share=0.5)
    made = fitted(crowdkit.DawidSkene(n_iter=500, tol=1e-12), votes)
    assert weighed(votes, reliability(votes)) == pytest.approx(theirs(made, votes), abs=0.02)
    made = fitted(crowdkit.OneCoinDawidSkene(n_iter=500, tol=1e-12), votes)
    assert weighed(votes, one_coin(votes).habits) == pytest.approx(theirs(made, votes), abs=0.02)
    assert one_coin(votes).right_R == pytest.approx(made.skills_.sort_index().to_numpy(), abs=0.005)


def test_agreement_with_the_majority_agrees_with_crowdkit(crowdkit):
    votes, _ = crowd(FIVE[:3], 500, share=1.0)
    skills = fitted(crowdkit.Wawa(), votes).skills_.sort_index().to_numpy()
    assert ballots.agreement_with_majority(votes) == pytest.approx(skills)


def test_glad_finds_a_better_posterior_than_crowdkit_which_stops_early(crowdkit):
    votes, _ = crowd(np.linspace(0.55, 0.95, 8), 60, share=0.6)
    made, found = fitted(crowdkit.GLAD(n_iter=100, tol=1e-9), votes), glad(votes)
    abilities = made.alphas_.sort_index().to_numpy()
    clarity = made.betas_.reindex(range(votes.pairs), fill_value=1.0).to_numpy()
    reached = slow_posterior(votes, abilities, clarity)
    assert slow_posterior(votes, found.ability_R, np.log(found.clarity_N)) >= reached
    assert np.corrcoef(found.ability_R, abilities)[0, 1] > 0.95
    assert ((found.better_N > 0.5) == (theirs(made, votes) > 0.5)).mean() > 0.9
