"""Recipes that score with rewards and likelihoods, run with fakes: each by its published formula, worked out slowly here."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl
import pytest
from scipy.stats import kendalltau, spearmanr

from curate.store.versions import Version, data_files
from tests.recipes.conftest import check_sound, dropped, steps_of, table_of
from tests.recipes.test_model_recipes import by_prompt, sigmoid, value

Row = dict[str, Any]


def told(row: Row, rater: str, aspect: str) -> float:
    """A score that is there."""
    found = value(row["scores"], rater, aspect)
    assert found is not None
    return found


def all_of(version: Version, grain: str) -> list[Row]:
    """Rows as they were made: kept and dropped ones."""
    tables = [table_of(version, folder) for folder in (grain, f"dropped/{grain}") if data_files(version, folder)]
    common = [column for column in tables[0].columns if all(column in table.columns for table in tables)]
    return pl.concat([table.select(common) for table in tables]).sort("row").to_dicts()


def responses_of(version: Version) -> list[Row]:
    """Every candidate."""
    return all_of(version, "responses")


def all_pairs(version: Version) -> list[Row]:
    """Every pair that was made."""
    return all_of(version, "pairs")


def check_best_against_worst(version: Version, score: Callable[[Row], float]) -> None:
    """Every pair has a response of the highest score of its prompt against one of the lowest, and their difference as margin."""
    prompts = by_prompt(responses_of(version))
    pairs = all_pairs(version)
    assert len(pairs) > 140
    for pair in pairs:
        scores = {row["response_id"]: score(row) for row in prompts[pair["prompt_id"]]}
        best, worst = scores[pair["chosen_id"]], scores[pair["rejected_id"]]
        assert best == pytest.approx(max(scores.values()), abs=1e-5)
        assert worst == pytest.approx(min(scores.values()), abs=1e-5)
        assert pair["margin"] == pytest.approx(best - worst, abs=1e-4)


# -- on-policy-rm


def test_on_policy_pairs_are_the_policys_own_best_and_worst_a_margin_apart(run: Callable[..., Version]) -> None:
    version = run("on-policy-rm")
    check_sound(version)
    rows = responses_of(version)
    assert {row["policy"] for row in rows} == {"on"} and {len(each) for each in by_prompt(rows).values()} == {8}
    check_best_against_worst(version, lambda row: told(row, "rm", "reward"))
    gone = table_of(version, "dropped/pairs")
    assert dropped(version, "pairs", "margin") == {"small_margin": gone.height} and gone.height > 5
    assert gone["margin"].max() < 1.5 <= table_of(version, "pairs")["margin"].min()  # type: ignore[operator]


# -- CREAM


@pytest.fixture(scope="module")
def cream(run: Callable[..., Version]) -> Version:
    return run("cream")


def cream_consistency(rows: Sequence[Row]) -> float:
    """(tau + 1)/2 of the current model's order, by its reward over the start, and the start's, by its mean log-probability."""
    now = [told(row, "current", "logprob") - told(row, "start", "logprob") for row in rows]
    before = [told(row, "start", "mean_logprob") for row in rows]
    return float((kendalltau(now, before).statistic + 1) / 2)


def test_cream_ranks_five_samples_by_the_current_model_over_the_start(cream: Version) -> None:
    check_sound(cream)
    assert {len(rows) for rows in by_prompt(responses_of(cream)).values()} == {5}
    check_best_against_worst(cream, lambda row: 0.1 * (told(row, "current", "logprob") - told(row, "start", "logprob")))


def test_cream_trusts_every_label_by_the_mean_of_kendalls_consistency(cream: Version) -> None:
    found = {prompt: cream_consistency(rows) for prompt, rows in by_prompt(responses_of(cream)).items()}
    assert len({round(c, 6) for c in found.values()}) > 5  # ten pairs of five samples: eleven values
    for rows in by_prompt(responses_of(cream)).values():
        (agreement,) = {told(row, "iterations", "agreement") for row in rows}
        assert agreement == pytest.approx(found[rows[0]["prompt_id"]], abs=1e-6)
    pairs = table_of(cream, "pairs").to_dicts()
    mean = sum(found[pair["prompt_id"]] for pair in pairs) / len(pairs)
    (label,) = {pair["label_prob"] for pair in pairs}
    assert label == pytest.approx(mean, abs=1e-6)


def test_cream_can_take_each_prompts_own_consistency(run: Callable[..., Version]) -> None:
    version = run("cream", "--set", "steps.soft_label.how=score")
    found = {prompt: cream_consistency(rows) for prompt, rows in by_prompt(responses_of(version)).items()}
    for pair in table_of(version, "pairs").to_dicts():
        assert pair["label_prob"] == pytest.approx(found[pair["prompt_id"]], abs=1e-6)


# -- SCIR


def test_scir_keeps_pairs_on_which_judge_and_implied_reward_agree(run: Callable[..., Version]) -> None:
    version = run("scir")
    check_sound(version)
    kept = set(table_of(version, "pairs")["pair_id"])
    pairs = all_pairs(version)
    assert 50 < len(kept) < len(pairs) - 50
    for pair in pairs:
        gap = [told({"scores": pair[f"{side}_scores"]}, "implicit", "dpo") for side in ("chosen", "rejected")]
        logprobs = {
            (side, model): told({"scores": pair[f"{side}_scores"]}, model, "logprob")
            for side in ("chosen", "rejected")
            for model in ("policy", "start")
        }
        ratio = [logprobs[side, "policy"] - logprobs[side, "start"] for side in ("chosen", "rejected")]
        assert gap == pytest.approx([0.1 * each for each in ratio], abs=1e-4)
        implied = sigmoid(0.1 * (ratio[0] - ratio[1]))
        (vote,) = pair["votes"]
        judged = (vote["p_chosen"] + vote["p_swapped"]) / 2
        assert (pair["pair_id"] in kept) == ((implied - 0.5) * (judged - 0.5) > 0)  # the same winner
        assert pair["label_prob"] == pytest.approx((implied + judged) / 2, abs=1e-5)
        assert measure(pair, "internal", "divergence") == pytest.approx(jensen_shannon(implied, judged), abs=1e-5)


def measure(pair: Row, by: str, name: str) -> float:
    (found,) = [entry["value"] for entry in pair["evidence"] if (entry["by"], entry["name"]) == (by, name)]
    return float(found)


def jensen_shannon(p: float, q: float) -> float:
    """Of two coins, in bits."""

    def against(x: float, y: float) -> float:
        return sum(a * math.log2(a / b) for a, b in ((x, y), (1 - x, 1 - y)) if a > 0)

    middle = (p + q) / 2
    return (against(p, middle) + against(q, middle)) / 2


# -- Selfie


def test_selfie_labels_two_samples_by_the_implied_reward_and_doubts_the_lowest_tenth(run: Callable[..., Version]) -> None:
    version = run("selfie")
    check_sound(version)
    assert {len(rows) for rows in by_prompt(responses_of(version)).values()} == {2}
    check_best_against_worst(version, lambda row: 0.1 * (told(row, "policy", "logprob") - told(row, "sft", "logprob")))
    pairs = table_of(version, "pairs").to_dicts()
    margins = sorted(pair["margin"] for pair in pairs)
    place = 0.1 * (len(margins) - 1)
    low, share = int(place), place - int(place)
    threshold = margins[low] + share * (margins[low + 1] - margins[low])
    for pair in pairs:
        assert pair["label_prob"] == pytest.approx(1 - 0.1 + 0.1 * (pair["margin"] > threshold))
    assert sum(pair["label_prob"] < 1 for pair in pairs) == low + 1


# -- DPA


@pytest.fixture(scope="module")
def dpa(run: Callable[..., Version]) -> Version:
    return run("dpa")


def direction(row: Row) -> tuple[int, int]:
    """Hundredths for helpfulness and verbosity."""
    found = json.loads(row["meta"])["direction"]
    return found["helpfulness"], found["verbosity"]


def test_dpa_draws_a_direction_for_each_prompt_and_tells_it_to_the_policy(dpa: Version) -> None:
    check_sound(dpa)
    prompts = by_prompt(responses_of(dpa))
    drawn = {prompt: {direction(row) for row in rows} for prompt, rows in prompts.items()}
    assert {len(each) for each in drawn.values()} == {1}
    angles = [math.degrees(math.atan2(v, h)) for each in drawn.values() for h, v in each]
    assert min(angles) >= -45.5 and max(angles) <= 45.5 and max(angles) - min(angles) > 70
    for pair in table_of(dpa, "pairs").to_dicts():
        (h, v) = drawn[pair["prompt_id"]].copy().pop()
        first, *rest = pair["prompt"]
        assert first["role"] == "system" and [message["role"] for message in rest] == ["user"]
        assert f"{h} × helpfulness {'-' if v < 0 else '+'} {abs(v)} × verbosity" in first["content"]


def test_dpa_keeps_the_best_along_its_prompts_direction(dpa: Version) -> None:
    def along(row: Row) -> float:
        h, v = direction(row)
        length = math.hypot(h, v)
        return (h * told(row, "rm", "helpfulness") + v * told(row, "rm", "verbosity")) / length

    check_best_against_worst(dpa, along)
    towards: list[float] = []
    away: list[float] = []  # does a wish for length give longer answers?
    for pair in table_of(dpa, "pairs").to_dicts():
        longer = pair["chosen_score_rm_verbosity"] - pair["rejected_score_rm_verbosity"]
        (towards if direction(pair)[1] > 0 else away).append(longer)
    assert sum(towards) / len(towards) > 0.2 > -0.2 > sum(away) / len(away)


# -- ArmoRM

HEADS = (
    "helpsteer_helpfulness",
    "helpsteer_correctness",
    "helpsteer_coherence",
    "ultrafeedback_truthfulness",
    "code_style",
    "beavertails_is_safe",
    "verbosity",
)
GATES: Mapping[str, Mapping[str, float]] = {
    "code": {"helpsteer_correctness": 0.4, "code_style": 0.4, "helpsteer_coherence": 0.15, "verbosity": 0.05},
    "maths": {"helpsteer_correctness": 0.6, "ultrafeedback_truthfulness": 0.3, "verbosity": 0.1},
}
REST = {
    "helpsteer_helpfulness": 0.35,
    "ultrafeedback_truthfulness": 0.25,
    "helpsteer_coherence": 0.15,
    "beavertails_is_safe": 0.2,
    "verbosity": 0.05,
}


def test_armorm_frees_each_reward_of_verbosity_and_mixes_by_the_prompt(run: Callable[..., Version]) -> None:
    version = run("armorm")
    check_sound(version)
    rows = responses_of(version)
    rewards = {head: [told(row, "rm", head) for row in rows] for head in HEADS}
    verbosity = standard(rewards["verbosity"])
    freed = {}
    for head, values in rewards.items():
        steps = (
            places for places in range(2001) if rank_correlation(minus(standard(values), verbosity, places), verbosity) <= 0.03
        )
        penalty = next(steps)
        assert penalty == 100 if head == "verbosity" else penalty > 5  # cancelled; every other one owed it something
        freed[head] = minus(values, verbosity, penalty * spread(values))
        if head != "verbosity":
            assert rank_correlation(minus(standard(values), verbosity, penalty - 1), verbosity) > 0.03  # the smallest that does
    mixed = []
    for place, row in enumerate(rows):
        gates = GATES.get(row["domain"], REST)
        assert sum(gates.values()) == pytest.approx(1)
        mixed.append(sum(gate * freed[head][place] for head, gate in gates.items()))
        assert told(row, "mixed", "score") == pytest.approx(mixed[-1], abs=1e-4)
    before = [sum(GATES.get(row["domain"], REST).get(head, 0) * rewards[head][i] for head in HEADS) for i, row in enumerate(rows)]
    assert rank_correlation(before, verbosity) > 0.3
    assert abs(rank_correlation(mixed, verbosity)) < 0.06
    assert len({row["domain"] for row in rows} & set(GATES)) == 2


def test_armorm_can_hold_the_mixed_score_itself_to_the_limit(run: Callable[..., Version]) -> None:
    version = run("armorm", "--set", "steps.mixed.decorrelate.each=false")
    rows = responses_of(version)
    found = rank_correlation([told(row, "mixed", "score") for row in rows], [told(row, "rm", "verbosity") for row in rows])
    assert -0.03 < found <= 0.03


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    if max(one) - min(one) < 1e-9:
        return 0.0
    return float(spearmanr(one, other).statistic)


def spread(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))


def standard(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [(v - mean) / spread(values) for v in values]


def minus(values: Sequence[float], other: Sequence[float], hundredths: float) -> list[float]:
    return [v - 0.01 * hundredths * o for v, o in zip(values, other, strict=True)]


# -- HelpSteer2

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
WEIGHTS = (0.65, 0.8, 0.45, 0.55, -0.4)


@pytest.fixture(scope="module")
def helpsteer(run: Callable[..., Version]) -> Version:
    return run("helpsteer2")


def marks(row: Row, attribute: str) -> list[float]:
    found = [told(row, f"annotator_{number}", attribute) for number in (1, 2, 3, 4)]
    assert all(mark in (0, 1, 2, 3, 4) for mark in found)
    return found


def test_helpsteer_leaves_out_what_annotators_disagree_on_by_more_than_two_marks(helpsteer: Version) -> None:
    check_sound(helpsteer)
    gone = set(table_of(helpsteer, "dropped/responses").filter(dropped_by="disagreement")["response_id"])
    rows = responses_of(helpsteer)
    wide = {row["response_id"] for row in rows if max(marks(row, "helpfulness")) - min(marks(row, "helpfulness")) > 2}
    assert gone == wide and gone
    assert steps_of(helpsteer)["disagreement"]["dropped"] == {"disagreement": len(gone)}


def test_helpsteer_weighs_the_mean_of_the_three_closest_marks(helpsteer: Version) -> None:
    gone = set(table_of(helpsteer, "dropped/responses").filter(dropped_by="disagreement")["response_id"])
    sums = {}
    for row in responses_of(helpsteer):
        if row["response_id"] in gone:
            continue
        total = 0.0
        for attribute, weight in zip(ATTRIBUTES, WEIGHTS, strict=True):
            threes = sorted(combinations(sorted(marks(row, attribute)), 3), key=lambda three: (three[2] - three[0], three))
            total += weight * sum(threes[0]) / 3
        sums[row["response_id"]] = total
        assert told(row, "sum", "score") == pytest.approx(total, abs=1e-5)
    pairs = table_of(helpsteer, "pairs").to_dicts()
    assert len(pairs) > 60
    for pair in pairs:
        assert pair["margin"] == pytest.approx(sums[pair["chosen_id"]] - sums[pair["rejected_id"]], abs=1e-4)
        assert pair["margin"] > 0
    helpful = [pair["chosen_score_helpfulness_score"] - pair["rejected_score_helpfulness_score"] for pair in pairs]
    decided = [gap for gap in helpful if gap]
    assert sum(gap > 0 for gap in decided) / len(decided) > 0.8  # as the paper's weights do
