"""Recipes that differ in how candidates meet and in what an export makes of them: each by what its paper says of its rows."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from curate.export import export
from curate.export.check import check
from curate.recipe import read_recipe
from curate.store.versions import Version
from tests.recipes.conftest import RECIPES, check_sound, table_of
from tests.recipes.test_model_recipes import by_prompt, value
from tests.recipes.test_released_bugs_pairs import candidates
from tests.recipes.test_reward_recipes import all_pairs, responses_of, told

Row = dict[str, Any]


def exported(version: Version, to: str) -> Path:
    """The folder that the recipe exported to, once it has passed its check."""
    folder = version.path.parents[2] / "exports" / f"{version.name}-v{version.number}-{to}"
    assert check(folder).problems == []
    return folder


def rows_of(folder: Path, part: str = "train") -> list[Row]:
    return [json.loads(line) for line in (folder / f"{part}.jsonl").read_bytes().split(b"\n") if line]


def every_row(folder: Path) -> list[Row]:
    """The rows of all files."""
    return [row for path in sorted(folder.glob("*.jsonl")) for row in rows_of(folder, path.stem)]


def marks_of(version: Version, rater: str, aspect: str) -> dict[str, dict[str, float]]:
    """By prompt: the mark of every response, by its text."""
    return {
        prompt: {row["response"]: told(row, rater, aspect) for row in rows}
        for prompt, rows in by_prompt(responses_of(version)).items()
    }


# -- Curry-DPO


@pytest.fixture(scope="module")
def curry(run: Callable[..., Version]) -> Version:
    return run("curry-dpo")


def test_curry_sets_the_best_of_four_against_every_other(curry: Version) -> None:
    check_sound(curry)
    prompts = by_prompt(responses_of(curry))
    found = by_prompt(all_pairs(curry))
    assert {len(rows) for rows in prompts.values()} == {4} and len(found) > 140
    for prompt, pairs in found.items():
        marks = {row["response_id"]: told(row, "judge", "overall") for row in prompts[prompt]}
        best = {pair["chosen_id"] for pair in pairs}
        assert len(best) == 1 and marks[best.pop()] == max(marks.values())
        lower = [response for response, mark in marks.items() if mark < max(marks.values())]
        assert sorted(pair["rejected_id"] for pair in pairs) == sorted(lower)


def test_curry_trains_from_the_widest_gap_to_the_narrowest(curry: Version) -> None:
    for pairs in by_prompt(all_pairs(curry)).values():
        ordered = sorted(pairs, key=lambda pair: pair["difficulty"])
        assert all(easy["margin"] >= hard["margin"] and easy["stage"] <= hard["stage"] for easy, hard in pairwise(ordered))
        if len(pairs) == 3:
            assert [pair["stage"] for pair in ordered] == [0, 1, 2]


def test_curry_has_a_file_for_each_stage(curry: Version) -> None:
    folder = exported(curry, "stages")
    stage = {pair["pair_id"]: pair["stage"] for pair in table_of(curry, "pairs/train").to_dicts()}
    files = {number: {row["pair_id"] for row in rows_of(folder, f"train_stage_{number}")} for number in (0, 1, 2)}
    assert files == {number: {pair for pair, told in stage.items() if told == number} for number in (0, 1, 2)}


def test_curry_may_part_stages_by_the_gap_alone(run: Callable[..., Version]) -> None:
    version = run("curry-dpo", "--set", "order.within=all")
    gaps = [[pair["margin"] for pair in all_pairs(version) if pair["stage"] == stage] for stage in range(3)]
    assert max(map(len, gaps)) - min(map(len, gaps)) <= 1
    assert all(min(easier) >= max(harder) for easier, harder in pairwise(gaps))


# -- MPO


def test_mpo_leaves_to_reinforcement_learning_what_the_reward_model_doubts(run: Callable[..., Version]) -> None:
    version = run("mpo")
    check_sound(version)
    pairs = all_pairs(version)
    gaps = {pair["pair_id"]: told_gap(pair) for pair in pairs}
    assert all(pair["margin"] == pytest.approx(gaps[pair["pair_id"]], abs=1e-5) for pair in pairs)
    assert all((pair["stage"] == 0) == (pair["margin"] >= 1.0) for pair in pairs)
    assert Counter(pair["stage"] for pair in pairs).keys() == {0, 1}
    against = [pair for pair in pairs if gaps[pair["pair_id"]] < 0]
    assert len(against) > 5 and {pair["stage"] for pair in against} == {1}  # labels that the reward model contradicts
    hard = rows_of(exported(version, "stages"), "train_stage_1")
    assert {row["pair_id"] for row in hard} == {pair["pair_id"] for pair in pairs if pair["stage"] and pair["split"] == "train"}
    assert all(row["prompt"] for row in hard)


def told_gap(pair: Row) -> float:
    """The reward model's difference of both sides."""
    chosen, rejected = (value(pair[f"{side}_scores"], "rm", "reward") for side in ("chosen", "rejected"))
    assert chosen is not None and rejected is not None
    return chosen - rejected


