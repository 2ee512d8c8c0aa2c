"""Which filter is named, from runs small enough to check by eye."""

from typing import Any

import numpy as np
import pytest

from curate.maths.noise_choice import choose, gap, half_width, student


def run(method: str, accuracy: float | None, rate: float = 0.2, seed: int = 0, auc: float = 0.9, **more: Any) -> dict[str, Any]:
    told = {"kind": "symmetric", "rate": rate, "seed": seed, "method": method, "accuracy": accuracy, "auc": auc, "flagged": 0.0}
    return told | more


def runs(**accuracies: list[float]) -> list[dict[str, Any]]:
    """Runs of seeds 0, 1, ... at 20 % flips."""
    return [run(method, value, seed=seed) for method, values in accuracies.items() for seed, value in enumerate(values)]


def test_the_filter_that_is_surely_better_is_named_with_how_much() -> None:
    found = choose(runs(untreated=[0.70, 0.72, 0.71], label_em=[0.75, 0.77, 0.76], peer_review=[0.80, 0.82, 0.81]))
    assert found is not None and (found.method, found.alike, found.better) == ("peer_review", (), None)
    assert found.accuracy == pytest.approx(0.81) and found.over_untreated is not None
    assert found.over_untreated.mean == pytest.approx(0.10) and found.over_untreated.half == pytest.approx(0, abs=1e-12)


def test_of_filters_alike_the_one_that_ranks_wrong_labels_best_is_taken() -> None:
    told = runs(untreated=[0.7, 0.7, 0.7], label_em=[0.80, 0.78, 0.79], peer_review=[0.78, 0.80, 0.80])
    for one in told:
        one["auc"] = {"label_em": 0.95, "peer_review": 0.90}.get(one["method"], 0.5)
    found = choose(told)
    assert found is not None and (found.method, found.alike) == ("label_em", ("peer_review",))


def test_a_filter_that_is_not_surely_worse_is_told_but_not_taken_for_its_ranking() -> None:
    told = runs(untreated=[0.5, 0.5], label_em=[0.7, 0.8], peer_review=[0.8, 0.8])
    for one in told:
        one["auc"] = {"label_em": 0.95}.get(one["method"], 0.9)
    found = choose(told)
    assert found is not None and (found.method, found.alike) == ("peer_review", ("label_em",))


def test_a_single_seed_cannot_make_filters_alike() -> None:
    told = [run("label_em", 0.79, auc=0.99), run("peer_review", 0.80, auc=0.90), run("untreated", 0.7)]
    found = choose(told)
    assert found is not None and (found.method, found.alike) == ("peer_review", ())
    assert found.over_untreated is not None and np.isnan(found.over_untreated.half) and not found.over_untreated.sure


def test_a_baseline_or_the_oracle_is_never_named_but_a_surely_better_baseline_is_told() -> None:
    told = runs(trimmed=[0.85, 0.86, 0.85], oracle=[0.9, 0.9, 0.9], untreated=[0.7, 0.7, 0.7], peer_review=[0.80, 0.81, 0.80])
    found = choose(told)
    assert found is not None and found.method == "peer_review"
    assert found.better is not None and (found.better[0], found.better[1].mean) == ("trimmed", pytest.approx(0.05))
    assert found.below_oracle is not None and found.below_oracle.mean == pytest.approx(0.29 / 3)


def test_what_a_filter_costs_is_told_where_nothing_was_planted() -> None:
    told = runs(untreated=[0.7, 0.7], peer_review=[0.8, 0.8])
    told += [run("untreated", 0.80, rate=0.0), run("peer_review", 0.79, rate=0.0, flagged=0.04)]
    found = choose(told)
    assert found is not None and found.flagged == 0.04 and found.accuracy == 0.8
    assert found.at_zero is not None and found.at_zero.mean == pytest.approx(-0.01)


def test_without_planted_flips_or_without_a_filter_none_is_named() -> None:
    assert choose([run("peer_review", 0.8, rate=0.0)]) is None
    assert choose(runs(untreated=[0.7, 0.7], oracle=[0.9, 0.9])) is None
    assert choose([run("peer_review", None)]) is None


def test_an_interval_is_that_of_the_seeds_and_not_of_how_rates_differ() -> None:
    told = [run("peer_review", 0.80 + 0.01 * seed, rate=0.1, seed=seed) for seed in (0, 1, 2)]
    told += [run("peer_review", 0.60 + 0.01 * seed, rate=0.4, seed=seed) for seed in (0, 1, 2)]
    told += [run("untreated", 0.50, rate=rate, seed=seed) for rate in (0.1, 0.4) for seed in (0, 1, 2)]
    found = gap(told, "peer_review", "untreated")
    assert found is not None and found.mean == pytest.approx((0.31 + 0.11) / 2)
    # four degrees of freedom; variance 0.01^2 about each mean, of two means of three seeds
    assert found.half == pytest.approx(2.776 * np.sqrt(0.01**2 * (1 / 3 + 1 / 3)) / 2)


def test_runs_without_a_partner_or_a_number_do_not_count() -> None:
    told = [run("peer_review", 0.8), run("peer_review", 0.9, seed=1), run("untreated", 0.7), run("untreated", None, seed=1)]
    found = gap(told, "peer_review", "untreated")
    assert found is not None and found.mean == pytest.approx(0.1)
    assert gap(told, "peer_review", "oracle") is None


def test_half_widths_are_students() -> None:
    assert half_width(np.array([0.1, 0.2, 0.3, np.nan])) == pytest.approx(4.303 * 0.1 / np.sqrt(3))
    assert np.isnan(half_width(np.array([0.1, np.nan])))


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (10, 2.228), (11, 2.201), (30, 2.042), (1000, 1.962)])
def test_quantiles_of_student(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=0.003)
