"""Recipes that find, turn, weigh or mask labels, run with fakes: each shows what makes it the system it is named after."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.export.exporting import export
from curate.maths.noise_rate import area_under_curve, calibration_error
from curate.maths.sentences import sentences
from curate.store.versions import Version
from tests.recipes.conftest import check_sound, dropped, steps_of, table_of
from tests.recipes.test_reward_recipes import Row, all_pairs, check_best_against_worst, measure, told

FINE = ("instruction_following", "truthfulness", "honesty", "helpfulness")


def measures(pairs: list[Row], by: str, name: str) -> np.ndarray:
    return np.array([measure(pair, by, name) for pair in pairs])


# -- CRM


@pytest.fixture(scope="module")
def crm(run: Callable[..., Version]) -> Version:
    return run("crm")


def test_crm_finds_planted_flips_and_keeps_a_purer_set(crm: Version) -> None:
    check_sound(crm)
    pairs = all_pairs(crm)
    planted = measures(pairs, "inject_noise", "planted")
    assert planted.mean() == pytest.approx(0.3, abs=0.04)
    found = measures(pairs, "peer_review", "flip_prob")
    assert area_under_curve(found, planted > 0) > 0.9  # chance is 0.5
    kept = set(table_of(crm, "pairs")["pair_id"])
    pure = [1 - flip for pair, flip in zip(pairs, planted, strict=True) if pair["pair_id"] in kept]
    assert sum(pure) / len(pure) > 0.9 > 0.75 > 1 - planted.mean()
    assert dropped(crm, "pairs", "peer_review") == {"wrong_label": len(pairs) - len(kept)}
    assert measures(pairs, "peer_review", "noise")[0] == pytest.approx(planted.mean(), abs=0.05)


def test_crm_has_self_review_and_two_averaged_heads_beside_it(crm: Version) -> None:
    pairs = all_pairs(crm)
    planted = measures(pairs, "inject_noise", "planted") > 0
    assert dropped(crm, "pairs", "self_review") == dropped(crm, "pairs", "average") == {}
    self_review = measures(pairs, "self_review", "flip_prob")
    assert area_under_curve(self_review, planted) > 0.8
    assert not np.array_equal(self_review, measures(pairs, "peer_review", "flip_prob"))
    average = measures(pairs, "average", "margin_a") + measures(pairs, "average", "margin_b")
    assert area_under_curve(-average, planted) > 0.8
    assert set(measures(pairs, "average", "keep_rate")) == {1.0}  # it trusts every label


def test_crm_trims_to_the_share_that_noise_leaves(crm: Version) -> None:
    pairs = all_pairs(crm)
    assert measures(pairs, "peer_review", "keep_rate").mean() == pytest.approx(
        1 - measures(pairs, "peer_review", "noise")[0], abs=0.06
    )


# -- reward-augmented


@pytest.fixture(scope="module")
def augmented(run: Callable[..., Version]) -> Version:
    return run("reward-augmented")


def goal_of(pair: Row) -> float:
    (value,) = json.loads(pair["goal"]).values()
    return float(value)


def overall(pair: Row, side: str) -> float:
    return told({"scores": pair[f"{side}_scores"]}, "judge", "overall")


def test_augmented_pairs_are_there_twice_and_turned_for_the_lower_goal(augmented: Version) -> None:
    check_sound(augmented)
    pairs = table_of(augmented, "pairs").to_dicts()
    twins = defaultdict(list)
    for pair in pairs:
        twins[pair["parent_id"]].append(pair)
        # either way the winner is the side whose own score is the goal
        assert goal_of(pair) == overall(pair, "chosen") != overall(pair, "rejected")
    goal_step = steps_of(augmented)["goal"]
    assert len(pairs) == 2 * len(twins) == 2 * (goal_step["rows_in"] - goal_step["dropped"]["goal_tie"])
    for high, low in (sorted(twin, key=goal_of, reverse=True) for twin in twins.values()):
        assert (high["origin"], low["origin"]) == ("goal_chosen", "goal_rejected")
        assert (high["chosen_id"], high["rejected_id"]) == (low["rejected_id"], low["chosen_id"])
        assert 1 <= goal_of(low) < goal_of(high) <= 10


def test_augmented_ties_make_no_row_and_the_aspects_agree(augmented: Version) -> None:
    tied = [pair for pair in all_pairs(augmented) if any(flag["reason"] == "goal_tie" for flag in pair["flags"] or [])]
    assert tied and all(overall(pair, "chosen") == overall(pair, "rejected") for pair in tied)
    assert dropped(augmented, "pairs", "fine_agrees")["negative_margin"] > 0
    for pair in table_of(augmented, "pairs").to_dicts():
        better, worse = ("chosen", "rejected") if pair["origin"] == "goal_chosen" else ("rejected", "chosen")
        means = [sum(told({"scores": pair[f"{side}_scores"]}, "judge", name) for name in FINE) / 4 for side in (better, worse)]
        assert means[0] >= means[1] - 1e-6


def test_augmented_ties_that_are_kept_contradict_each_other(run: Callable[..., Version], augmented: Version) -> None:
    made = steps_of(augmented)["goal"]
    version = run("reward-augmented", "--set", "steps.goal.ties=keep_both")
    assert table_of(version, "pairs").height == 2 * made["rows_in"]


@pytest.mark.parametrize("place", ["system", "user"])
def test_augmented_goals_reach_the_trainer_turned_wherever_they_are_put(augmented: Version, tmp_path: Path, place: str) -> None:
    """The released file for models without system messages has the second half with its sides as they were."""
    made = export(augmented, "trl-dpo", tmp_path / "out", goal=place)
    rows = [json.loads(line) for path in made.path.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    parents = {pair["pair_id"]: pair for pair in table_of(augmented, "pairs").to_dicts()}
    asked = defaultdict(list)
    for row in rows:
        pair = parents[row["pair_id"]]
        (message,) = [m["content"] for m in row["prompt"] if m["role"] == place]
        assert f"Overall score: {int(goal_of(pair))}" in message and "1 (worst) to 10 (best)" in message
        asked[pair["parent_id"]].append(row)
    for first, second in asked.values():
        assert (first["chosen"], first["rejected"]) == (second["rejected"], second["chosen"])
        assert first["prompt"] != second["prompt"]


def test_augmented_goals_can_be_implied_rewards_and_several_attributes(tmp_path: Path, run: Callable[..., Version]) -> None:
    steps = "steps.goal.by={implied: 'implicit:dpo', overall: 'judge:overall'}"
    recipe = (Path(__file__).parents[2] / "flows/recipes/reward-augmented.yaml").read_text(encoding="utf-8")
    likely = "  - likelihood: {name: implicit, model: policy, reference: sft}\n"
    recipe = recipe.replace("  - pair:", f"{likely}  - pair:").replace(
        "models:\n", "models:\n  policy: {backend: fake, name: policy}\n  sft: {backend: fake, name: sft}\n"
    )
    path = tmp_path / "several.yaml"
    path.write_text(recipe, encoding="utf-8")
    version = run(os.fspath(path.with_suffix("")), "--set", steps, "--set", "steps.goal.map=quantile")
    pairs = table_of(version, "pairs").to_dicts()
    goals = [json.loads(pair["goal"]) for pair in pairs]
    assert pairs and all(list(goal) == ["implied", "overall"] for goal in goals)
    implied = sorted(
        {(told({"scores": p["chosen_scores"]}, "implicit", "dpo"), g["implied"]) for p, g in zip(pairs, goals, strict=True)}
    )
    assert [goal for _, goal in implied] == sorted(goal for _, goal in implied)  # a larger reward, a larger goal
    made = export(version, "trl-dpo", tmp_path / "out")
    row = json.loads(next(made.path.glob("*.jsonl")).read_text(encoding="utf-8").splitlines()[0])
    lines = row["prompt"][0]["content"].splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["implied", "overall"]  # a line each


# -- LCPO


@pytest.fixture(scope="module")
def lcpo(run: Callable[..., Version]) -> Version:
    return run("lcpo")


def test_lcpo_recovers_the_reliability_of_each_annotator(lcpo: Version) -> None:
    check_sound(lcpo)
    by_annotator = defaultdict(list)
    for pair in all_pairs(lcpo):
        by_annotator[pair["domain"]].append(pair)
    assert len(by_annotator) > 4
    true = {who: 1 - measures(pairs, "inject_noise", "planted").mean() for who, pairs in by_annotator.items()}
    assert max(true.values()) - min(true.values()) > 0.25
    for who, pairs in by_annotator.items():
        (found,) = set(measures(pairs, "label_em", "reliability"))
        assert found == pytest.approx(true[who], abs=0.06)  # of 180 labels and more


def test_lcpo_labels_are_soft_and_right_ones_likelier(lcpo: Version) -> None:
    pairs = table_of(lcpo, "pairs").to_dicts()
    assert len(pairs) == len(all_pairs(lcpo))  # nothing is dropped: the label says how far it is to be trusted
    label = np.array([pair["label_prob"] for pair in pairs])
    planted = measures(pairs, "inject_noise", "planted") > 0
    assert label[~planted].mean() > 0.9 > 0.25 > label[planted].mean() and calibration_error(1 - label, planted) < 0.05
    assert area_under_curve(1 - label, planted) > 0.9
    for pair in pairs[:50]:  # w = p eta / (p eta + (1 - p)(1 - eta))
        p, eta = 1 / (1 + math.exp(-measure(pair, "label_em", "margin"))), measure(pair, "label_em", "reliability")
        assert pair["label_prob"] == pytest.approx(p * eta / (p * eta + (1 - p) * (1 - eta)), abs=0.02)


# -- MORE


def test_more_weighs_each_set_as_one_and_tells_its_calibration(run: Callable[..., Version]) -> None:
    version = run("more")
    check_sound(version)
    pairs = all_pairs(version)
    sets = defaultdict(list)
    for pair in pairs:
        sets[pair["domain"]].append(pair)
    shares = {}
    for name, rows in sets.items():
        (shares[name],) = set(measures(rows, "weight_sets", "share"))
        assert {round(pair["weight"], 4) for pair in rows} == {round(shares[name] * len(pairs) / len(rows), 4)}
    assert len(sets) > 4 and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert max(shares.values()) > 1.5 * min(shares.values())  # weighed anew, not just evened out
    margins = measures(pairs, "weight_sets", "margin")
    for bins in (5, 10, 20):
        assert published_ece(margins, bins) < 0.15
    assert measure(pairs[0], "weight_sets", "ece") == pytest.approx(published_ece(margins, 10), abs=1e-5)


def published_ece(margins: np.ndarray, bins: int) -> float:
    """Bins of s(score difference); every pair in both orders."""
    told = [(1 / (1 + math.exp(-sign * m)), int(sign > 0)) for m in margins for sign in (1, -1)]
    total = 0.0
    for place in range(bins):
        inside = [(p, y) for p, y in told if min(int(p * bins), bins - 1) == place]
        total += abs(sum(p for p, _ in inside) - sum(y for _, y in inside))
    return total / len(told)


# -- PoFT


def test_poft_weighs_answers_by_what_aligned_models_think_of_them(run: Callable[..., Version]) -> None:
    version = run("poft")
    check_sound(version)
    pairs = table_of(version, "pairs").to_dicts()
    seen = set()
    for pair in pairs:
        scores = {"scores": pair["chosen_scores"]}
        mean = sum(told(scores, model, "mean_logprob") for model in ("one", "two", "three")) / 3
        target = told(scores, "target", "mean_logprob")
        assert pair["weight"] == pytest.approx(1 / (1 + math.exp(target - mean)), abs=1e-5)
        seen.add(pair["weight"] > 0.5)
    assert seen == {True, False}


# -- Mask-DPO


@pytest.fixture(scope="module")
def masked(run: Callable[..., Version]) -> Version:
    return run("mask-dpo")


def labels_of(scores: list[Row], text: str) -> list[tuple[str, str]]:
    """(sentence, label) as the annotator said."""
    (rationale,) = [one["rationale"] for one in scores if one["aspect"] == "truthfulness_sentences"]
    named = json.loads(rationale)
    parts = [text[a:b] for a, b in zip([0, *named["ends"]], named["ends"], strict=False)]
    assert parts == sentences(text) and "".join(parts) == text
    return list(zip(parts, named["labels"], strict=True))


def test_masked_pairs_are_the_most_against_the_least_factual(masked: Version) -> None:
    check_sound(masked)
    check_best_against_worst(masked, lambda row: told(row, "annotator", "truthfulness_sentences"))


def test_masked_spans_are_the_text_and_only_what_teaches_carries_loss(masked: Version) -> None:
    counts: dict[tuple[str, str, float], int] = defaultdict(int)
    pairs = table_of(masked, "pairs").to_dicts()
    assert len(pairs) > 100
    for pair in pairs:
        for side in ("chosen", "rejected"):
            text = pair[side][-1]["content"]
            spans = [span for span in pair["spans"] if span["side"] == side]
            assert "".join(text[span["start"] : span["end"]] for span in spans) == text
            weights = [span["weight"] for span in spans for _ in range(span["start"], span["end"])]
            at = 0
            for sentence, label in labels_of(pair[f"{side}_scores"], text):
                worded = [weight for weight, c in zip(weights[at : at + len(sentence)], sentence, strict=True) if c != " "]
                at += len(sentence)
                (weight,) = set(worded)
                counts[side, label, weight] += 1
    assert set(counts) == {
        ("chosen", "correct", 1),
        ("chosen", "incorrect", 0),
        ("rejected", "incorrect", 1),
        ("rejected", "correct", 0),
    }
    assert min(counts.values()) > 20


def test_masked_rows_export_with_their_spans(masked: Version, tmp_path: Path) -> None:
    made = export(masked, "masked-dpo", tmp_path / "out")
    row = json.loads(next(made.path.glob("*.jsonl")).read_text(encoding="utf-8").splitlines()[0])
    text = row["chosen"][-1]["content"]
    assert "".join(text[span["start"] : span["end"]] for span in row["chosen_spans"]) == text