# -- TPO


def test_tpo_rows_are_the_best_the_second_and_the_worst(run: Callable[..., Version]) -> None:
    version = run("tpo")
    check_sound(version)
    marks = marks_of(version, "judge", "overall")
    rows = every_row(exported(version, "triple"))
    assert len(rows) > 120
    for row in rows:
        of_prompt = marks[row["prompt_id"]]
        first, second, *_, last = sorted(of_prompt.values(), reverse=True)
        said = [of_prompt[row[side][0]["content"]] for side in ("reference", "chosen", "rejected")]
        assert said == [first, second, last] and first >= second > last
        assert len({row[side][0]["content"] for side in ("reference", "chosen", "rejected")}) == 3
    paired = {pair["prompt_id"] for pair in all_pairs(version)}
    level = {prompt for prompt in paired if sorted(marks[prompt].values())[0] == sorted(marks[prompt].values())[-2]}
    assert {row["prompt_id"] for row in rows} == paired - level


# -- PRO


def pull(rewards: list[float], ranks: Sequence[int] | None = None) -> list[float]:
    """Gradient of the released code's loss by the score of each response of a list; of the terms of some ranks alone."""
    import torch

    scores = torch.linspace(-1.0, -2.0, len(rewards), dtype=torch.float64, requires_grad=True)
    loss = scores.sum() * 0
    for k in range(len(rewards) - 1) if ranks is None else ranks:
        temperatures = rewards[k] - torch.tensor(rewards[k + 1 :], dtype=torch.float64)
        best = scores[k] * temperatures.max()
        loss = loss + torch.log(1e-10 + torch.exp(best) + torch.exp(scores[k + 1 :] * temperatures).sum()) - best
    (gradient,) = torch.autograd.grad(loss, scores)
    return [float(each) for each in gradient]


@pytest.fixture(scope="module")
def pro(run: Callable[..., Version]) -> list[Row]:
    version = run("pro")
    check_sound(version)
    rows = every_row(exported(version, "ranked-list"))
    rewards = marks_of(version, "rm", "reward")
    assert len(rows) == len(rewards) == 152
    for row in rows:
        assert sorted(row["suffix"]) == sorted(rewards[row["prompt_id"]])
        assert row["reward"] == pytest.approx([rewards[row["prompt_id"]][text] for text in row["suffix"]], abs=1e-4)
    return rows


def test_pro_lists_stand_in_the_order_of_rewards(pro: list[Row]) -> None:
    for row in pro:
        assert row["reward"] == sorted(row["reward"], reverse=True) and row["sft_index"] == 0
        assert len(row["prefix"]) == len(row["suffix"]) == len(row["reward"]) == 6
        assert all(prefix == row["prefix"][0] and prefix[-1] == "<|assistant|>" for prefix in row["prefix"])


def test_pro_rewards_that_are_equal_add_nothing_to_the_gradient(pro: list[Row]) -> None:
    best, *_, low = pro[0]["reward"]
    assert pull([best, low])[0] < 0 < pull([best, low])[1]
    assert pull([low, low, low]) == [0.0, 0.0, 0.0]
    tied = [best, low, low]
    assert pull(tied, ranks=[1]) == [0.0, 0.0, 0.0]  # the two equal ones against each other
    assert pull(tied) == pull(tied, ranks=[0])  # so all that pulls is the best against both


# -- SPPO


def test_sppo_is_exported_with_the_columns_of_its_trainer(run: Callable[..., Version]) -> None:
    version = run("sppo")
    pairs = {pair["pair_id"]: pair for pair in table_of(version, "pairs").to_dicts()}
    rows = every_row(exported(version, "sppo"))
    assert len(rows) == len(pairs)
    for row in rows:
        pair = pairs[row["pair_id"]]
        assert [row["chosen"], row["rejected"]] == [[*pair["prompt"], *pair[side]] for side in ("chosen", "rejected")]
        found = [row[name] for name in ("chosen_probs", "chosen_probs_win", "chosen_probs_lose")]
        assert found == pytest.approx([pair["label_prob"], pair["chosen_score_prefer_win"], pair["rejected_score_prefer_win"]])


# -- what other recipes' labels become


@pytest.mark.parametrize("recipe", ["cream", "selfie", "scir"])
def test_soft_labels_are_exported_with_every_pair(run: Callable[..., Version], recipe: str, tmp_path: Path) -> None:
    version = run(recipe)
    done = export(version, "soft-dpo", tmp_path / "out")
    assert check(done.path).problems == []
    wanted = {pair["pair_id"]: pair["label_prob"] for pair in table_of(version, "pairs").to_dicts()}
    got = {row["pair_id"]: row["label_prob"] for row in every_row(done.path)}
    assert got == pytest.approx(wanted, abs=1e-6) and len(got) > 20


# -- P3O


def test_p3o_pairs_are_two_samples_and_the_difference_of_their_rewards(run: Callable[..., Version]) -> None:
    version = run("p3o")
    check_sound(version)
    prompts = by_prompt(responses_of(version))
    assert {len(rows) for rows in prompts.values()} == {2} and {row["policy"] for rows in prompts.values() for row in rows} == {
        "on"
    }
    rows = every_row(exported(version, "jsonl"))
    assert len(rows) == len(prompts) == 152
    for row in rows:
        rewards = {each["response_id"]: told(each, "rm", "reward") for each in prompts[row["prompt_id"]]}
        assert {row["chosen_id"], row["rejected_id"]} == set(rewards)
        assert row["margin"] == pytest.approx(rewards[row["chosen_id"]] - rewards[row["rejected_id"]], abs=1e-4)
        assert row["margin"] >= 0
        assert row["margin"] == pytest.approx(row["chosen_score_rm_reward"] - row["rejected_score_rm_reward"], abs=1e-4)


def test_p3o_keeps_two_samples_of_equal_reward() -> None:
    """The loss of such a pair is 0 by itself: nothing is left out beforehand."""
    pairing: Any = next(step.operator for step in read_recipe(RECIPES / "p3o.yaml").steps if step.name == "pair")
    made = pairing(candidates(3.0, 3.0)).rows
    assert made["margin"].to_pylist() == [0.0]


# -- iREPO

VOTERS = tuple(f"voter_{number}" for number in range(1, 6))


def test_irepo_targets_are_the_log_odds_of_the_votes(run: Callable[..., Version]) -> None:
    version = run("irepo")
    check_sound(version)
    pairs = {pair["pair_id"]: pair for pair in all_pairs(version)}
    rows = every_row(exported(version, "regression"))
    assert len(rows) == 152
    shares = Counter[float]()
    for row in rows:
        votes = {vote["rater"]: (vote["p_chosen"] + vote["p_swapped"]) / 2 for vote in pairs[row["pair_id"]]["votes"]}
        assert set(votes) == set(VOTERS)
        p = sum(votes.values()) / 5
        held = min(max(p, 1 / 10), 9 / 10)
        assert row["p_win"] == pytest.approx(p, abs=1e-6)
        assert row["target"] == pytest.approx(math.log(held / (1 - held)), abs=1e-5)
        assert row["p_win"] >= 0.5  # the majority's side is chosen
        shares[row["p_win"]] += 1
    assert shares[1.0] > 0 and len(shares) > 4  # some are held away from 1
    assert {pair["origin"] for pair in pairs.values()} == {"observed", "flipped"}
